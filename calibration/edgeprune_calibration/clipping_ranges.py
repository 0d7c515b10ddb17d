"""Clipping ranges of a quantizer from a histogram: extrema, percentile, entropy, squared error.

A ``Tally`` holds extrema, count and a histogram over [-limit, limit], whose limit is a power of
two. If a value lies outside, the limit is doubled and bins are merged in pairs: no value is counted
twice or moved by more than a bin, and the tallies of parts merge to that of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.errors import EdgepruneError

BINS = 4096  # divisible by 4, so that merged pairs coincide with bins
SMALLEST_LIMIT = 2.0**-40
SHRINKS = 100  # number of steps from the extrema to zero that the squared error is evaluated at
ENTROPY_LEVELS = 128  # levels of the magnitude in int8


@dataclass(frozen=True)
class Range:
    """Range of a quantizer's levels; contains zero."""

    low: float
    high: float


@dataclass(frozen=True)
class Tally:
    """Histogram and extrema of some values."""

    counts: NDArray[np.int64]
    """Histogram (BINS,) over [-limit, limit)."""
    limit: float
    """Limit of the histogram, a power of two."""
    lowest: float
    highest: float

    @property
    def count(self) -> int:
        """Number of values."""
        return int(self.counts.sum())

    @property
    def width(self) -> float:
        """Width of a bin."""
        return 2 * self.limit / BINS

    @property
    def centres(self) -> NDArray[np.float64]:
        """Centres of the bins, (BINS,)."""
        return (np.arange(BINS, dtype=np.float64) + 0.5) * self.width - self.limit


NOTHING = Tally(np.zeros(BINS, dtype=np.int64), SMALLEST_LIMIT, math.inf, -math.inf)
"""Tally of no values."""


def tally(values: NDArray[np.floating]) -> Tally:
    """Count values of any shape.

    Raises
    ------
    EdgepruneError
        A value is not finite.

    """
    flat = np.asarray(values, dtype=np.float64).ravel()
    if flat.size == 0:
        return NOTHING
    lowest, highest = float(flat.min()), float(flat.max())
    if not math.isfinite(lowest) or not math.isfinite(highest):
        raise EdgepruneError("A range cannot be computed: the values contain NaN or infinity.")
    limit = _limit_of(max(abs(lowest), abs(highest)))
    places = np.floor(flat * (BINS / (2 * limit))).astype(np.int64) + BINS // 2  # exact
    counts = np.bincount(places, minlength=BINS)
    return Tally(counts.astype(np.int64), limit, lowest, highest)


def merge(first: Tally, second: Tally) -> Tally:
    """Return the tally of the values of both."""
    limit = max(first.limit, second.limit)
    return Tally(
        _widened(first, limit) + _widened(second, limit), limit,
        min(first.lowest, second.lowest), max(first.highest, second.highest),
    )  # fmt: skip


def add(known: Tally, values: NDArray[np.floating]) -> Tally:
    """Return a tally with further values."""
    return merge(known, tally(values))


def percentile(known: Tally, per_cent: float) -> float:
    """Return a percentile, exact to the width of a bin.

    Parameters
    ----------
    known : Tally
        Tally of at least one value.
    per_cent : float
        0 to 100.

    """
    _check(known)
    wanted = per_cent / 100 * known.count
    below = np.cumsum(known.counts)
    place = min(int(np.searchsorted(below, wanted)), BINS - 1)
    before = float(below[place] - known.counts[place])
    share = (wanted - before) / max(1, int(known.counts[place]))
    at = (place + min(1.0, max(0.0, share))) * known.width - known.limit
    return min(known.highest, max(known.lowest, at))


def min_max(known: Tally) -> Range:
    """Return the range from the lowest to the highest value, extended to zero."""
    _check(known)
    return Range(min(0.0, known.lowest), max(0.0, known.highest))


def by_percentile(known: Tally, per_cent: float = 99.99) -> Range:
    """Return the range that excludes equal shares of the values on both sides.

    Parameters
    ----------
    known : Tally
        Tally of the values.
    per_cent : float
        Share kept, 50 to 100.

    """
    beyond = (100 - per_cent) / 2
    low, high = percentile(known, beyond), percentile(known, 100 - beyond)
    return Range(min(0.0, low), max(0.0, high))


def by_entropy(known: Tally, levels: int = ENTROPY_LEVELS) -> Range:
    """Return the range whose int8 histogram has the least divergence from the float one.

    Migacz 2017, "8-bit inference with TensorRT": of all magnitudes to clip at, the one with the
    least Kullback-Leibler divergence between the histogram with its tail added to the last bin, and
    the same in ``levels`` levels. The range is that on both sides, but at most the extrema.

    Parameters
    ----------
    known : Tally
        Tally of the values.
    levels : int
        Levels of the magnitude: 128 for int8.

    """
    extreme = min_max(known)
    half = BINS // 2
    sizes = (known.counts[half:] + known.counts[:half][::-1]).astype(np.float64)  # (half,)
    used = int(np.flatnonzero(sizes)[-1]) + 1
    costs = {i: _divergence(sizes[:used], i, levels) for i in range(levels, used + 1)}
    if not costs:
        return extreme
    clip = min(costs, key=lambda i: (costs[i], -i)) * known.width
    return Range(max(extreme.low, -clip), min(extreme.high, clip))


def by_mse(known: Tally, levels: int = 256, *, symmetric: bool = False) -> Range:
    """Return the range for which rounding and clipping have the least squared error.

    The low end, then the high end, then both again are moved in from the extrema by hundredths.

    Parameters
    ----------
    known : Tally
        Tally of the values.
    levels : int
        Number of levels: 256 for 8 bits.
    symmetric : bool
        Whether zero is the middle level, as for weights.

    """
    extreme = min_max(known)
    used = known.counts > 0
    values, counts = known.centres[used], known.counts[used].astype(np.float64)
    values = values.clip(known.lowest, known.highest)
    steps = np.arange(1, SHRINKS + 1) / SHRINKS

    def cost(low: float, high: float) -> float:
        return float(counts @ (rounded(values, Range(low, high), levels) - values) ** 2)

    if symmetric:
        most = max(-extreme.low, extreme.high)
        best = min((most * s for s in steps), key=lambda t: cost(-t, t))
        return Range(-best, best)
    low, high = min(((extreme.low * s, extreme.high * s) for s in steps), key=lambda r: cost(*r))
    for _ in range(2):
        low = min((extreme.low * s for s in (0.0, *steps)), key=lambda x: cost(x, high))
        high = min((extreme.high * s for s in (0.0, *steps)), key=lambda x: cost(low, x))
    return Range(low, high)


METHODS: dict[str, Callable[[Tally], Range]] = {
    "minmax": min_max, "percentile": by_percentile, "entropy": by_entropy, "mse": by_mse,
}  # fmt: skip
"""Method for choosing a range: tally -> range."""


def rounded(values: NDArray[np.float64], clip: Range, levels: int) -> NDArray[np.float64]:
    """Return values quantized to evenly spaced levels, one of which is zero.

    Parameters
    ----------
    values : array
        Values.
    clip : Range
        Clipping range.
    levels : int
        Number of levels.

    """
    step = (clip.high - clip.low) / (levels - 1)
    if step == 0:
        return np.zeros_like(values)
    zero = round(-clip.low / step)
    return (np.clip(np.rint(values / step), -zero, levels - 1 - zero)) * step


def _divergence(sizes: NDArray[np.float64], clip: int, levels: int) -> float:
    """Return the divergence of a magnitude histogram, clipped at a bin, from its quantized form."""
    wanted = sizes[:clip].copy()
    wanted[-1] += sizes[clip:].sum()
    edges = np.arange(levels) * clip // levels
    filled = sizes[:clip] > 0
    sums = np.add.reduceat(sizes[:clip], edges)
    numbers = np.add.reduceat(filled.astype(np.float64), edges)
    widths = np.diff([*edges, clip])
    given = np.repeat(sums / np.maximum(numbers, 1), widths) * filled
    there = wanted > 0
    if given.sum() == 0 or not (given[there] > 0).any():
        return math.inf
    p, q = wanted[there] / wanted.sum(), given[there] / given.sum()
    missing = q == 0  # the tail was added to a bin that was empty
    q = np.where(missing, 1e-9, q)
    return float(p @ np.log(p / q))


def _limit_of(largest: float) -> float:
    """Return the least power of two above a magnitude."""
    return max(SMALLEST_LIMIT, math.ldexp(1.0, math.frexp(largest)[1]))


def _widened(known: Tally, limit: float) -> NDArray[np.int64]:
    counts, now = known.counts, known.limit
    while now < limit:
        joined = np.zeros(BINS, dtype=np.int64)
        joined[BINS // 4 : 3 * BINS // 4] = counts.reshape(-1, 2).sum(axis=1)
        counts, now = joined, 2 * now
    return counts


def _check(known: Tally) -> None:
    if known.count == 0:
        raise EdgepruneError("There are no values to compute a range from.")
