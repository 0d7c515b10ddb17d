"""95 % intervals of counts and shares: exact Poisson (Garwood 1936) and Wilson (1927)."""

from __future__ import annotations

import math
from collections.abc import Callable

SIDE = 0.025  # of 95 %, on each side
Z = 1.959963984540054  # normal quantile of 0.975


def poisson_interval(count: int) -> tuple[float, float]:
    """Return the exact 95 % interval of the mean of a Poisson distributed count.

    Garwood 1936, "Fiducial limits for the Poisson distribution"; by bisection, to nine digits.

    Parameters
    ----------
    count : int >= 0
        Observed count.

    """
    top = count + 10 * math.sqrt(count + 1) + 10
    low = 0.0
    if count:
        low = _where(lambda mean: 1 - poisson_below(count - 1, mean) >= SIDE, 0.0, float(count))
    return low, _where(lambda mean: poisson_below(count, mean) <= SIDE, float(count), top)


def poisson_below(count: int, mean: float) -> float:
    """Return the probability that a Poisson distributed count is at most ``count``."""
    if mean <= 0:
        return 1.0
    logs = (i * math.log(mean) - mean - math.lgamma(i + 1) for i in range(count + 1))
    return min(1.0, math.fsum(math.exp(x) for x in logs))


def wilson_interval(hits: int, tries: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share; (0, 1) without tries."""
    if tries == 0:
        return 0.0, 1.0
    share, spread = hits / tries, Z**2 / tries
    middle = share + spread / 2
    half = Z * math.sqrt(share * (1 - share) / tries + spread / (4 * tries))
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))


def _where(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Return, by bisection, where a condition that is false at ``low`` becomes true."""
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
