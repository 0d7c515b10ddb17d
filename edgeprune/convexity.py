"""Graph convexity: how convex the classes are in a space, exactly, over all pairs.

Tětková, Brüsch, Dorszewski et al. 2023/2025 ("On convex decision regions in deep network
representations"); used for pruning in Dorszewski et al. 2024, arXiv 2408.11858.

The steps:
1. Euclidean distances between all points; each point's k nearest neighbours, exactly.
2. A graph with an edge where either point is among the other's neighbours, weighted by distance.
3. For every ordered pair of one class, a shortest path; the pair's score is the share of the
   path's inner points that belong to the class, 1 if there are none, 0 if there is no path.
4. A class's score is the mean over its pairs; the null is the same with labels permuted.

One shortest-path tree per source serves all its pairs, so that nothing is sampled. Where two
shortest paths are equally long, Dijkstra's first-found one counts. Exact duplicates are
neighbours at a vanishing distance (the reference lets them use up slots without an edge).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

NO_NODE = -9999  # what scipy's dijkstra writes where a node has no predecessor
BLOCK_BYTES = 64 * 2**20  # working memory for one block of distances


@dataclass(frozen=True)
class Convexity:
    """The convexity of one labelling in one space."""

    pooled: float
    """Mean over all pairs of one class, 0 to 1 (what PyPI's nnconvexity reports)."""
    mean_of_classes: float
    """Mean of the classes' scores, 0 to 1 (what the papers plot)."""
    per_class: dict[str, float]
    """Each class's score; a class with one member has no pair and is left out."""
    null_mean: float
    """Mean of ``mean_of_classes`` under permuted labels."""
    null_high: float
    """The 97.5th percentile of the same."""


def neighbour_graph(points: NDArray[np.floating], k: int) -> csr_matrix:
    """Join each point to its k nearest, symmetrically.

    Parameters
    ----------
    points : array (n, d)
    k : int
        Neighbours, 1 <= k < n.

    Returns
    -------
    csr_matrix (n, n)
        Euclidean distances of the edges.

    Raises
    ------
    ValueError
        Too few points, or a value that is not finite.

    """
    x = np.ascontiguousarray(points, dtype=np.float64)
    n = len(x)
    if x.ndim != 2 or not 1 <= k < n:
        raise ValueError(f"points {x.shape} do not have k = {k} neighbours each")
    if not np.isfinite(x).all():
        raise ValueError("points hold a value that is not finite")
    x = x - x.mean(axis=0)
    squares = np.einsum("ij,ij->i", x, x)
    rows = max(1, BLOCK_BYTES // (8 * n))
    columns = np.empty((n, k), dtype=np.int64)
    for start in range(0, n, rows):
        stop = min(start + rows, n)
        distance2 = squares[start:stop, None] + squares[None, :] - 2.0 * (x[start:stop] @ x.T)
        distance2[np.arange(stop - start), np.arange(start, stop)] = np.inf
        columns[start:stop] = np.argpartition(distance2, k - 1, axis=1)[:, :k]
    source = np.repeat(np.arange(n), k)
    target = columns.ravel()
    # Differences, not the expanded square: exact for near points, and zero for duplicates only.
    length = np.empty(n * k)
    for start in range(0, n * k, rows):
        part = slice(start, start + rows)
        length[part] = np.linalg.norm(x[source[part]] - x[target[part]], axis=1)
    positive = length[length > 0]
    length[length == 0] = (positive.min() if positive.size else 1.0) * 1e-9
    graph = csr_matrix((length, (source, target)), shape=(n, n))
    return graph.maximum(graph.T)


def shortest_path_trees(graph: csr_matrix) -> NDArray[np.int32]:
    """Return every source's tree: entry (s, v) is the node before v on the way from s."""
    _, before = dijkstra(graph, directed=False, return_predecessors=True)
    return np.asarray(before, dtype=np.int32)


def pair_scores(
    before: NDArray[np.int32], codes: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Score all ordered pairs of one class.

    Parameters
    ----------
    before : array (n, n)
        The predecessors of ``shortest_path_trees``.
    codes : array (n,)
        Each point's class, from 0.

    Returns
    -------
    scores : array (pairs,)
        Share of the inner points in the class, 0 to 1.
    classes : array (pairs,)
        The class of each pair.

    """
    members = [np.flatnonzero(codes == c) for c in range(int(codes.max()) + 1)]
    source = np.concatenate([np.repeat(m, len(m)) for m in members])
    target = np.concatenate([np.tile(m, len(m)) for m in members])
    apart = source != target
    source, target = source[apart], target[apart]
    own = codes[source]
    inside = np.zeros(len(source))
    inner = np.zeros(len(source))
    node = before[source, target]
    reached = node != NO_NODE
    walking = np.flatnonzero(reached & (node != source))
    while walking.size:
        here = node[walking]
        inner[walking] += 1
        inside[walking] += codes[here] == own[walking]
        node[walking] = before[source[walking], here]
        walking = walking[node[walking] != source[walking]]
    scores = np.where(inner > 0, inside / np.maximum(inner, 1), 1.0)
    scores[~reached] = 0.0
    return scores, own


def convexity(
    points: NDArray[np.floating],
    labels: Sequence[str],
    *,
    k: int = 10,
    permutations: int = 20,
    seed: int = 0,
) -> Convexity:
    """Measure the graph convexity of a labelling, with a label-permutation null.

    Parameters
    ----------
    points : array (n, d)
        One layer's representation of n clips.
    labels : sequence of str
        Their classes; any hashable strings.
    k : int
        Neighbours in the graph (the papers use 10).
    permutations : int
        Random labellings in the null.
    seed : int
        Of the permutations.

    Raises
    ------
    ValueError
        Too few points, values that are not finite, or no class with two members.

    """
    return convexity_of(shortest_path_trees(neighbour_graph(points, k)), labels, permutations, seed)


def convexity_of(
    before: NDArray[np.int32], labels: Sequence[str], permutations: int = 20, seed: int = 0
) -> Convexity:
    """Measure convexity on trees that exist already, so that many labellings share them."""
    names, codes = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    codes = codes.astype(np.int64)
    scores, classes = pair_scores(before, codes)
    if not scores.size:
        raise ValueError("no class has two members")
    per_class = _class_means(scores, classes, len(names))
    generator = np.random.default_rng(seed)
    null = [
        np.nanmean(_class_means(*pair_scores(before, generator.permutation(codes)), len(names)))
        for _ in range(permutations)
    ]
    return Convexity(
        pooled=float(scores.mean()),
        mean_of_classes=float(np.nanmean(per_class)),
        per_class={str(n): float(v) for n, v in zip(names, per_class, strict=True) if v == v},
        null_mean=float(np.mean(null)) if null else float("nan"),
        null_high=float(np.quantile(null, 0.975)) if null else float("nan"),
    )


def _class_means(
    scores: NDArray[np.float64], classes: NDArray[np.int64], count: int
) -> NDArray[np.float64]:
    pairs = np.bincount(classes, minlength=count)
    sums = np.bincount(classes, weights=scores, minlength=count)
    with np.errstate(invalid="ignore"):
        return np.where(pairs > 0, sums / np.maximum(pairs, 1), np.nan)


def first_within(curve: Sequence[float], tolerance: float) -> int:
    """Return the first index whose value is within ``tolerance`` (a share) of the curve's peak.

    Index 0 is the encoder's input, which no cut can stand after, so the search starts at 1.
    """
    layers = np.asarray(curve[1:], dtype=float)
    if layers.size == 0:
        raise ValueError("the curve has no layer")
    return 1 + int(np.argmax(layers >= layers.max() * (1.0 - tolerance)))
