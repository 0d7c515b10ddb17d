"""Linear bridges inside a model: a linear layer after the block before each gap.

``config.edgeprune_bridges`` lists the blocks with a bridge, so that ``serialization.load_edited``
builds them again. transformers alone would load the folder without them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.models.families import layers_of

NAME = "bridge"


def attach(model: Any, bridges: Mapping[int, tuple[Tensor, Tensor]]) -> None:
    """Add bridges after blocks of a model with removed layers, in place.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Model with removed layers.
    bridges : mapping
        Index of the block -> weight (hidden, hidden) and bias (hidden,).

    """
    for place, (weight, bias) in bridges.items():
        block: Any = layers_of(model)[place]
        if hasattr(block, NAME):  # an existing bridge is applied first: W (V x + c) + b
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
    """Add bridges with zero weights, to be loaded later, after the blocks that a config lists."""
    width = model.config.hidden_size
    attach(model, {place: (torch.zeros(width, width), torch.zeros(width)) for place in places})
