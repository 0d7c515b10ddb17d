"""Percentiles of latency samples, with the number of samples each percentile needs.

Pure functions on arrays. Three distribution-free rules, all from the binomial distribution of the
number of samples, out of n independent ones, that exceed a percentile:

- **Early stopping** (MLPerf Inference rules, "Early Stopping Criterion", ``inference_rules.adoc``
  of mlcommons/inference_policies; LoadGen's ``results.cc``): with t the largest number of samples
  for which P(Binomial(n, 1 - p) <= t) <= 1 %, the estimate of percentile p is the t-th largest
  sample. It is an upper bound: the true percentile is below it with at least 99 % confidence.
- **Needed samples**: the smallest n for which such a t exists (p90: 64, p99: 662). With fewer
  samples the percentile is not reported, only the reason.
- **Confidence interval** of a percentile: two order statistics that enclose it with at least 95 %
  confidence (David and Nagaraja 2003, *Order Statistics*, 7.1).
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99_9": 0.999}
BOUNDED = ("p90", "p99")
"""Percentiles whose early-stopping bound is reported."""
CONFIDENCE = 0.99
"""Confidence of the early-stopping bound, as in MLPerf."""
COVERAGE = 0.95
"""Smallest coverage probability of the confidence intervals."""

Samples = NDArray[np.float64]


def binomial_cdf(n: int, share: float) -> NDArray[np.float64]:
    """Return P(Binomial(n, share) <= k) for k = 0 to n, array (n + 1,)."""
    k = np.arange(n)
    steps = np.log((n - k) / (k + 1)) + math.log(share / (1 - share))
    logs = n * math.log1p(-share) + np.concatenate([[0.0], np.cumsum(steps)])
    whole: NDArray[np.float64] = np.minimum(np.cumsum(np.exp(logs)), 1.0)
    return whole


def discarded(n: int, percentile: float, confidence: float = CONFIDENCE) -> int:
    """Return LoadGen's t: the t-th largest of n samples bounds the percentile; 0: no sample does.

    Parameters
    ----------
    n : int
        Number of samples.
    percentile : float
        Between 0 and 1, both excluded.
    confidence : float
        Probability that the true percentile is below the bound.
    """
    enough = np.count_nonzero(binomial_cdf(n, 1 - percentile) <= 1 - confidence)
    return max(0, int(enough) - 1)  # t = 0 would be a sample above the largest


@cache
def needed(percentile: float, confidence: float = CONFIDENCE) -> int:
    """Return the smallest number of samples for which the percentile has a bound.

    >>> [needed(p) for p in (0.5, 0.9, 0.95, 0.99)]
    [11, 64, 130, 662]
    """
    high = 2
    while discarded(high, percentile, confidence) == 0:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if discarded(middle, percentile, confidence) else (middle, high)
    return high


def bound(samples: Samples, percentile: float, confidence: float = CONFIDENCE) -> float | None:
    """Return the early-stopping estimate of a percentile; None if there are too few samples."""
    t = discarded(len(samples), percentile, confidence)
    return float(np.sort(samples)[len(samples) - t]) if t else None


def interval(
    samples: Samples, percentile: float, coverage: float = COVERAGE
) -> tuple[float, float] | None:
    """Return two of the samples that enclose a percentile; None if there are too few samples.

    Each tail is at most (1 - coverage) / 2: X_(l) exceeds the percentile only if
    fewer than l samples are below it.
    """
    n, tail = len(samples), (1 - coverage) / 2
    under = binomial_cdf(n, percentile)
    low = int(np.count_nonzero(under <= tail))  # P(fewer than low are below) <= tail
    high = int(np.searchsorted(under, 1 - tail)) + 1  # P(high or more are below) <= tail
    if low < 1 or high > n:
        return None
    ordered = np.sort(samples)
    return float(ordered[low - 1]), float(ordered[high - 1])


def describe(samples: Samples) -> dict[str, Any]:
    """Return the summary statistics of one phase's samples.

    Parameters
    ----------
    samples : array (n,)
        Latencies in ms.

    Returns
    -------
    dict
        ``n``, ``min``, ``mean``, ``std`` (sample standard deviation, n - 1), ``median``, ``mad``
        (median absolute deviation, not scaled), ``max``; for each of ``PERCENTILES`` an entry with
        ``ms``, ``needs`` (samples), ``interval`` (95 %, or None), and ``missing`` (the reason) if
        ``ms`` is None; ``early_stopping``: the same for ``BOUNDED``, with ``ms`` and the number of
        ``discarded`` samples.

    """
    n = len(samples)
    if n == 0:
        return {"n": 0, "missing": "nothing was measured"}
    median = float(np.median(samples))
    said: dict[str, Any] = {
        "n": n, "min": float(samples.min()), "mean": float(samples.mean()),
        "std": float(samples.std(ddof=1)) if n > 1 else None,
        **({} if n > 1 else {"std_missing": _few(samples, 2)}), "median": median,
        "mad": float(np.median(np.abs(samples - median))), "max": float(samples.max()),
    }  # fmt: skip
    for name, percentile in PERCENTILES.items():
        said[name] = _percentile(samples, percentile)
    said["early_stopping"] = {name: _bound(samples, PERCENTILES[name]) for name in BOUNDED}
    return said


def _percentile(samples: Samples, percentile: float) -> dict[str, Any]:
    wanted = needed(percentile)
    if len(samples) < wanted:
        return {"ms": None, "needs": wanted, "interval": None, "missing": _few(samples, wanted)}
    ends = interval(samples, percentile)
    return {"ms": float(np.quantile(samples, percentile)), "needs": wanted,
            "interval": list(ends) if ends else None}  # fmt: skip


def _bound(samples: Samples, percentile: float) -> dict[str, Any]:
    wanted, t = needed(percentile), discarded(len(samples), percentile)
    found: dict[str, Any] = {"ms": bound(samples, percentile), "needs": wanted,
                             "discarded": max(0, t - 1), "confidence": CONFIDENCE}  # fmt: skip
    return found if t else found | {"missing": _few(samples, wanted)}


def _few(samples: Samples, wanted: int) -> str:
    return f"{len(samples)} samples; {wanted} are needed"


MS_PER_SECOND = 1000


def thin(samples: Samples, most: int) -> list[float]:
    """Keep at most `most` samples, evenly spaced and in order, including the first and the last."""
    if len(samples) > most:
        samples = samples[np.linspace(0, len(samples) - 1, most).round().astype(int)]
    return [round(float(value), 6) for value in samples]
