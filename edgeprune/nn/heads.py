"""Classification heads: a multilayer perceptron, a bidirectional LSTM, and one that passes frames through."""

from __future__ import annotations

from torch import Tensor, nn


class MlpHead(nn.Module):
    """Features (batch, inputs) to logits (batch, outputs), over a layer of ReLU units."""

    def __init__(self, inputs: int, outputs: int, units: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, units)
        self.out = nn.Linear(units, outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.out(self.hidden(features).relu())
        return logits


class BiLstmHead(nn.Module):
    """States (batch, frames, inputs) to logits (batch, frames, outputs), heard both ways."""

    def __init__(self, inputs: int, outputs: int, units: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, units, layers, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * units, outputs)

    def forward(self, states: Tensor) -> Tensor:
        """Logits of every frame."""
        heard, _ = self.lstm(states)
        logits: Tensor = self.out(heard)
        return logits


class Through(nn.Module):
    """Nothing: stands where a family projects states before their mean over time."""

    def forward(self, states: Tensor) -> Tensor:
        """Return the states as they come."""
        return states
