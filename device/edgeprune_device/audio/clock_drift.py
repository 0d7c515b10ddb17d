"""Frames held against the monotonic clock: losses that no flag tells of, and drift.

A callback's lag is its time less the time that its frames take at the nominal rate. It jitters
upwards only, as a callback may be late but never early; so the least lag of a window of time moves
with the device's clock, slowly, and jumps up where frames were lost. A jump of over 0.1 s from the
two 30 s windows before is a loss of so much; what is slower is drift. Where every callback of a
window was late, and nothing was lost, the lag falls back later, and so much is taken back.
"""

from __future__ import annotations

import math
from collections import deque

WINDOW_SECONDS = 30.0
JUMP_SECONDS = 0.1
LEAST_SECONDS = 3600.0  # before a drift in ppm is worth telling: a server's delay wanders by 70 ms


class Lag:
    """The lag of one run of a device.

    Parameters
    ----------
    rate : int
        Nominal rate in Hz.

    """

    def __init__(self, rate: int, window_seconds: float = WINDOW_SECONDS) -> None:
        self.rate, self.window_seconds = rate, window_seconds
        self.counted = 0.0
        """Seconds counted as lost so far."""
        self._window_ends = -math.inf
        self._least = self._first = math.inf
        self._before: deque[float] = deque(maxlen=2)  # the least lags of the windows before
        self._began = self._now = 0.0

    def observe(self, total: int, seconds: float) -> float:
        """Take a callback.

        Parameters
        ----------
        total : int
            Frames since the beginning.
        seconds : float
            Monotonic time of the callback.

        Returns
        -------
        float
            Seconds found lost with this callback; mostly 0. Under 0: so much that was counted as
            lost was not.

        """
        lost, self._now = 0.0, seconds
        if self._window_ends == -math.inf:
            self._began, self._window_ends = seconds, seconds + self.window_seconds
        elif seconds >= self._window_ends:
            if not self._before:
                self._first = self._least
            elif self._least - min(self._before) > JUMP_SECONDS:
                lost = self._least - min(self._before)
            elif self.counted and max(self._before) - self._least > JUMP_SECONDS:
                lost = -min(self.counted, max(self._before) - self._least)
            if lost:
                self.counted += lost
                self._before.clear()
            self._before.append(self._least)
            self._least = math.inf
            self._window_ends = seconds + self.window_seconds
        self._least = min(self._least, seconds - total / self.rate)
        return lost

    @property
    def seconds(self) -> float:
        """The lag that holds now: when the run's frame 0 was captured, losses and drift included."""
        return min([self._least, *list(self._before)[-1:]])

    @property
    def drift_seconds(self) -> float:
        """How far the device's clock has fallen behind, losses aside; negative where it is ahead."""
        if self._first == math.inf:
            return 0.0
        return self._before[-1] - self._first - self.counted

    @property
    def drift_ppm(self) -> float | None:
        """The same per million; None in the first hour, when it cannot be told from jitter."""
        passed = self._now - self._began
        return 1e6 * self.drift_seconds / passed if passed >= LEAST_SECONDS else None
