"""Heads of our own, as Seed 4 (Genova, Esling, Hurlin) puts them on a model.

``mlp``: the mean over time, 1024 ReLU units, the labels. ``bilstm``: two bidirectional LSTM layers
of 256, then the labels of every frame. Each is a part that a config can name (``surgery.PARTS``).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from edgeprune import surgery
from edgeprune_device.errors import EdgepruneError

MLP_UNITS = 1024
LSTM_UNITS = 256
LSTM_LAYERS = 2
OURS = ("mlp", "bilstm", "through")


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


def forget_head(config: Any) -> None:
    """Take a head of ours out of a config, so that its model is built with its family's own."""
    parts = getattr(config, "edgeprune_parts", None) or {}
    left = {path: spec for path, spec in parts.items() if spec["part"] not in OURS}
    if left != parts:
        config.edgeprune_parts = left


def put_head(model: Any, kind: str, outputs: int) -> None:
    """Put a fresh head of ours in the place of a model's own, in place.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        With a head: a classifier for ``mlp``, a CTC model for ``bilstm``.
    kind : str
        ``own`` (nothing is done), ``mlp`` or ``bilstm``.
    outputs : int
        Labels.

    Raises
    ------
    EdgepruneError
        The family's head stands where none of ours fits.

    """
    if kind == "own":
        return
    places = ("lm_head",) if kind == "bilstm" else ("classifier", "head", "fc_audioset")
    path = next((name for name in places if hasattr(model, name)), "")
    if not path:
        raise EdgepruneError(
            f"No {kind} head fits a {type(model).__name__}.", "Use teach.head = 'own'."
        )
    first = getattr(model, "projector", None) if kind == "mlp" else None
    old = first if isinstance(first, nn.Linear) else model.get_submodule(path)
    inputs = next(m.in_features for m in old.modules() if isinstance(m, nn.Linear))
    if old is first:
        surgery.put(model, "projector", surgery.make_part({"part": "through"}))
    size = {"units": MLP_UNITS} if kind == "mlp" else {"units": LSTM_UNITS, "layers": LSTM_LAYERS}
    spec = {"part": kind, "inputs": inputs, "outputs": outputs, **size}
    surgery.put(model, path, surgery.make_part(spec))
