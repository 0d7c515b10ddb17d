"""Nearest-neighbour graph of points, its shortest paths, and the inner points of the paths.

1. ``neighbour_graph`` joins every point to its k nearest neighbours, found exactly.
2. ``shortest_path_trees`` runs Dijkstra from every point; one tree serves all pairs of its source.
3. ``count_inner`` counts the marked points on all paths at once by pointer doubling.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from edgeprune_device.errors import EdgepruneError

NO_NODE = -9999  # scipy's dijkstra writes this for a node without predecessor
STEP = 1e-9  # cost of a step in addition to its length, as a share of the mean edge length
BLOCK_BYTES = 64 * 2**20  # working memory for a block of distances or of trees
CACHE_BYTES = 2**20  # working memory that fits the processor's cache


def neighbour_graph(points: NDArray[np.floating], k: int, *, reference: bool = False) -> csr_matrix:
    """Build the symmetric k-nearest-neighbour graph of the points.

    Parameters
    ----------
    points : array (n, d)
        Points, of finite values.
    k : int
        Number of neighbours, 1 <= k < n.
    reference : bool
        Follow nnconvexity 0.1.1: exact duplicates count as neighbours but get no edge, and a step
        costs its length alone.

    Returns
    -------
    csr_matrix (n, n)
        Euclidean lengths of the edges, plus ``STEP`` times their mean.

    Raises
    ------
    EdgepruneError
        There are too few points, or a value is not finite.

    """
    x = np.ascontiguousarray(points, dtype=np.float64)
    if x.ndim != 2 or not 1 <= k < len(x):
        raise EdgepruneError(
            f"k = {k} is out of range for points of shape {x.shape} (allowed: 1 to n - 1)."
        )
    if not np.isfinite(x).all():
        raise EdgepruneError("The points contain values that are not finite.")
    source, target, length = nearest(x - x.mean(axis=0), k)
    if reference:
        apart = length > 0
        source, target, length = source[apart], target[apart], length[apart]
    else:
        length = length + STEP * (length.mean() or 1.0)
    graph = csr_matrix((length, (source, target)), shape=(len(x), len(x)))
    return graph.maximum(graph.T)


def nearest(
    x: NDArray[np.float64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Find each point's k nearest neighbours exactly; ties go to the first in order.

    A matrix product gives the squared distances up to rounding. All candidates within twice the
    rounding error bound of the k-th distance are measured again by their differences.

    Parameters
    ----------
    x : array (n, d)
        Points, centred at the origin.
    k : int
        Number of neighbours.

    Returns
    -------
    source, target : array (n k,)
        Indices of the points and of their neighbours.
    length : array (n k,)
        Their distances; zero for exact duplicates only.

    """
    n, dimensions = x.shape
    squares = np.einsum("ij,ij->i", x, x)
    slack = 4 * (dimensions + 4) * np.finfo(np.float64).eps * squares.max()
    rows = max(1, BLOCK_BYTES // (8 * n))
    parts = []
    for start in range(0, n, rows):
        block = x[start : start + rows]
        distance2 = block @ x.T  # without the row's own square, which does not affect the order
        distance2 *= -2.0
        distance2 += squares
        distance2[np.arange(len(block)), start + np.arange(len(block))] = np.inf
        kth = [
            np.partition(part, k - 1, axis=1)[:, k - 1 : k].copy()
            for part in np.array_split(distance2, 1 + distance2.nbytes // CACHE_BYTES)
        ]
        near = distance2 <= np.concatenate(kth) + slack
        source, target = np.divmod(np.flatnonzero(near), n)
        source += start
        length = lengths(x, source, target)
        order = np.lexsort((length, source))  # stable: ties stay in order
        rank = np.arange(len(order)) - np.searchsorted(source, source)
        chosen = order[rank < k]
        parts.append((source[chosen], target[chosen], length[chosen]))
    sources, targets, found = zip(*parts, strict=True)
    return np.concatenate(sources), np.concatenate(targets), np.concatenate(found)


def lengths(
    x: NDArray[np.float64], source: NDArray[np.int64], target: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the distances of pairs, computed from differences, so exact for near points too."""
    found = np.empty(len(source))
    rows = max(1, CACHE_BYTES // (16 * x.shape[1]))
    for start in range(0, len(source), rows):
        part = slice(start, start + rows)
        apart = x[source[part]]
        apart -= x[target[part]]
        found[part] = np.sqrt(np.einsum("ij,ij->i", apart, apart))
    return found


def shortest_path_trees(
    graph: csr_matrix, rows: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int32]]]:
    """Yield the shortest-path trees of all sources, at most ``rows`` at a time.

    Yields
    ------
    sources : array (s,)
        Indices of the sources.
    before : array (s, n)
        Predecessor of each node on the path from the source; ``NO_NODE`` for the source and for
        nodes without a path.

    """
    n = graph.shape[0]
    many = max(1, BLOCK_BYTES // (12 * n))
    for start in range(0, n, many):
        sources = np.arange(start, min(start + many, n))
        # Every edge exists in both directions; the directed search is slightly faster.
        before = dijkstra(graph, directed=True, indices=sources, return_predecessors=True)[1]
        for first in range(0, len(sources), rows):
            yield sources[first : first + rows], before[first : first + rows]


def count_inner(
    sources: NDArray[np.int64], before: NDArray[np.int32], marked: NDArray[np.bool_]
) -> tuple[NDArray[np.unsignedinteger], NDArray[np.unsignedinteger]]:
    """Count the inner points of all paths, and the marked ones among them.

    Pointer doubling: every round doubles the distance covered towards the source, so that a path
    of h steps takes log2(h) rounds.

    Parameters
    ----------
    sources : array (s,)
        Indices of the sources.
    before : array (s, n)
        Predecessors, as yielded by ``shortest_path_trees``.
    marked : array (s, n, columns)
        Marked points per source; the source itself must not be marked.

    Returns
    -------
    inner : array (s, n)
        Number of inner points of the path from the source to each point; 0 if there is no path.
    inside : array (s, n, columns)
        Number of these that are marked.

    """
    root = (sources + before.shape[1] * np.arange(len(sources)))[:, None]
    step = np.where(before == NO_NODE, root, before + (root - sources[:, None]))
    count = np.min_scalar_type(before.shape[1])
    inner = (step != root).ravel().astype(count)
    root, step = np.broadcast_to(root, before.shape).ravel(), step.ravel()
    inside = marked.reshape(before.size, -1).take(step, axis=0).astype(count)
    while not np.array_equal(step, root):
        inner += inner.take(step)
        inside += inside.take(step, axis=0)  # many times faster than inside[step]
        step = step.take(step)
    return inner.reshape(before.shape), inside.reshape(marked.shape)
