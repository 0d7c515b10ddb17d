"""Confidence intervals and tests for accuracies, differences and rank correlations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeprune_calibration import count_intervals
from edgeprune_calibration.count_intervals import Z as Z_95

LEAST_GROUPS = 4  # fewest groups worth resampling


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """Return Wilson's 95 % score interval for a proportion (Wilson 1927).

    Raises
    ------
    ValueError
        ``total`` is not positive, or ``correct`` is out of range (allowed: 0 to ``total``).

    """
    if total <= 0 or not 0 <= correct <= total:
        raise ValueError(f"{correct} of {total} is not a proportion")
    return count_intervals.wilson_interval(correct, total)


def bootstrap_interval(
    values: NDArray[np.floating] | NDArray[np.bool_], groups: Sequence[str] | None = None, *,
    draws: int = 4000, seed: int = 0,
) -> tuple[float, float]:  # fmt: skip
    """Return a 95 % percentile bootstrap interval of the mean (Efron 1979).

    Parameters
    ----------
    values : array (n,)
        One value per clip (1 or 0 for correct or not, or its mean over seeds).
    groups : sequence of str, optional
        Groups to resample whole (speakers, recordings), because their clips are correlated.
    draws, seed : int
        Number of resamples and random seed.

    """
    data = np.asarray(values, dtype=float)
    if data.size == 0:
        raise ValueError("values is empty")
    names = np.arange(data.size) if groups is None else np.asarray(groups)
    _, codes = np.unique(names, return_inverse=True)
    sums, counts = np.bincount(codes, weights=data), np.bincount(codes).astype(float)
    generator = np.random.default_rng(seed)
    weights = generator.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=draws)
    means = (weights @ sums) / (weights @ counts)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def sign_flip_test(
    differences: NDArray[np.floating], groups: Sequence[str] | None = None, *,
    draws: int = 10_000, seed: int = 0,
) -> float:  # fmt: skip
    """Return the two-sided p-value of a paired permutation test of a zero mean difference.

    Under the null hypothesis the two values of a pair are exchangeable: the signs of the
    differences are flipped at random (Fisher 1935), those of a group together.

    Parameters
    ----------
    differences : array (n,)
        One per clip, between two values measured on that clip.
    groups : sequence of str, optional
        Clips of one group are flipped together.
    draws, seed : int
        Number of random flips and random seed; the observed signs count as one more draw.

    """
    data = np.asarray(differences, dtype=float)
    if data.size == 0:
        raise ValueError("differences is empty")
    names = np.arange(data.size) if groups is None else np.asarray(groups)
    _, codes = np.unique(names, return_inverse=True)
    sums = np.bincount(codes, weights=data)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(draws, len(sums)))
    extreme = np.abs(signs @ sums) >= abs(sums.sum()) - 1e-12
    return float((1 + extreme.sum()) / (1 + draws))


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Return Spearman's rho and its 95 % interval (Bonett and Wright 2000, Psychometrika 65).

    Parameters
    ----------
    x, y : sequence of float
        At least four pairs.

    Returns
    -------
    rho : float
        NaN if either is constant.
    interval : tuple of float
        Assumes independent pairs; NaN if rho is 1 or -1, where the method is undefined.

    Raises
    ------
    ValueError
        There are fewer than four pairs.

    """
    if len(x) != len(y) or len(x) < 4:
        raise ValueError(
            f"rank correlation needs 4 or more pairs; got {len(x)} and {len(y)} values"
        )
    ranks = [_ranks(values) for values in (x, y)]
    if any(np.ptp(r) == 0 for r in ranks):
        return float("nan"), (float("nan"), float("nan"))
    rho = float(np.clip(np.corrcoef(ranks[0], ranks[1])[0, 1], -1.0, 1.0))
    if abs(rho) > 1 - 1e-9:
        return rho, (float("nan"), float("nan"))
    centre = np.arctanh(rho)
    half = Z_95 * np.sqrt((1 + rho**2 / 2) / (len(x) - 3))
    return rho, (float(np.tanh(centre - half)), float(np.tanh(centre + half)))


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """Return ranks from 1; ties get the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[place])
