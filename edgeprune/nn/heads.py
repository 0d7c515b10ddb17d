"""Classification heads: multilayer perceptron, bidirectional LSTM, and an identity projection."""

from __future__ import annotations

from torch import Tensor, nn


class MlpHead(nn.Module):
    """Linear, ReLU, linear: features (batch, inputs) to logits (batch, outputs)."""

    def __init__(self, inputs: int, outputs: int, units: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, units)
        self.out = nn.Linear(units, outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (batch, outputs)."""
        logits: Tensor = self.out(self.hidden(features).relu())
        return logits


class BiLstmHead(nn.Module):
    """Bidirectional LSTM: hidden states (batch, frames, inputs) to logits per frame."""

    def __init__(self, inputs: int, outputs: int, units: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, units, layers, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * units, outputs)

    def forward(self, states: Tensor) -> Tensor:
        """Return logits (batch, frames, outputs)."""
        heard, _ = self.lstm(states)
        logits: Tensor = self.out(heard)
        return logits


class IdentityProjection(nn.Module):
    """Identity, in place of the projection before the mean over time that some families have."""

    def forward(self, states: Tensor) -> Tensor:
        """Return the hidden states unchanged."""
        return states
