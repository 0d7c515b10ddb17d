"""Similarity of the layers' representations, as matrices over all pairs of hidden states.

Hidden state 0 is the input of the first block, hidden state i the output of block i - 1. Four
measures on mean-pooled hidden states (Dorszewski et al. 2024, arXiv 2409.16302) and two on
flattened ones:

- cosine, mean-pooled: mean over points of the cosine between a point's two hidden states;
- linear CKA (Kornblith et al. 2019, arXiv 1905.00414), centred, and uncentred as in the bird-song
  poster;
- mutual k-nearest neighbours by inner product (Huh et al. 2024, arXiv 2405.07987);
- cosine, flattened: the same over frames times features, from the sums of
  ``depth_pruning.states``; its angle (Gromov et al. 2024, arXiv 2403.17887) and block influence
  (Men et al. 2024, arXiv 2403.03853).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.errors import EdgepruneError

Matrix = NDArray[np.float64]
NEIGHBOURS = 10  # of the mutual neighbours; the notebook of arXiv 2409.16302 uses 5, the poster 12
STRUCTURE = 0.25  # least silhouette that indicates block structure (Kaufman and Rousseeuw 1990)
TINY = 1e-12


def layer_similarity(
    states: Sequence[NDArray[np.floating]], neighbours: int = NEIGHBOURS
) -> dict[str, Matrix]:
    """Measure the similarity of the representations of every two layers.

    Linear CKA (Kornblith et al. 2019, arXiv 1905.00414), centred and uncentred; cosine; mutual k
    nearest neighbours (Huh et al. 2024, arXiv 2405.07987).

    Parameters
    ----------
    states : sequence of array (n, hidden)
        One per layer, for the same n points: hidden states averaged over time.
    neighbours : int
        Number of neighbours for ``mutual_knn``; n - 1 at most is used.

    Returns
    -------
    dict
        ``cosine_pooled``, ``cka``, ``cka_uncentred``, ``mutual_knn``: arrays (states, states),
        symmetric with ones on the diagonal.

    Raises
    ------
    EdgepruneError
        There are fewer than two points, the layers have different numbers of points, or values are
        not finite.

    """
    _check(states)
    x = [np.asarray(state, dtype=np.float32) for state in states]
    nearest = [_nearest(state, min(neighbours, len(state) - 1)) for state in x]
    centred = [state - state.mean(axis=0) for state in x]
    units = [state / np.maximum(np.linalg.norm(state, axis=1, keepdims=True), TINY) for state in x]
    return {
        "cosine_pooled": _pairs(units, lambda a, b: float((a * b).sum(axis=1).mean())),
        "cka": _cka_matrix(centred),
        "cka_uncentred": _cka_matrix(x),
        "mutual_knn": _pairs(nearest, mutual_knn),
    }


def _check(states: Sequence[NDArray[np.floating]]) -> None:
    shapes = [np.shape(state) for state in states]
    if not shapes or any(len(shape) != 2 or shape[0] < 2 for shape in shapes):
        raise EdgepruneError(f"Layers of shapes {shapes} are not (points, hidden) with 2+ points.")
    if len({shape[0] for shape in shapes}) > 1:
        raise EdgepruneError(f"The layers have different numbers of points: {shapes}.")
    if not all(np.isfinite(state).all() for state in states):
        raise EdgepruneError("A layer contains values that are not finite.")


def _cka_matrix(states: Sequence[NDArray[np.floating]]) -> Matrix:
    """Return linear CKA of all pairs: ||X'Y||_F^2 / (||X'X||_F ||Y'Y||_F), Kornblith et al. 2019.

    Computed from features or from points, whichever are fewer.
    """
    n = len(states[0])
    if all(state.shape[1] >= n for state in states):
        grams = [(state @ state.T).ravel() for state in states]
        return _cosines(np.stack(grams).astype(np.float64))
    size = len(states)
    products = np.empty((size, size))
    for i in range(size):
        for j in range(i, size):
            products[i, j] = products[j, i] = float(np.square(states[i].T @ states[j]).sum())
    norms = np.sqrt(np.diag(products))
    return np.asarray(products / np.maximum(np.outer(norms, norms), TINY))


def _cosines(rows: Matrix) -> Matrix:
    norms = np.linalg.norm(rows, axis=1)
    return np.asarray(rows @ rows.T / np.maximum(np.outer(norms, norms), TINY))


def _nearest(state: NDArray[np.float32], k: int) -> NDArray[np.bool_]:
    """Mark each point's k nearest neighbours by inner product, without the point itself."""
    products = state @ state.T
    np.fill_diagonal(products, -np.inf)
    chosen = np.argpartition(-products, k - 1, axis=1)[:, :k]
    marked = np.zeros(products.shape, dtype=bool)
    np.put_along_axis(marked, chosen, True, axis=1)
    return marked


def mutual_knn(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Return the share of neighbours that two layers have in common (Huh et al. 2024).

    Parameters
    ----------
    a, b : boolean array (n, n)
        True where the column is among the row's k nearest neighbours.

    """
    return float((a & b).sum() / a.sum())


def _pairs(items: Sequence[NDArray], measure: Callable[..., float]) -> Matrix:  # type: ignore[type-arg]
    found = np.empty((len(items), len(items)))
    for i in range(len(items)):
        for j in range(i, len(items)):
            found[i, j] = found[j, i] = measure(items[i], items[j])
    return found


def block_influence(cosines: Matrix) -> NDArray[np.float64]:
    """Return each block's influence, 1 - cosine between its input and output (Men et al. 2024).

    Parameters
    ----------
    cosines : array (states, states)
        Mean cosine between flattened hidden states.

    """
    return np.asarray(1.0 - np.diagonal(cosines, offset=1))


def segment(similarity: Matrix, blocks: int) -> list[int]:
    """Split the hidden states into contiguous blocks of similar ones, optimally.

    The cost of a block is that of kernel k-means: the sum over its pairs of 1 - similarity, divided
    by its size. Dynamic programming minimizes the total (Fisher 1958, "On grouping for maximum
    homogeneity").

    Parameters
    ----------
    similarity : array (states, states)
        Similarities from 0 to 1.
    blocks : int
        Number of blocks, 1 to the number of states.

    Returns
    -------
    list of int
        First hidden state of each block; that of the first block is 0.

    Raises
    ------
    ValueError
        ``blocks`` is out of range.

    """
    size = len(similarity)
    if not 1 <= blocks <= size:
        raise ValueError(f"{size} states cannot be split into {blocks} blocks")
    cost = np.full((size + 1, size + 1), np.inf)
    for start in range(size):
        total = 0.0
        for stop in range(start + 1, size + 1):
            total += float((1.0 - similarity[stop - 1, start : stop - 1]).sum())
            cost[start, stop] = total / (stop - start)
    best = np.full((blocks + 1, size + 1), np.inf)
    begin = np.zeros((blocks + 1, size + 1), dtype=int)
    best[0, 0] = 0.0
    for count in range(1, blocks + 1):
        for stop in range(count, size + 1):
            ways = best[count - 1, :stop] + cost[:stop, stop]
            begin[count, stop] = int(ways.argmin())
            best[count, stop] = ways[begin[count, stop]]
    starts, stop = [], size
    for count in range(blocks, 0, -1):
        stop = int(begin[count, stop])
        starts.append(stop)
    return starts[::-1]


def find_blocks(similarity: Matrix) -> list[int]:
    """Return the first hidden state of each block of similar ones; their number is found, too.

    Chooses the number of blocks with the greatest mean silhouette (Rousseeuw 1987); one block where
    the silhouette shows no structure.
    """
    cuts = [segment(similarity, count) for count in range(2, len(similarity))]
    values = [silhouette(1.0 - similarity, starts) for starts in cuts]
    if not values or max(values) < STRUCTURE:
        return [0]
    return cuts[int(np.argmax(values))]


def silhouette(distance: Matrix, starts: Sequence[int]) -> float:
    """Return the mean silhouette of contiguous blocks; that of a single-state block is 0."""
    size = len(distance)
    code = np.searchsorted(np.asarray(starts), np.arange(size), side="right") - 1
    values = np.zeros(size)
    for i in range(size):
        own = np.flatnonzero((code == code[i]) & (np.arange(size) != i))
        if own.size:
            inside = distance[i, own].mean()
            outside = min(distance[i, code == c].mean() for c in set(code.tolist()) - {code[i]})
            values[i] = (outside - inside) / max(inside, outside, TINY)
    return float(values.mean())
