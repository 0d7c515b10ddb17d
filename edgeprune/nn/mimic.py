"""Mimic layers: small networks in place of a span of transformer blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.nn.blocks import ConvBlock, FrameBlock, TransformerBlock

KINDS = ("frame", "conv", "transformer", "none")


class NarrowTransformer(nn.Module):
    """Transformer block of another width between two linear layers, with a residual connection."""

    def __init__(self, width: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.enter = nn.Linear(width, hidden)
        self.block = TransformerBlock(hidden, 4 * hidden, heads)
        self.leave = nn.Linear(hidden, width)

    def forward(self, frames: Tensor) -> Tensor:
        """Map (batch, frames, width) to the same shape."""
        out: Tensor = frames + self.leave(self.block(self.enter(frames)))
        return out


class Mimic(nn.Module):
    """Mimic of a span of transformer blocks.

    Parameters
    ----------
    kind : str
        One of ``KINDS``.
    width : int
        Width of the model's hidden states.
    hidden : int
        Width inside the mimic.
    layers : int
        Number of layers.
    kernel : int
        Kernel of a convolution, in frames; odd.
    heads : int
        Attention heads of a transformer layer.
    class_tokens : int
        Number of leading tokens that are no frames.
    outputs : int
        Length of the tuple that the family's blocks return; 0: a tensor.
    rows : int
        Number of frame sequences one after another, as AST has one for each row of patches along
        frequency; a convolution runs over each separately.

    """

    def __init__(
        self, kind: str, width: int, hidden: int = 64, layers: int = 1, kernel: int = 9,
        heads: int = 4, class_tokens: int = 0, outputs: int = 0, rows: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.class_tokens, self.outputs, self.rows = class_tokens, outputs, rows
        count = 0 if kind == "none" else layers
        makers: dict[str, Callable[[], nn.Module]] = {
            "frame": lambda: FrameBlock(width, hidden),
            "conv": lambda: ConvBlock(width, hidden, kernel),
            "transformer": lambda: NarrowTransformer(width, hidden, heads),
        }
        self.layers = nn.ModuleList(makers[kind]() for _ in range(count))
        if class_tokens:
            self.carried = nn.Linear(width, width)
            self.gathered = nn.Linear(width, class_tokens * width)

    def forward(self, hidden_states: Tensor, *_: Any, **given: Any) -> Any:
        """Map (batch, tokens, width) to the same shape, in the family's output format."""
        frames = hidden_states[:, self.class_tokens :]
        apart = self.rows > 1
        if apart:
            frames = frames.reshape(len(frames) * self.rows, -1, frames.shape[2])
        for layer in self.layers:
            frames = layer(frames)
        if apart:
            frames = frames.reshape(len(hidden_states), -1, frames.shape[2])
        out = frames
        if self.class_tokens:
            tokens = self.gathered(frames.mean(dim=1)).unflatten(-1, (self.class_tokens, -1))
            tokens = tokens + self.carried(hidden_states[:, : self.class_tokens])
            out = torch.cat([tokens, frames], dim=1)
        if not self.outputs:
            return out
        return (out, given.get("position_bias"), *[None] * self.outputs)[: self.outputs]


class NoPositions(nn.Module):
    """Replacement of a positional convolution that adds nothing."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return zeros that broadcast to any shape."""
        return hidden_states.new_zeros(1, 1, 1)
