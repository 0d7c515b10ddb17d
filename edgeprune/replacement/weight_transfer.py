"""Initializing a student of transformer blocks with its teacher's weights of the same shape.

The student's blocks get evenly spaced blocks of the teacher, the last one the last. The families
name their layers differently; ``PARTS`` lists the names.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from edgeprune.models.families import layers_of

PARTS: dict[str, tuple[str, ...]] = {
    "q": ("q_proj", "attn.q", "linear_q", "query", "q"),
    "k": ("k_proj", "attn.k", "linear_k", "key", "k"),
    "v": ("v_proj", "attn.v", "linear_v", "value", "v"),
    "out": ("out_proj", "o_proj", "attn.out", "linear_out", "attention.output.dense", "out"),
    "inner": ("intermediate_dense", "fc1", "intermediate.dense", "inner"),
    "outer": ("output_dense", "fc2", "output.dense", "outer"),
}
"""Layer of ``blocks.TransformerBlock`` -> ends of its name in the families' blocks and in
edgeprune's own. Of a conformer's two feed-forward parts, the first is used."""


def inherit(student: Any, teacher: Any) -> list[str]:
    """Copy the weights that fit from a teacher's blocks to a student's, in place.

    Returns
    -------
    list of str
        Names of the student's tensors that were copied.

    """
    taken: list[str] = []
    own, theirs = layers_of(student), layers_of(teacher)
    for index, block in enumerate(own):
        source = theirs[round((index + 1) * len(theirs) / len(own)) - 1]
        for name, endings in PARTS.items():
            layer: Any = getattr(block, name, None)
            found = part_of(source, endings)
            if not isinstance(layer, nn.Linear) or found is None:
                continue
            if layer.weight.shape != found.weight.shape:
                continue
            with torch.no_grad():
                layer.weight.copy_(found.weight)
                if found.bias is None:
                    layer.bias.zero_()
                else:
                    layer.bias.copy_(found.bias)
            taken += [f"blocks.{index}.{name}.weight", f"blocks.{index}.{name}.bias"]
    return taken


def part_of(block: nn.Module, endings: tuple[str, ...]) -> nn.Linear | None:
    """Return a block's linear layer whose name has one of these endings, or None.

    Of several with the same ending, the least nested, and of those the first.
    """
    layers = [(name, m) for name, m in block.named_modules() if isinstance(m, nn.Linear)]
    for ending in endings:
        found = [pair for pair in layers if f".{pair[0]}".endswith(f".{ending}")]
        if found:
            return min(found, key=lambda pair: pair[0].count("."))[1]
    return None
