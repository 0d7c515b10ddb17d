"""Mimic layers: small layers that stand in for a span of transformer blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.nn.blocks import ConvBlock, FrameBlock, TransformerBlock

KINDS = ("frame", "conv", "transformer", "none")


class NarrowTransformer(nn.Module):
    """A transformer block of another width, between two linear layers; what came in is added."""

    def __init__(self, width: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.enter = nn.Linear(width, hidden)
        self.block = TransformerBlock(hidden, 4 * hidden, heads)
        self.leave = nn.Linear(hidden, width)

    def forward(self, frames: Tensor) -> Tensor:
        """Turn (batch, frames, width) into the same shape."""
        out: Tensor = frames + self.leave(self.block(self.enter(frames)))
        return out


class Mimic(nn.Module):
    """In place of some blocks.

    Parameters
    ----------
    kind : str
        One of ``KINDS``.
    width : int
        The model's.
    hidden : int
        The mimic's own.
    layers : int
    kernel : int
        Frames under a convolution; odd.
    heads : int
        Of a transformer layer.
    class_tokens : int
        Leading tokens that stand for no stretch of sound.
    outputs : int
        How many things the family's blocks return as a tuple; 0: a tensor.
    rows : int
        Stretches of frames one behind the other, as AST keeps a row of patches for every band of
        frequencies; a convolution goes along each by itself.

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
        """Turn (batch, tokens, width) into the same shape, in the family's own wrapping."""
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
    """In place of a positional convolution: adds nothing."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return zeros that add to anything."""
        return hidden_states.new_zeros(1, 1, 1)
