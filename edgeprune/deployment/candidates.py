"""The files one student can become, each made, run and measured; and which of them is delivered.

A file is a format (``onnx``, ``tflite``) and a method (``methods``). Each is measured on the same
validation windows and on this machine: bytes, milliseconds a window, score, agreement with the
float file. Of those that lose no more than allowed, the one is chosen that is fastest here, or
that needs the fewest instructions on the processor that the recipe names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.core.console import Ui
from edgeprune.data.tasks import same_decisions, task_of
from edgeprune.data.windows import Windows
from edgeprune.export.export import RUNNERS, Runner
from edgeprune.export.timing import time_run
from edgeprune_device.errors import FAILED_CHECK, EdgepruneError

AUTO = ("dynamic", "weights", "none")
"""What ``auto`` tries; the float file is among them, so that one always holds."""
HERE = "here"
ORDER = (("tflite", "dynamic"), ("onnx", "dynamic"), ("tflite", "none"), ("tflite", "weights"),
         ("onnx", "weights"), ("onnx", "none"))  # fmt: skip
TARGETS: dict[str, tuple[tuple[str, str], ...]] = {
    HERE: (),
    "pi4": ORDER,
    "pi5": ORDER,
    "x86": ORDER,
}
"""Processor -> files, the one with the fewest instructions first (``benchmarks/arm64.py``, wav2vec
2.0 and KWT-1; x86 by time). That all agree is what was counted: without SDOT (Pi 4) int8 saves a
twentieth of the instructions, with it half."""
AS_FAST = 1.1
"""Of two files whose times differ by less than this, the smaller one is delivered."""
SMALLEST = 1e-7  # score whose logarithm is taken


@dataclass(frozen=True)
class Variant:
    """A file that was tried."""

    format: str
    method: str
    data: bytes
    milliseconds: float
    """Median of a window on this machine, one thread."""
    score: float
    """The task's metric on the validation windows."""
    agreement: float
    """Share of decisions that are the float file's."""
    loss: float
    """What the score is under the float file's."""

    def facts(self) -> dict[str, Any]:
        """Return what the report says of it."""
        return {"format": self.format, "method": self.method, "bytes": len(self.data),
                "milliseconds": self.milliseconds, "score": self.score,
                "agreement": self.agreement, "loss": self.loss}  # fmt: skip


def try_files(
    files: Sequence[tuple[str, str, bytes]], windows: Windows, labels: Sequence[str], ui: Ui
) -> list[Variant]:  # fmt: skip
    """Run files on the same windows; the first is the float file that the others are held against.

    Parameters
    ----------
    files : sequence of (format, method, bytes)
    windows : Windows
        With labels; whole clips.
    labels : sequence of str
        In the order of the scores.
    ui : Ui

    Raises
    ------
    EdgepruneError
        A file answers with infinities or NaN (status 1).

    """
    tried: list[Variant] = []
    reference: NDArray[np.float32] | None = None
    for format, method, data in files:
        run = RUNNERS[format](data)
        scores = answers_of(run, windows.samples, ui, f"{format} {method}")
        if not np.isfinite(scores).all():
            raise EdgepruneError(
                f"The {format} file made by {method!r} answers with what is no finite number.",
                "Its numbers overflow: choose another quantize.method.", FAILED_CHECK,
            )  # fmt: skip
        reference = scores if reference is None else reference
        score = score_of(scores, windows, labels)
        best = tried[0].score if tried else score
        tried.append(Variant(
            format, method, data, time_run(run, windows.window_samples), score,
            same_decisions(scores, reference, task_of(windows.task).activation), best - score,
        ))  # fmt: skip
    return tried


def choose(tried: Sequence[Variant], target: str, max_loss: float) -> tuple[Variant, str]:
    """Return the file to deliver and why.

    Parameters
    ----------
    tried : sequence of Variant
        At least one.
    target : str
        A key of ``TARGETS``.
    max_loss : float
        Share of the score that may be lost against the float file.

    """
    held = [variant for variant in tried if variant.loss <= max_loss + 1e-9]
    if not held:
        nearest = min(tried, key=lambda variant: variant.loss)
        return nearest, f"none loses less than {100 * max_loss:g} points; this one loses least"
    ranks = {pair: rank for rank, pair in enumerate(TARGETS[target])}
    if ranks:
        best = min(held, key=lambda v: (ranks.get((v.format, v.method), len(ranks)), len(v.data)))
        return best, f"fewest instructions on {target} of those that hold the score"
    fastest = min(variant.milliseconds for variant in held)
    near = [variant for variant in held if variant.milliseconds <= AS_FAST * fastest]
    return min(near, key=lambda v: len(v.data)), "fastest here of those that hold the score"


def answers_of(
    run: Runner, samples: NDArray[np.float32], ui: Ui, title: str
) -> NDArray[np.float32]:
    """Return a file's scores of windows (n, samples): (n, labels), or (n, frames, labels)."""
    return np.concatenate([run(x[None]) for x in ui.track(samples, title, len(samples))])


def score_of(scores: NDArray[np.float32], windows: Windows, labels: Sequence[str]) -> float:
    """Return the task's metric of scores."""
    task = task_of(windows.task)
    logits = np.log(np.maximum(scores, SMALLEST))
    if task.activation == "sigmoid":
        logits -= np.log(np.maximum(1 - scores, SMALLEST))
    return task.score(logits, windows, labels)
