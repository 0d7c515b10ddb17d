"""The three tasks: their targets, losses, scores and metrics.

One row per task. ``classes``: one label per clip (words, species, speakers). ``tags``: any number
of labels per clip. ``ctc``: a transcript, recognized frame by frame. Logits are (windows, labels),
for ``ctc`` (windows, frames, labels); a clip of several windows gets the mean of their scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from edgeprune.data.windows import Windows
from edgeprune.metrics.task_metrics import (
    METRICS,
    Metric,
    ranking_precision,
    transcript_errors,
    value,
)
from edgeprune.nn import losses
from edgeprune_calibration.labels import tags_of
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.ctc import BLANK, decode_greedy, to_tokens

Logits = NDArray[np.float32]
Labels = Sequence[str]


@dataclass(frozen=True)
class Task:
    """One task: everything that differs between tasks, as pure functions."""

    name: str
    activation: str
    """Activation of the exported graph: ``softmax``, ``sigmoid`` or ``ctc`` (softmax per frame)."""
    model: str
    """Auto class of transformers for models of this task."""
    loss: Callable[..., Tensor]
    """(logits, targets, smoothing=0.0) -> scalar."""
    soft_loss: Callable[[Tensor, Tensor, float], Tensor]
    """(student's logits, teacher's logits, temperature) -> scalar, 0 where they agree."""
    activate: Callable[[Tensor], Tensor]
    """Logits -> scores from 0 to 1."""
    targets: Callable[[Windows, Labels], Tensor]
    """Targets of ``loss``: (windows,), (windows, labels) or (windows, longest)."""
    tally: Callable[[Logits, Windows, Labels], NDArray[np.float64]]
    """Outcome of every clip, in order, see ``metrics.task_metrics``."""
    correctness: Callable[[Logits, Windows, Labels], NDArray[np.bool_] | NDArray[np.float64]]
    """Correctness of each clip, in order: booleans, or values from 0 to 1."""
    background_target: Callable[[Tensor], Tensor] | None
    """Logits -> target logits of a window without any label; None if no such windows are made."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The task's metrics; the first is used for decisions."""
        return METRICS[self.name]

    @property
    def metric(self) -> str:
        """Name of the metric used for decisions, which ``score`` computes."""
        return self.metrics[0].name

    def score(self, logits: Logits, windows: Windows, labels: Labels) -> float:
        """Return ``metric`` over the clips, from 0 to 1."""
        return value(self.metrics[0], self.tally(logits, windows, labels))


def task_of(name: str) -> Task:
    """Return a task by name.

    Raises
    ------
    EdgepruneError
        The name is not known.

    """
    if name not in TASKS:
        raise EdgepruneError(f"clips.task = {name!r} is not known.", f"Known: {', '.join(TASKS)}.")
    return TASKS[name]


def same_decisions(
    one: NDArray[np.float32], other: NDArray[np.float32], activation: str, middle: float = 0.5
) -> float:
    """Return the share of equal decisions of two models: labels (per frame for CTC), or tags.

    Parameters
    ----------
    one, other : array (n, labels), of transcripts (n, frames, labels)
        Scores, or logits.
    activation : str
        ``softmax``, ``sigmoid`` or ``ctc``.
    middle : float
        Threshold above which a tag is present: 0.5 for scores, 0 for logits.

    """
    if activation == "sigmoid":
        return float(np.mean((one > middle) == (other > middle)))
    return float(np.mean(one.argmax(axis=-1) == other.argmax(axis=-1)))


def clip_scores(
    scores: NDArray[np.floating], windows: Windows
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the mean scores (clips, labels) over each clip's windows, and its first point."""
    _, first, codes = np.unique(windows.clip, return_index=True, return_inverse=True)
    sums = np.zeros((len(first), scores.shape[1]))
    np.add.at(sums, codes, scores)
    return np.asarray(sums / np.bincount(codes)[:, None]), first


# ---- classes


def _class_targets(windows: Windows, labels: Labels) -> Tensor:
    return torch.from_numpy(windows.targets(labels))


def _class_tally(logits: Logits, windows: Windows, labels: Labels) -> NDArray[np.float64]:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores, first = clip_scores(shifted / shifted.sum(axis=1, keepdims=True), windows)
    return np.stack([windows.targets(labels)[first], scores.argmax(axis=1)], axis=1).astype(float)


def _class_values(logits: Logits, windows: Windows, labels: Labels) -> NDArray[np.bool_]:
    tally = _class_tally(logits, windows, labels)
    return np.asarray(tally[:, 0] == tally[:, 1])


# ---- tags


def tag_matrix(cells: Sequence[str], labels: Labels) -> NDArray[np.float32]:
    """Return a matrix with 1 where a cell (row) contains a label (column), else 0."""
    index = {label: i for i, label in enumerate(labels)}
    found = np.zeros((len(cells), len(labels)), dtype=np.float32)
    for row, cell in enumerate(cells):
        for tag in tags_of(cell):
            found[row, index[tag]] = 1.0
    return found


def _tag_targets(windows: Windows, labels: Labels) -> Tensor:
    return torch.from_numpy(tag_matrix(windows.column("label"), labels))


def _tag_tally(logits: Logits, windows: Windows, labels: Labels) -> NDArray[np.float64]:
    scores, first = clip_scores(1 / (1 + np.exp(-logits.astype(float))), windows)
    truth = tag_matrix(windows.column("label"), labels)[first]
    return np.stack([scores, truth], axis=2).astype(float)


def _tag_values(logits: Logits, windows: Windows, labels: Labels) -> NDArray[np.float64]:
    tally = _tag_tally(logits, windows, labels)
    return ranking_precision(tally[:, :, 0], tally[:, :, 1])


# ---- ctc


def _transcript_targets(windows: Windows, labels: Labels) -> Tensor:
    """Return each transcript's labels, zero-padded; tokens without a label are left out."""
    index = {label: i for i, label in enumerate(labels) if i != BLANK}
    rows = [[index[t] for t in to_tokens(text, windows.tokens) if t in index]
            for text in windows.column("label")]  # fmt: skip
    found = torch.zeros(len(rows), max(1, *map(len, rows), 1), dtype=torch.long)
    for row, tokens in zip(found, rows, strict=True):
        row[: len(tokens)] = torch.tensor(tokens, dtype=torch.long)
    return found


def _transcript_tally(logits: Logits, windows: Windows, labels: Labels) -> NDArray[np.float64]:
    said = windows.column("label")
    clips, first, codes = np.unique(windows.clip, return_index=True, return_inverse=True)
    heard: list[list[str]] = [[] for _ in clips]
    for code, window in zip(codes, logits, strict=True):
        heard[code].extend(decode_greedy(window, labels, windows.tokens).tokens)
    rows = [transcript_errors(tokens, said[i], windows.tokens)
            for tokens, i in zip(heard, first, strict=True)]  # fmt: skip
    return np.array(rows, dtype=float)


def _transcript_values(logits: Logits, windows: Windows, labels: Labels) -> NDArray[np.float64]:
    errors, length = _transcript_tally(logits, windows, labels)[:, :2].T
    return np.asarray(np.clip(1 - errors / np.maximum(length, 1), 0, 1))


def _softmax(logits: Tensor) -> Tensor:
    return functional.softmax(logits, dim=-1)


TASKS: dict[str, Task] = {
    "classes": Task(
        "classes", "softmax", "AutoModelForAudioClassification", losses.label_loss,
        losses.logit_loss, _softmax, _class_targets, _class_tally, _class_values,
        torch.zeros_like,  # all labels equally likely
    ),
    "tags": Task(
        "tags", "sigmoid", "AutoModelForAudioClassification", losses.tag_loss,
        losses.tag_logit_loss, torch.sigmoid, _tag_targets, _tag_tally, _tag_values,
        None,  # every clip is a negative example of the tags it lacks
    ),
    "ctc": Task(
        "ctc", "ctc", "AutoModelForCTC", losses.transcript_loss,
        losses.frame_logit_loss, _softmax, _transcript_targets, _transcript_tally,
        _transcript_values,
        None,  # pieces of speech still are speech
    ),
}  # fmt: skip
