"""Bridges inside a model: a linear layer behind the block before each gap.

``config.edgeprune_bridges`` names the blocks that have one, so that ``surgery.load_edited`` builds
them again. transformers alone would load the folder without them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.models.families import layers_of

NAME = "bridge"


def attach(model: Any, bridges: Mapping[int, tuple[Tensor, Tensor]]) -> None:
    """Put bridges behind blocks of a model that was cut, in place.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    bridges : mapping
        Block's place -> weight (hidden, hidden) and bias (hidden,).

    """
    for place, (weight, bias) in bridges.items():
        block: Any = layers_of(model)[place]
        if hasattr(block, NAME):  # what it has comes first: W (V x + c) + b
            bias = weight @ block.bridge.bias + bias
            weight = weight @ block.bridge.weight
        else:
            block.add_module(NAME, nn.Linear(weight.shape[1], weight.shape[0]))
            block.register_forward_hook(_cross)
        with torch.no_grad():
            block.bridge.weight.copy_(weight)
            block.bridge.bias.copy_(bias)
    places = [i for i, block in enumerate(layers_of(model)) if hasattr(block, NAME)]
    model.config.edgeprune_bridges = places


def _cross(block: Any, _: Any, out: Any) -> Any:
    return (block.bridge(out[0]), *out[1:]) if isinstance(out, tuple) else block.bridge(out)


def attach_empty(model: Any, places: Sequence[int]) -> None:
    """Attach bridges whose weights are still to be loaded, behind the blocks a config names."""
    width = model.config.hidden_size
    attach(model, {place: (torch.zeros(width, width), torch.zeros(width)) for place in places})
