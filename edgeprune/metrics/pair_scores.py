"""Convexity scores of all pairs of points of a class, and their bootstrap intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from edgeprune.metrics.shortest_paths import CACHE_BYTES, NO_NODE, count_inner, shortest_path_trees


def score_pairs(
    graph: csr_matrix, tables: list[NDArray[np.unsignedinteger]], *, keep: bool
) -> tuple[float, float, list[NDArray[np.float64]], list[list[NDArray[np.float32]]]]:
    """Score all pairs of one class, for every column of every table of class indices (n, columns).

    Returns
    -------
    adjacent, longer : float
        Shares of all ordered pairs whose path has no inner point, and one or more.
    sums : list of array (n, columns)
        Sum of the scores of each point's pairs (the point being the source), per table.
    pairs : list of lists of array (members, members)
        Scores of each class's pairs for each table's first column; empty unless ``keep``.

    """
    n = graph.shape[0]
    codes = np.concatenate(tables, axis=1)
    firsts = np.cumsum([0] + [table.shape[1] for table in tables[:-1]])
    members = [[np.flatnonzero(t[:, 0] == c) for c in range(t[:, 0].max() + 1)] for t in tables]
    pairs = [[np.zeros((len(m), len(m)), np.float32) for m in ms if keep] for ms in members]
    sums = np.empty(codes.shape)
    adjacent = longer = 0
    rows = max(1, CACHE_BYTES // (2 * n * codes.shape[1]))
    for sources, before in shortest_path_trees(graph, rows):
        own = codes == codes[sources][:, None]
        own[np.arange(len(sources)), sources] = False
        inner, inside = count_inner(sources, before, own)
        direct = (before != NO_NODE) & (inner == 0)
        adjacent += int(np.count_nonzero(direct))
        longer += int(np.count_nonzero(inner))
        inside[direct] = 1  # for a denominator of 1
        inside *= own
        share = 1 / np.maximum(inner, 1)
        sums[sources] = (share[:, None] @ inside)[:, 0]
        for first, classes, matrices in zip(firsts, members, pairs, strict=True):
            for row, source in enumerate(sources if keep else ()):
                c = codes[source, first]
                place = np.searchsorted(classes[c], source)
                matrices[c][place] = (share[row] * inside[row, :, first])[classes[c]]
    every = n * (n - 1)
    return adjacent / every, longer / every, np.split(sums, firsts[1:], axis=1), pairs


def class_means(
    sums: NDArray[np.float64], codes: NDArray[np.unsignedinteger]
) -> NDArray[np.float64]:
    """Return the mean score of every class that has pairs, from the sums of its points."""
    sizes = np.bincount(codes)
    total = np.bincount(codes, weights=sums)
    scored = sizes > 1
    return total[scored] / (sizes * (sizes - 1))[scored]


def intervals(
    pairs: list[NDArray[np.float32]], codes: NDArray[np.unsignedinteger],
    units: NDArray[np.integer], draws: int, seed: int,
) -> tuple[tuple[float, float], tuple[float, float]]:  # fmt: skip
    """Resample units with replacement and return the intervals of the scores.

    A pair across two units is weighted by the product of their counts, and a pair within a unit by
    the unit's count: a clip and its own copy, or a clip and a copy of another clip of its unit, do
    not form a pair. Because resampling makes pairs across units rarer, the two kinds are averaged
    separately and combined by their shares among all pairs of the class. In each draw, a class
    counts if it can be scored.

    Returns
    -------
    interval, pooled_interval : tuple of two floats
        95 % intervals of the mean over classes, and of the mean over all pairs.

    """
    generator = np.random.default_rng((seed, 1))
    count = int(units.max()) + 1
    drawn = np.empty((draws, count), dtype=np.float32)
    for row in drawn:
        row[:] = np.bincount(generator.integers(count, size=count), minlength=count)
    scores, weight = np.zeros((len(pairs), draws)), np.zeros((len(pairs), draws))
    for c, found in enumerate(pairs):
        scores[c], weight[c] = _class_draws(found, units[codes == c], drawn)
    some = weight.sum(axis=0) > 0
    if not some.any():
        return (np.nan, np.nan), (np.nan, np.nan)
    scores, weight = scores[:, some], weight[:, some]
    means = scores.sum(axis=0) / (weight > 0).sum(axis=0)
    pooled = (scores * weight).sum(axis=0) / weight.sum(axis=0)
    low, high = np.quantile([means, pooled], (0.025, 0.975), axis=1).tolist()
    return (low[0], high[0]), (low[1], high[1])


def _class_draws(
    scores: NDArray[np.float32], unit: NDArray[np.integer], drawn: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a class's score and number of drawn pairs per draw; both 0 where it has no score."""
    same = unit[:, None] == unit
    size = same.sum(axis=1)
    w = drawn[:, unit]
    across = np.einsum("di,di->d", w @ np.where(same, 0, scores), w, dtype=np.float64)
    w = w.astype(np.float64)
    across_pairs = w.sum(axis=1) ** 2 - w**2 @ size
    within = w @ np.where(same, scores, 0).sum(axis=1, dtype=np.float64)
    within_pairs = w @ (size - 1)
    every = len(unit) * (len(unit) - 1)
    share = (size - 1).sum() / max(every, 1)
    there = ((share == 1) | (across_pairs > 0)) & ((share == 0) | (within_pairs > 0)) & (every > 0)
    value = share * within / np.maximum(within_pairs, 1)
    value += (1 - share) * across / np.maximum(across_pairs, 1)
    return np.where(there, value, 0.0), np.where(there, across_pairs + within_pairs, 0.0)
