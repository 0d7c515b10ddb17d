"""Times what a recorder does around an inference, in the process of a round (``worker``).

    window    the last samples arrive, the window is cut      audio/windowing.py
    inference the model                                       inference/runtime.py
    decide    scores to detections                            detection/decider.py
    write     a detection to SQLite and JSON lines, synced    journal/journal.py

`Recorder.step` processes a window completely, with the recorder's own code and on the disk of the
results. If no label of a window reaches its threshold, its best label is written anyway, so that
every window costs what a detection costs. `paced` runs windows at the pace of a microphone;
`sustained` runs for minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.audio.windowing import Windower
from edgeprune_device.bundle.reader import Bundle
from edgeprune_device.detection.decider import Decider
from edgeprune_device.detection.decision_rule import rule_of
from edgeprune_device.detection.events import Detection
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.runtime import Scorer
from edgeprune_device.journal.journal import Journal

NS = 1_000_000_000
FEWEST_STEPS, MOST_STEPS = 5, 200
SHARE_OF_TIME = 0.2
"""Share of a round's time used for processing up to disk."""
FEWEST_PACED = 10
SLICES = 300
"""Largest number of points of a sustained run's curve; each covers at least a second."""
MINUTE = 60.0
NOTHING = "nothing"
"""Label used for an empty transcript."""

Samples = NDArray[np.float32]
Step = Callable[[Samples], object]
Clock = Callable[[], int]


@dataclass(frozen=True)
class PipelineParts:
    """Duration of each phase of one window, in ns."""

    window: int
    inference: int
    decide: int
    write: int

    @property
    def end_to_end(self) -> int:
        """From the last sample to the detection on disk, ns."""
        return self.window + self.inference + self.decide + self.write


class Recorder:
    """Processes a bundle's windows from samples to disk, one at a time."""

    def __init__(self, bundle: Bundle, run: Scorer, folder: Path) -> None:
        self._rate, self._run = bundle.sample_rate, run
        self._windower = Windower(bundle.window_samples, bundle.hop_samples)
        self._decider = Decider(rule_of(bundle))
        self._held = ExitStack()
        self._folder = folder / "journal"
        self._journal = self._held.enter_context(
            Journal(self._folder, bundle.name, bundle.digest, "bench", live=True, clock=_now)
        )

    def step(self, block: Samples) -> PipelineParts:
        """Take the samples that complete the next window; return the duration of each phase."""
        begun = time.perf_counter_ns()
        [(first, window)] = self._windower.push(block)
        cut = time.perf_counter_ns()
        scores = self._run(window)
        scored = time.perf_counter_ns()
        start = first / self._rate
        end = start + len(window) / self._rate
        found = self._decider.step(start, end, scores)
        decided = time.perf_counter_ns()
        label, score = self._decider.top
        for detection in found or [Detection(label or NOTHING, score, start, end)]:
            self._journal.add(detection, first)
        if getattr(self._journal, "pending", 0):  # a journal that survives a full disk queues rows
            raise EdgepruneError(f"A detection could not be written to {self._folder}.",
                                 "Is the disk full?")  # fmt: skip
        written = time.perf_counter_ns()
        return PipelineParts(cut - begun, scored - cut, decided - scored, written - decided)

    def close(self) -> None:
        """End the journal's session."""
        self._journal.close({})
        self._held.close()


def time_to_disk(
    recorder: Recorder, blocks: Iterator[Samples], seconds: float
) -> dict[str, list[float]]:
    """Time windows from samples to disk; return the ms of every phase, in order."""
    parts: list[PipelineParts] = []
    end = time.perf_counter() + SHARE_OF_TIME * seconds
    while len(parts) < FEWEST_STEPS or (time.perf_counter() < end and len(parts) < MOST_STEPS):
        parts.append(recorder.step(next(blocks)))
    names = {"window": "window", "inference": "inference_on_way", "decide": "decide",
             "write": "write", "end_to_end": "end_to_end"}  # fmt: skip
    return {name: [getattr(one, part) / 1e6 for one in parts] for part, name in names.items()}


def paced(
    step: Step, blocks: Iterator[Samples], hop_seconds: float, windows: int,
    now: Clock = time.perf_counter_ns, sleep: Callable[[float], None] = time.sleep,
) -> dict[str, list[float]]:  # fmt: skip
    """Run windows at the pace of a microphone, one per hop; a late one starts when it can.

    Parameters
    ----------
    step : callable
        Processes a block of samples.
    blocks : iterator
        Samples of each window that are new.
    hop_seconds : float
    windows : int
        Number of windows.
    now, sleep : callable
        Clock in ns, and a function that waits for seconds.

    Returns
    -------
    dict
        ``due_ms`` (its last sample has arrived), ``begun_ms`` and ``done_ms`` of every window,
        since the start.

    """
    told: dict[str, list[float]] = {"due_ms": [], "begun_ms": [], "done_ms": []}
    start = now()
    for turn in range(1, windows + 1):
        block, due = next(blocks), start + round(turn * hop_seconds * NS)
        left = due - now()
        if left > 0:
            sleep(left / NS)
        begun = now()
        step(block)
        for key, moment in (("due_ms", due), ("begun_ms", begun), ("done_ms", now())):
            told[key].append((moment - start) / 1e6)
    return told


def windows_of_pace(seconds: float, hop_seconds: float, cap_seconds: float) -> int:
    """Return the number of windows of a paced part: at least ten, unless they take too long."""
    return max(1, min(max(FEWEST_PACED, round(seconds / hop_seconds)),
                      int(max(cap_seconds, seconds) / hop_seconds)))  # fmt: skip


def sustained(
    run: Step, windows: Iterator[Samples], seconds: float, hop_seconds: float | None
) -> dict[str, Any]:
    """Run for a long time and summarise on the way, as a board has no memory for every latency.

    Parameters
    ----------
    run : callable
        The model.
    windows : iterator
        Windows of samples.
    seconds : float
        Duration of the run.
    hop_seconds : float or None
        One window per hop; None: back to back.

    Returns
    -------
    dict
        ``slices`` (``at_seconds``, ``n``, ``p50_ms``, ``max_ms``), ``first_ms`` and ``last_ms``
        (the latencies of the first and the last minute, or quarter), ``n`` and ``seconds``.

    """
    width, part = max(1.0, seconds / SLICES), min(MINUTE, seconds / 4)
    slices: list[dict[str, float]] = []
    current: list[float] = []
    first: list[float] = []
    last: list[float] = []
    begun, count = time.perf_counter(), 0
    while (at := time.perf_counter() - begun) < seconds:
        if hop_seconds is not None:
            time.sleep(max(0.0, (count + 1) * hop_seconds - at))
        window = next(windows)
        start = time.perf_counter_ns()
        run(window)
        taken = (time.perf_counter_ns() - start) / 1e6
        count += 1
        if at < part:
            first.append(taken)
        if at >= seconds - part:
            last.append(taken)
        current.append(taken)
        since = time.perf_counter() - begun
        if since >= (len(slices) + 1) * width or since >= seconds:
            slices.append({"at_seconds": round(since, 2), "n": len(current),
                           "p50_ms": float(np.median(current)), "max_ms": max(current)})  # fmt: skip
            current = []
    return {"slices": slices, "first_ms": first, "last_ms": last, "n": count,
            "seconds": time.perf_counter() - begun}  # fmt: skip


def _now() -> datetime:
    return datetime.now(UTC)
