"""Candidate files of one student: each made, run and measured; and the choice of one to deliver.

A candidate is a format (``onnx``, ``tflite``) and a method (``quantization.methods``). All are
measured on the same validation windows on this machine: bytes, milliseconds per window, score,
agreement with the float file. Of those that lose no more than allowed, the chosen one is the
fastest here, or the one with the fewest instructions on the processor that the recipe names.
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
"""Methods that ``auto`` tries; with the float file among them, one is always acceptable."""
HERE = "here"
ORDER = (("tflite", "dynamic"), ("onnx", "dynamic"), ("tflite", "none"), ("tflite", "weights"),
         ("onnx", "weights"), ("onnx", "none"))  # fmt: skip
TARGETS: dict[str, tuple[tuple[str, str], ...]] = {
    HERE: (),
    "pi4": ORDER,
    "pi5": ORDER,
    "x86": ORDER,
}
"""Processor -> candidates, the one with the fewest instructions first (``benchmarks/arm64.py``,
wav2vec 2.0 and KWT-1; x86 by time). All agree, as measured: without SDOT (Pi 4) int8 saves a
twentieth of the instructions, with it half."""
AS_FAST = 1.1
"""If the times of two files differ by less than this factor, the smaller one is delivered."""
SMALLEST = 1e-7  # least score whose logarithm is taken


@dataclass(frozen=True)
class Candidate:
    """A candidate file with its measurements."""

    format: str
    method: str
    data: bytes
    milliseconds: float
    """Median latency of a window in ms on this machine, one thread."""
    score: float
    """Metric of the task on the validation windows."""
    agreement: float
    """Share of decisions that equal the float file's."""
    loss: float
    """Score of the float file minus this score."""

    def facts(self) -> dict[str, Any]:
        """Return the values for the report."""
        return {"format": self.format, "method": self.method, "bytes": len(self.data),
                "milliseconds": self.milliseconds, "score": self.score,
                "agreement": self.agreement, "loss": self.loss}  # fmt: skip


def try_files(
    files: Sequence[tuple[str, str, bytes]], windows: Windows, labels: Sequence[str], ui: Ui
) -> list[Candidate]:  # fmt: skip
    """Run candidates on the same windows; the first is the float file, the reference of the others.

    Parameters
    ----------
    files : sequence of (format, method, bytes)
        Candidates.
    windows : Windows
        Windows of whole clips, with labels.
    labels : sequence of str
        Labels in the order of the scores.
    ui : Ui
        Progress display.

    Raises
    ------
    EdgepruneError
        The scores of a file contain NaN or infinity (status 1).

    """
    tried: list[Candidate] = []
    reference: NDArray[np.float32] | None = None
    for format, method, data in files:
        run = RUNNERS[format](data)
        scores = scores_of_file(run, windows.samples, ui, f"{format} {method}")
        if not np.isfinite(scores).all():
            raise EdgepruneError(
                f"The scores of the {format} file with method {method!r} contain NaN or infinity.",
                "Its values overflow: choose another quantize.method.", FAILED_CHECK,
            )  # fmt: skip
        reference = scores if reference is None else reference
        score = score_of(scores, windows, labels)
        best = tried[0].score if tried else score
        tried.append(Candidate(
            format, method, data, time_run(run, windows.window_samples), score,
            same_decisions(scores, reference, task_of(windows.task).activation), best - score,
        ))  # fmt: skip
    return tried


def choose(tried: Sequence[Candidate], target: str, max_loss: float) -> tuple[Candidate, str]:
    """Return the file to deliver and the reason.

    Parameters
    ----------
    tried : sequence of Candidate
        At least one candidate.
    target : str
        A key of ``TARGETS``.
    max_loss : float
        Largest loss of the score against the float file that is allowed, as a share.

    """
    held = [variant for variant in tried if variant.loss <= max_loss + 1e-9]
    if not held:
        nearest = min(tried, key=lambda variant: variant.loss)
        return nearest, f"all lose more than {100 * max_loss:g} pp; this one loses least"
    ranks = {pair: rank for rank, pair in enumerate(TARGETS[target])}
    if ranks:
        best = min(held, key=lambda v: (ranks.get((v.format, v.method), len(ranks)), len(v.data)))
        return best, f"fewest instructions on {target} within the allowed loss"
    fastest = min(variant.milliseconds for variant in held)
    near = [variant for variant in held if variant.milliseconds <= AS_FAST * fastest]
    return min(near, key=lambda v: len(v.data)), "fastest here within the allowed loss"


def scores_of_file(
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
