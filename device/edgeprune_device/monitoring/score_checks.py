"""Checks whether a model's scores are plausible: a broken model is an alarm, not "no detections".

What can be recognised from the scores, and what cannot:

- Scores that are not finite, or are outside 0 to 1, are wrong at once.
- Scores that are equal to the last bit for several windows of different audio are wrong, because
  the last bits of a float depend on the faintest noise. That does not hold for coarse scores: an
  int8 output has 256 steps, and a very confident softmax returns exactly 1 and 0.
- Coarse scores that stay the same, and a label with full score for a long time, are what a good
  model returns on a quiet night as well as what a broken one does. They count only over many
  windows whose levels differ by 40 dB, and never for a label that the rule ignores: background at
  1.0 for months is right for a recorder in a desert. A broken model that always returns that is
  found by the golden check at the next start, or by playing a song to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.audio.level import level_db
from edgeprune_device.monitoring.alarms import Alarm, AlarmSpec
from edgeprune_device.stream import Notice

OUTSIDE = 0.01  # tolerance, because quantized outputs may be slightly out of range
SAME_WINDOWS = 10
LONG_WINDOWS = 1000
RANGE_DB = 40.0
LOWEST_DB = -100.0  # levels below are not meaningful
COARSE_STEPS = 256
CERTAIN, COARSELY_CERTAIN = 0.9999, 1 - 1 / COARSE_STEPS
CALM_WINDOWS = 10

REASONS = {
    "not finite": "The model's scores are not finite numbers",
    "out of range": "The model's scores are out of range (allowed: 0 to 1)",
    "constant": "The model's scores stay the same for different audio",
    "saturated": "The model has one label at full score for any input",
}
"""Result of ``check`` -> sentence of its alarm."""


class ScoreChecker:
    """Checks each window's scores, in order.

    Parameters
    ----------
    activation : str
        ``softmax``, ``sigmoid`` or ``ctc``.
    labels : sequence of str
        Labels of the scores.
    ignore : collection of str
        Labels that may have full score for any time: background.

    """

    def __init__(
        self, activation: str, labels: Sequence[str], ignore: frozenset[str] = frozenset()
    ) -> None:
        self._tags = activation != "ctc"
        self._ignored = np.array([label in ignore for label in labels], dtype=bool)
        self._alarms = {
            reason: Alarm(
                AlarmSpec(
                    f"scores-{reason.replace(' ', '-')}",
                    f"{text}; its detections are not recorded. Check the bundle with edgeprune verify.",
                    f"The model's scores are normal again ({reason} for {{amount}} windows).",
                    0, CALM_WINDOWS,
                )
            )
            for reason, text in REASONS.items()
        }  # fmt: skip
        self._window = 0
        self._before: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
        self._same = _Run()  # consecutive windows with the same scores
        self._certain = _Run()  # consecutive windows with the same label at full score
        self._label = -1
        self._notices: list[Notice] = []

    def check(self, scores: NDArray[np.float32], window: NDArray[np.float32]) -> str:
        """Return why a window's scores cannot be used; empty if they can.

        Parameters
        ----------
        scores : array (labels,), of a ctc model (frames, labels)
        window : array (n,)
            Audio of the window; it must not be changed later.

        Returns
        -------
        str
            A key of ``REASONS``, or empty.

        """
        reason = self._judged(scores, window)
        for name, alarm in self._alarms.items():
            notice = alarm.take(
                name == reason, self._window, self._window + 1,
                {"windows": max(self._same.windows, self._certain.windows, 1)},
            )  # fmt: skip
            if notice is not None:
                self._notices.append(notice)
        self._window += 1
        return reason

    def notices(self) -> list[Notice]:
        """Return the alarms raised and cleared since the last call."""
        notices, self._notices = self._notices, []
        return notices

    def _judged(self, scores: NDArray[np.float32], window: NDArray[np.float32]) -> str:
        if not np.isfinite(scores).all():
            self._forget()
            return "not finite"
        if scores.min() < -OUTSIDE or scores.max() > 1 + OUTSIDE:
            self._forget()
            return "out of range"
        before, self._before = self._before, (scores.copy(), window)
        if before is not None and np.array_equal(window, before[1]):
            return self._said()  # the same audio has the same scores
        if before is None or not np.array_equal(scores, before[0]):
            self._same = _Run()
        self._same.add(window)
        top = int(scores.argmax()) if self._tags else -1
        if not self._is_certain(scores) or top != self._label or self._ignored[top]:
            self._certain = _Run()
        self._label = top
        self._certain.add(window)
        return self._said()

    def _is_certain(self, scores: NDArray[np.float32]) -> bool:
        least = COARSELY_CERTAIN if _is_coarse(scores) else CERTAIN
        return self._tags and bool(scores.max() >= least)

    def _said(self) -> str:
        """Return the reason that follows from the runs so far, or empty."""
        if self._before is None:
            return ""
        scores = self._before[0]
        if self._same.windows >= SAME_WINDOWS and not _is_coarse(scores):
            return "constant"
        if self._is_certain(scores):
            return "saturated" if self._certain.long else ""
        return "constant" if self._same.long else ""

    def _forget(self) -> None:
        self._before = None
        self._same, self._certain = _Run(), _Run()


def _is_coarse(scores: NDArray[np.float32]) -> bool:
    """Return whether scores are all steps of 1/256, as those of an int8 output, or 0 and 1."""
    steps = scores * np.float32(COARSE_STEPS)
    return bool(np.array_equal(steps, np.round(steps)))


class _Run:
    """Consecutive windows and the range of their levels."""

    def __init__(self) -> None:
        self.windows = 0
        self._low, self._high = np.inf, -np.inf

    def add(self, window: NDArray[np.float32]) -> None:
        self.windows += 1
        if self.windows > 1:  # most runs have one window, whose level is not needed
            level = max(level_db(window), LOWEST_DB)
            self._low, self._high = min(self._low, level), max(self._high, level)

    @property
    def long(self) -> bool:
        return self.windows >= LONG_WINDOWS and self._high - self._low >= RANGE_DB
