"""Decide what was heard: scores of windows, in order, to detections. No clock, no files.

One stretch of sound is one event. It begins with the first window whose best label is over its
threshold, and is reported with the label and the time of its most certain window, as soon as a
window is under the threshold or a whole window has passed since that one. A label that goes on, or
comes back within the refractory time, is not reported again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.bundle import Bundle
from edgeprune_device.errors import FAILED_CHECK, EdgepruneError


@dataclass(frozen=True)
class Rule:
    """How sure a listener must be."""

    labels: tuple[str, ...]
    thresholds: Mapping[str, float]
    """Score a label must reach, 0 to 1."""
    smoothing_windows: int
    """Scores are averaged over so many windows."""
    refractory_seconds: float
    """A label that was reported stays quiet for so long after its last window."""
    ignore: frozenset[str]
    """Labels that are never reported (background)."""


@dataclass(frozen=True)
class Detection:
    """One event."""

    label: str
    score: float
    start_seconds: float
    """Start of its most certain window, in stream time."""
    end_seconds: float


def rule_of(bundle: Bundle, threshold: float | None = None) -> Rule:
    """Return a bundle's decision rule; ``threshold`` replaces that of every label."""
    decision = bundle.manifest["decision"]
    thresholds = {label: float(value) for label, value in decision["thresholds"].items()}
    if threshold is not None:
        thresholds = dict.fromkeys(bundle.labels, threshold)
    return Rule(
        bundle.labels, thresholds, max(1, int(decision["smoothing_windows"])),
        float(decision["refractory_seconds"]), frozenset(decision["ignore"]),
    )  # fmt: skip


class Decider:
    """Applies a rule to windows in order."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._recent: deque[NDArray[np.float32]] = deque(maxlen=rule.smoothing_windows)
        self._best: Detection | None = None  # most certain window of the event that is going on
        self._last_end: dict[str, float] = {}  # of each label that was reported

    def step(
        self, start_seconds: float, end_seconds: float, scores: NDArray[np.float32]
    ) -> Detection | None:
        """Take one window's scores; return the event that ended with it, if any.

        Parameters
        ----------
        start_seconds, end_seconds : float
            Of the window, in stream time.
        scores : array (labels,)

        Raises
        ------
        EdgepruneError
            Scores that are not numbers, or of another shape: an alarm, never "nothing heard"
            (status 1).

        """
        if scores.shape != (len(self.rule.labels),) or not np.isfinite(scores).all():
            raise EdgepruneError(
                f"The model gave no usable scores for the window at {start_seconds:.2f} s.",
                "Check the bundle with edgeprune verify.",
                FAILED_CHECK,
            )
        self._recent.append(scores)
        mean = np.mean(list(self._recent), axis=0)
        index = int(mean.argmax())
        label, score = self.rule.labels[index], float(mean[index])
        over = score >= self.rule.thresholds[label] and label not in self.rule.ignore
        found = Detection(label, score, start_seconds, end_seconds) if over else None
        best, done = self._best, None
        if best is not None and (found is None or start_seconds >= best.end_seconds):
            done, best = self._report(best), None
        if found is not None and (best is None or score > best.score):
            best = found
        self._best = best
        return done

    def flush(self) -> Detection | None:
        """End the stretch (a gap, or the stream's end); return the event that was going on."""
        self._recent.clear()
        best, self._best = self._best, None
        return self._report(best) if best is not None else None

    def _report(self, event: Detection) -> Detection | None:
        """Return an event unless its label was reported a moment ago."""
        last = self._last_end.get(event.label)
        self._last_end[event.label] = event.end_seconds
        if last is not None and event.start_seconds < last + self.rule.refractory_seconds:
            return None
        return event
