"""Bridges inside a model: a linear layer behind the block before each gap.

``config.edgeprune_bridges`` names the blocks that have one, and ``models.load_classifier`` reads
them from the weights. transformers alone would load the folder without them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from edgeprune.families import layers_of
from edgeprune_device.errors import EdgepruneError

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


def load_bridges(model: Any, folder: Path, places: Sequence[int]) -> None:
    """Attach the bridges that a saved folder holds; transformers alone would leave them out.

    Raises
    ------
    EdgepruneError
        The weights do not hold the bridges that the config names.

    """
    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            found |= {k: tensors.get_tensor(k) for k in tensors.keys() if f".{NAME}." in k}  # noqa: SIM118
    by_block = {int(key.split(".")[-3]): key.rpartition(".")[0] for key in found}
    if sorted(by_block) != sorted(places):
        raise EdgepruneError(
            f"The weights of {folder} do not hold the bridges behind its layers "
            f"{', '.join(map(str, places))} that config.json names.",
            "A model with bridges is loaded from its folder, as edgeprune saved it.",
        )
    attach(model, {place: (found[f"{key}.weight"], found[f"{key}.bias"])
                   for place, key in by_block.items()})  # fmt: skip
