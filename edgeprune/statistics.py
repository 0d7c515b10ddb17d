"""Intervals for accuracies and their differences: arithmetic on arrays, nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Z_95 = 1.959963984540054  # normal quantile of 0.975


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """Return Wilson's 95 % score interval for a proportion (Wilson 1927).

    Raises
    ------
    ValueError
        ``total`` is not positive, or ``correct`` lies outside 0 to ``total``.

    """
    if total <= 0 or not 0 <= correct <= total:
        raise ValueError(f"{correct} of {total} is not a proportion")
    p, z2 = correct / total, Z_95**2
    centre = (p + z2 / (2 * total)) / (1 + z2 / total)
    half = Z_95 / (1 + z2 / total) * float(np.sqrt(p * (1 - p) / total + z2 / (4 * total**2)))
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap_interval(
    values: NDArray[np.floating] | NDArray[np.bool_], groups: Sequence[str] | None = None, *,
    draws: int = 4000, seed: int = 0,
) -> tuple[float, float]:  # fmt: skip
    """Return a 95 % percentile bootstrap interval of the mean (Efron 1979).

    Parameters
    ----------
    values : array (n,)
        One number per clip (1 or 0 for right or wrong, or its mean over seeds).
    groups : sequence of str, optional
        Draw whole groups (speakers, recordings) with replacement: clips of one group are alike.
    draws, seed : int
        Resamples and their seed.

    """
    data = np.asarray(values, dtype=float)
    if data.size == 0:
        raise ValueError("no value to draw from")
    names = np.arange(data.size) if groups is None else np.asarray(groups)
    _, codes = np.unique(names, return_inverse=True)
    sums, counts = np.bincount(codes, weights=data), np.bincount(codes).astype(float)
    generator = np.random.default_rng(seed)
    weights = generator.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=draws)
    means = (weights @ sums) / (weights @ counts)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
