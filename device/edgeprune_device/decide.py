"""Decide what was heard: scores of windows, in order, to detections. No clock, no files.

One stretch of sound is one event. It begins with the first window whose best label is over its
threshold, and is reported with the label and the time of its most certain window, as soon as a
window is under the threshold or a whole window has passed since that one. A label that goes on, or
comes back within the refractory time, is not reported again.

Where labels exclude each other (softmax) there is one such stream of events; of tags (sigmoid)
every label has its own, and several may go on at a time. A bundle's temperature is applied to
each window's scores before anything else. Of transcripts (ctc) every window in
which something was read is an event, and its text is the label.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.bundle import Bundle
from edgeprune_device.ctc import read_frames, to_text
from edgeprune_device.errors import FAILED_CHECK, EdgepruneError

SMALLEST_SCORE = 1e-7  # a float32 score says no more of its logit


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
    activation: str = "softmax"
    """``softmax``, ``sigmoid`` or ``ctc``."""
    tokens: str = ""
    """What a transcript is made of, ``characters`` or ``words``."""
    least_score: float = 0.0
    """Score that a transcript must reach, 0 to 1."""
    temperature: float = 1.0
    """What the logits behind the scores are divided by, over 0."""


@dataclass(frozen=True)
class Detection:
    """One event."""

    label: str
    """What was heard; of a transcript, its text."""
    score: float
    start_seconds: float
    """Start of its most certain window, in stream time."""
    end_seconds: float


def rule_of(bundle: Bundle, threshold: float | None = None) -> Rule:
    """Return a bundle's decision rule; ``threshold`` replaces that of every label.

    Transcripts have no thresholds of their own: all are reported, or those that reach ``threshold``.
    """
    decision = bundle.manifest["decision"]
    thresholds = {label: float(value) for label, value in decision["thresholds"].items()}
    if threshold is not None and bundle.activation != "ctc":
        thresholds = dict.fromkeys(bundle.labels, threshold)
    return Rule(
        bundle.labels, thresholds, max(1, int(decision["smoothing_windows"])),
        float(decision["refractory_seconds"]), frozenset(decision["ignore"]),
        bundle.activation, bundle.tokens, threshold or 0.0, bundle.temperature,
    )  # fmt: skip


def temper(scores: NDArray[np.float32], temperature: float, activation: str) -> NDArray[np.float32]:
    """Return scores as they were, had the logits been divided by a temperature.

    Guo et al. 2017, "On calibration of modern neural networks". Of a softmax p^(1/T), made to sum
    to one again; of a sigmoid the sigmoid of logit(p) / T. The order of the labels stays.

    Parameters
    ----------
    scores : array (..., labels)
        0 to 1.
    temperature : float > 0
        1 changes nothing; above 1 the scores become less sure.
    activation : str
        ``softmax`` or ``sigmoid``.

    """
    if temperature == 1:
        return scores
    sure = np.clip(scores, SMALLEST_SCORE, 1.0).astype(np.float64)
    if activation == "softmax":
        logits = np.log(sure) / temperature
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True), dtype=np.float32)
    unsure = np.clip(1.0 - scores.astype(np.float64), SMALLEST_SCORE, 1.0)
    logits = (np.log(sure) - np.log(unsure)) / temperature
    return np.asarray(1.0 / (1.0 + np.exp(-logits)), dtype=np.float32)


class Decider:
    """Applies a rule to windows in order."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.top: tuple[str, float] = ("", 0.0)
        """What the last window said most surely, whether or not it is reported, and how surely."""
        self._recent: deque[NDArray[np.float32]] = deque(maxlen=rule.smoothing_windows)
        streams = {"softmax": 1, "sigmoid": len(rule.labels), "ctc": 0}[rule.activation]
        self._streams = [Events(rule.refractory_seconds) for _ in range(streams)]

    def step(
        self, start_seconds: float, end_seconds: float, scores: NDArray[np.float32]
    ) -> list[Detection]:
        """Take one window's scores; return the events that ended with it.

        Parameters
        ----------
        start_seconds, end_seconds : float
            Of the window, in stream time.
        scores : array (labels,), of transcripts (frames, labels)

        Raises
        ------
        EdgepruneError
            Scores that are not numbers, or of another shape: an alarm, never "nothing heard"
            (status 1).

        """
        self._check(start_seconds, scores)
        if self.rule.activation == "ctc":
            return self._read(start_seconds, end_seconds, scores)
        scores = temper(scores, self.rule.temperature, self.rule.activation)
        loudest = int(scores.argmax())
        self.top = (self.rule.labels[loudest], float(scores[loudest]))
        self._recent.append(scores)
        mean = np.mean(list(self._recent), axis=0)
        chosen = range(len(mean)) if self.rule.activation == "sigmoid" else [int(mean.argmax())]
        done = []
        for stream, index in zip(self._streams, chosen, strict=True):
            label, score = self.rule.labels[index], float(mean[index])
            over = score >= self.rule.thresholds[label] and label not in self.rule.ignore
            found = Detection(label, score, start_seconds, end_seconds) if over else None
            done.append(stream.take(start_seconds, found))
        return [event for event in done if event is not None]

    def flush(self) -> list[Detection]:
        """End the stretch (a gap, or the stream's end); return the events that were going on."""
        self._recent.clear()
        return [event for stream in self._streams if (event := stream.flush()) is not None]

    def _read(self, start: float, end: float, scores: NDArray[np.float32]) -> list[Detection]:
        """Return the text of one window, if there is one."""
        reading = read_frames(scores, self.rule.labels, self.rule.tokens)
        text = to_text(reading.tokens, self.rule.tokens)
        self.top = (text, reading.score)
        sure = bool(text) and reading.score >= self.rule.least_score
        return [Detection(text, reading.score, start, end)] if sure else []

    def _check(self, start_seconds: float, scores: NDArray[np.float32]) -> None:
        dimensions = 2 if self.rule.activation == "ctc" else 1
        right = scores.ndim == dimensions and scores.shape[-1] == len(self.rule.labels)
        if not right or not np.isfinite(scores).all():
            raise EdgepruneError(
                f"The model gave no usable scores for the window at {start_seconds:.2f} s.",
                "Check the bundle with edgeprune verify.",
                FAILED_CHECK,
            )


class Events:
    """One stream of events, of which one is going on at a time."""

    def __init__(self, refractory_seconds: float) -> None:
        self.refractory_seconds = refractory_seconds
        self._best: Detection | None = None  # most certain window of the event that is going on
        self._last_end: dict[str, float] = {}  # of each label that was reported

    def take(self, start_seconds: float, found: Detection | None) -> Detection | None:
        """Take what the next window holds, if anything; return the event that ended with it."""
        best, done = self._best, None
        if best is not None and (found is None or start_seconds >= best.end_seconds):
            done, best = self._report(best), None
        if found is not None and (best is None or found.score > best.score):
            best = found
        self._best = best
        return done

    def flush(self) -> Detection | None:
        """Return the event that was going on."""
        best, self._best = self._best, None
        return self._report(best) if best is not None else None

    def _report(self, event: Detection) -> Detection | None:
        """Return an event unless its label was reported a moment ago."""
        last = self._last_end.get(event.label)
        self._last_end[event.label] = event.end_seconds
        if last is not None and event.start_seconds < last + self.refractory_seconds:
            return None
        return event
