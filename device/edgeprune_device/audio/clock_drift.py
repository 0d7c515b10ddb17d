"""Compares captured frames with the monotonic clock: finds unreported losses and clock drift.

A callback's lag is its time less the duration of its frames at the nominal rate. It jitters only
upwards, because a callback may be late but never early. So the minimum lag over a time window moves
slowly with the device's clock, and jumps up where frames were lost. A jump of over 0.1 s from the
two 30 s windows before is a loss of that duration; slower change is drift. If every callback of a
window was late, and nothing was lost, the lag falls back later, and that loss is taken back.
"""

from __future__ import annotations

import math
from collections import deque

WINDOW_SECONDS = 30.0
JUMP_SECONDS = 0.1
LEAST_SECONDS = 3600.0  # before a drift in ppm is meaningful: a server's delay varies by 70 ms


class ClockDrift:
    """The lag of one uninterrupted run of a device.

    Parameters
    ----------
    rate : int
        Nominal rate in Hz.
    window_seconds : float
        Length of the windows over which the minimum is taken.

    """

    def __init__(self, rate: int, window_seconds: float = WINDOW_SECONDS) -> None:
        self.rate, self.window_seconds = rate, window_seconds
        self.counted = 0.0
        """Lost time so far, seconds."""
        self._window_ends = -math.inf
        self._least = self._first = math.inf
        self._before: deque[float] = deque(maxlen=2)  # minimum lags of the windows before
        self._began = self._now = 0.0

    def observe(self, total: int, seconds: float) -> float:
        """Take in a callback.

        Parameters
        ----------
        total : int
            Frames since the beginning.
        seconds : float
            Monotonic time of the callback.

        Returns
        -------
        float
            Seconds found lost with this callback; usually 0. Under 0: this much was counted as lost
            by mistake.

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
        """Current lag: monotonic time of the run's frame 0, losses and drift included."""
        return min([self._least, *list(self._before)[-1:]])

    @property
    def drift_seconds(self) -> float:
        """How far the device's clock is behind, without losses; negative if it is ahead."""
        if self._first == math.inf:
            return 0.0
        return self._before[-1] - self._first - self.counted

    @property
    def drift_ppm(self) -> float | None:
        """The drift in ppm; None in the first hour, when jitter is larger."""
        passed = self._now - self._began
        return 1e6 * self.drift_seconds / passed if passed >= LEAST_SECONDS else None
