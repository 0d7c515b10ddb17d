"""Latency statistics of a recorder that runs for months, in bounded memory.

The last windows are kept and summarised in the fields of a variant in ``bench.json``, so that
benchmark and field can be compared; all windows since the start are counted in buckets for
Prometheus.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

import numpy as np

from edgeprune_device.percentiles import MS_PER_SECOND, thin

KEPT = 20_000
"""Number of windows kept: 160 kB, or one day at a window every 4.3 s."""
SHOWN = 1000
"""Largest number of samples in a summary."""
BUCKETS_SECONDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Upper ends of the buckets; they resolve a model that takes two seconds."""


class LatencyTrack:
    """Latencies of windows.

    Parameters
    ----------
    kept : int
        Number of last windows kept for percentiles.

    """

    def __init__(self, kept: int = KEPT) -> None:
        self._last = np.zeros(kept, dtype=np.float64)
        self.windows = 0
        """Number of windows added so far."""
        self.seconds = 0.0
        """Total latency of all windows, seconds."""
        self.slowest_ms = 0.0
        """Highest latency of all windows, ms."""
        self._counts = [0] * (len(BUCKETS_SECONDS) + 1)

    def add(self, milliseconds: float) -> None:
        """Add one window's latency in ms."""
        self._last[self.windows % len(self._last)] = milliseconds
        self.windows += 1
        self.seconds += milliseconds / MS_PER_SECOND
        self.slowest_ms = max(self.slowest_ms, milliseconds)
        self._counts[bisect_left(BUCKETS_SECONDS, milliseconds / MS_PER_SECOND)] += 1

    @property
    def last_ms(self) -> float | None:
        """Latency of the last window in ms; None before the first."""
        return float(self._last[(self.windows - 1) % len(self._last)]) if self.windows else None

    def buckets(self) -> list[tuple[float, int]]:
        """Return (upper end in seconds, windows up to it), cumulative; the last end is infinite."""
        ends = (*BUCKETS_SECONDS, float("inf"))
        return [(end, sum(self._counts[: index + 1])) for index, end in enumerate(ends)]

    def summary(self, hop_seconds: float, window_seconds: float) -> dict[str, Any]:
        """Summarise the last windows.

        Parameters
        ----------
        hop_seconds, window_seconds : float
            Hop and window of the model; ``real_time_factor`` and ``share_of_window`` are the ratios
            of the median latency to them.

        Returns
        -------
        dict
            As a variant in ``bench.json``: ``n`` (windows kept), ``p50_ms``, ``p90_ms``,
            ``p99_ms``, ``mean_ms``, ``min_ms``, ``max_ms``, ``real_time_factor``,
            ``share_of_window``, ``hop_seconds``, ``window_seconds``, ``samples_ms`` (thinned).
            Before the first window ``n`` is 0 and the others are None.

        """
        given = {"hop_seconds": hop_seconds, "window_seconds": window_seconds}
        count = min(self.windows, len(self._last))
        if count == 0:
            nothing = dict.fromkeys(
                ("p50_ms", "p90_ms", "p99_ms", "mean_ms", "min_ms", "max_ms", "real_time_factor",
                 "share_of_window")
            )  # fmt: skip
            return {"n": 0, **nothing, **given, "samples_ms": []}
        oldest = self.windows % len(self._last) if self.windows > count else 0
        samples = np.roll(self._last[:count], -oldest)
        p50, p90, p99 = (float(value) for value in np.percentile(samples, (50, 90, 99)))
        return {
            "n": count, "p50_ms": p50, "p90_ms": p90, "p99_ms": p99,
            "mean_ms": float(samples.mean()), "min_ms": float(samples.min()),
            "max_ms": float(samples.max()),
            "real_time_factor": p50 / MS_PER_SECOND / hop_seconds,
            "share_of_window": p50 / MS_PER_SECOND / window_seconds,
            **given, "samples_ms": thin(samples, SHOWN),
        }  # fmt: skip
