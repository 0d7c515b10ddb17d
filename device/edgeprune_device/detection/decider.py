"""Turns the scores of successive windows into detections; uses no clock and no files.

An event begins with the first window whose best label reaches its threshold. It is reported with
the label and time of its highest-scoring window, as soon as a window is below the threshold or a
whole window has passed since that one. A label that continues, or returns within the refractory
time, is not reported again.

If labels exclude each other (softmax) there is one stream of events; for tags (sigmoid) every label
has its own, and several events may overlap. A bundle's temperature is applied to each window's
scores first. For transcripts (ctc) every window with text is an event, and the text is its label.

A recorder's settings may require more, in this order: other thresholds and smoothing; N of the last
M windows over the threshold before an event begins; a lower threshold for it to continue
(hysteresis); merging of events close together; the refractory time. A label that is denied, or not
allowed, still competes, as the bundle's background does: if it is the best of labels that exclude
each other, nothing is reported.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.detection.decision_rule import DecisionRule
from edgeprune_device.detection.events import Confirmation, Detection, Events
from edgeprune_device.errors import FAILED_CHECK, EdgepruneError
from edgeprune_device.inference.ctc import decode_greedy, to_text
from edgeprune_device.inference.temperature import apply_temperature


class Decider:
    """Applies a rule to windows in order."""

    def __init__(self, rule: DecisionRule) -> None:
        self.rule = rule
        self.top: tuple[str, float] = ("", 0.0)
        """Best label of the last window and its score, whether or not it is reported."""
        self._recent: deque[NDArray[np.float32]] = deque(maxlen=rule.smoothing_windows)
        streams = {"softmax": 1, "sigmoid": len(rule.labels), "ctc": 0}[rule.activation]
        self._streams = [
            (Confirmation(rule.confirm_windows, rule.of_windows),
             Events(rule.refractory_seconds, rule.merge_seconds, rule.longest_seconds))
            for _ in range(streams)
        ]  # fmt: skip

    def step(
        self, start_seconds: float, end_seconds: float, scores: NDArray[np.float32]
    ) -> list[Detection]:
        """Take one window's scores; return the events that ended with it.

        Parameters
        ----------
        start_seconds, end_seconds : float
            Start and end of the window in stream time.
        scores : array (labels,), of a ctc model (frames, labels)

        Returns
        -------
        list of Detection

        Raises
        ------
        EdgepruneError
            The scores are not finite or have another shape: an alarm, not "no detections"
            (status 1).

        """
        self._check(start_seconds, scores)
        if self.rule.activation == "ctc":
            return self._read(start_seconds, end_seconds, scores)
        scores = apply_temperature(scores, self.rule.temperature, self.rule.activation)
        loudest = int(scores.argmax())
        self.top = (self.rule.labels[loudest], float(scores[loudest]))
        self._recent.append(scores)
        mean = np.mean(list(self._recent), axis=0)
        chosen = range(len(mean)) if self.rule.activation == "sigmoid" else [int(mean.argmax())]
        done = []
        for (confirm, events), index in zip(self._streams, chosen, strict=True):
            label, score = self.rule.labels[index], float(mean[index])
            threshold, found = self.rule.thresholds[label], None
            if score >= threshold - self.rule.release and label not in self.rule.ignore:
                window = Detection(label, score, start_seconds, end_seconds)
                found = confirm.take(window, score >= threshold)
            else:
                confirm.miss()
            done += events.take(start_seconds, found, confirm.earliest_seconds)
        return done

    def skip_gated(self, start_seconds: float) -> list[Detection]:
        """Take a window that a gate kept from the model; return the events that ended with it.

        Such a window counts as one below every threshold, and ends an event. For a window that was
        not observed (lost, invalid, dropped) call ``flush`` instead.
        """
        self._recent.clear()
        self.top = ("", 0.0)
        done = []
        for confirm, events in self._streams:
            confirm.miss()
            done += events.take(start_seconds, None, confirm.earliest_seconds)
        return done

    def flush(self) -> list[Detection]:
        """Handle a gap or the end of the stream; return the events that were in progress."""
        self._recent.clear()
        done = []
        for confirm, events in self._streams:
            confirm.flush()
            done += events.flush()
        return done

    def _read(self, start: float, end: float, scores: NDArray[np.float32]) -> list[Detection]:
        """Return the transcript of one window, if there is one."""
        reading = decode_greedy(scores, self.rule.labels, self.rule.tokens)
        text = to_text(reading.tokens, self.rule.tokens)
        self.top = (text, reading.score)
        sure = bool(text) and reading.score >= self.rule.least_score
        return [Detection(text, reading.score, start, end)] if sure else []

    def _check(self, start_seconds: float, scores: NDArray[np.float32]) -> None:
        dimensions = 2 if self.rule.activation == "ctc" else 1
        right = scores.ndim == dimensions and scores.shape[-1] == len(self.rule.labels)
        if not right or not np.isfinite(scores).all():
            raise EdgepruneError(
                f"The model returned no valid scores for the window at {start_seconds:.2f} s.",
                "Check the bundle with edgeprune verify.",
                FAILED_CHECK,
            )
