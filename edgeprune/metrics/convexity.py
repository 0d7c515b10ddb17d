"""Graph convexity: how convex the classes are in a representation space, over all pairs.

Tětková, Brüsch, Dorszewski et al. 2023/2025 ("On convex decision regions in deep network
representations"); used for pruning in Dorszewski et al. 2024, arXiv 2408.11858.

Steps:
1. Find each point's k nearest neighbours by exact Euclidean distance; ties are broken by the order
   of the points. Two points are joined by an edge if either is a neighbour of the other.
2. Find a shortest path for every ordered pair of points of a class. The pair's score is the share
   of the path's inner points that belong to the class: 1 if it has none, 0 if there is no path.
3. A class's score is the mean over its pairs. A class with one member has no pairs and is left out.
4. The null: the same with permuted labels. Given the graph, its mean has a closed form.
5. The interval: the same with clips, or whole groups of them, drawn with replacement.

Every step along a path costs 1e-9 of the mean edge length in addition to its length. So exact
duplicates are neighbours at a vanishing distance, and of equally long paths the one with the fewest
steps is used; remaining ties are resolved by Dijkstra's algorithm. ``reference=True`` follows
nnconvexity 0.1.1 instead: exact duplicates count as neighbours but get no edge, and all ties are
resolved by Dijkstra's algorithm.

One shortest-path tree per source serves all its pairs and all label columns; nothing is sampled.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune.metrics.pair_scores import class_means, intervals, score_pairs
from edgeprune.metrics.shortest_paths import neighbour_graph
from edgeprune_device.errors import EdgepruneError


@dataclass(frozen=True)
class Convexity:
    """Convexity of one label column in one space; values that were not requested are NaN."""

    pooled: float
    """Mean over all pairs of points of one class, 0 to 1 (as nnconvexity on PyPI reports)."""
    mean_of_classes: float
    """Mean of the class scores, 0 to 1 (as plotted in the papers)."""
    per_class: dict[str, float]
    """Score of each class; classes with one member are left out."""
    interval: tuple[float, float]
    """95 % interval of ``mean_of_classes`` over bootstrap draws of clips or groups."""
    pooled_interval: tuple[float, float]
    """95 % interval of ``pooled`` over the same draws."""
    null_mean: float
    """Expected ``mean_of_classes`` under permuted labels (closed form)."""
    null_high: float
    """97.5th percentile of ``mean_of_classes`` over the permutations."""
    connected: float
    """Share of all pairs, of any classes, that are joined by a path; the others score 0."""


def graph_convexity(
    points: NDArray[np.floating],
    labels: Sequence[Hashable],
    *,
    k: int = 10,
    permutations: int = 40,
    draws: int = 1000,
    groups: Sequence[str] | None = None,
    seed: int = 0,
    reference: bool = False,
) -> Convexity:
    """Measure how convex the classes are in one space, over all pairs of points of a class.

    Tětková et al. 2023, "On convex decision regions in deep network representations"; used for
    layer pruning by Dorszewski et al. 2024, arXiv 2408.11858. Exact: no pairs are sampled.

    Parameters
    ----------
    points : array (n, d)
        One layer's representation of n clips, such as hidden states averaged over time.
    labels : sequence of n labels
        Labels of any hashable type except None.
    k : int
        Number of neighbours in the graph (the papers use 10), 1 <= k < n.
    permutations : int
        Number of label permutations for ``null_high``; 0: none.
    draws : int
        Number of bootstrap draws for the 95 % intervals; 0: none.
    groups : sequence of n names, optional
        Groups to draw whole, such as speakers; by default single clips are drawn.
    seed : int
        Random seed of permutations and draws.
    reference : bool
        Follow the rules of nnconvexity 0.1.1 for ties and duplicates.

    Returns
    -------
    Convexity
        Scores from 0 to 1: the share of a shortest path's inner points that belong to the class.

    Raises
    ------
    EdgepruneError
        There are too few points, values that are not finite, a point without a label, or no class
        with two members.

    Examples
    --------
    >>> edgeprune.graph_convexity(hidden_states.mean(axis=1), labels).mean_of_classes

    """
    return convexities(
        points, {"": labels}, k=k, permutations=permutations, draws=draws,
        groups=None if groups is None else {"": groups}, seed=seed, reference=reference,
    )[""]  # fmt: skip


def convexities(
    points: NDArray[np.floating],
    labelings: Mapping[str, Sequence[Hashable]],
    *,
    k: int = 10,
    permutations: int = 40,
    draws: int = 1000,
    groups: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
    reference: bool = False,
) -> dict[str, Convexity]:
    """Measure the graph convexity of several label columns of the same points.

    The intervals show how much the scores depend on which clips, or groups, were recorded. The
    graph is held fixed, so they do not cover how the graph, or the model, would change with others.

    Parameters
    ----------
    points : array (n, d)
        One layer's representation of n clips.
    labelings : mapping of str to sequences of n labels
        Label columns by name. Labels of any hashable type except None; a class is named by the
        text of its label.
    k : int
        Number of neighbours in the graph (the papers use 10), 1 <= k < n.
    permutations : int
        Number of label permutations for ``null_high`` (with fewer than 39, their maximum); 0: none.
    draws : int
        Number of bootstrap draws for the intervals; 0: none.
    groups : mapping of str to sequences of n names
        Groups to draw whole in a label column's intervals, such as speakers. Clips are drawn if a
        column has none, or if every class lies within one group: drawing whole groups would then
        leave every class unchanged.
    seed : int
        Random seed of permutations and draws; the columns do not affect each other.
    reference : bool
        Follow the rules of nnconvexity 0.1.1.

    Returns
    -------
    dict of str to Convexity
        By label column.

    Raises
    ------
    EdgepruneError
        There are too few points, values that are not finite, a point without a label, or no class
        with two members.

    """
    graph = neighbour_graph(points, k, reference=reference)
    n = graph.shape[0]
    names, tables, units = {}, [], []
    for name, labels in labelings.items():
        names[name], codes = _numbered(name, labels, n)
        shuffled = np.random.default_rng((seed, 0))
        tables.append(
            np.stack([codes, *(shuffled.permutation(codes) for _ in range(permutations))], axis=1)
        )
        units.append(_units(name, codes, (groups or {}).get(name)))
    adjacent, longer, sums, pairs = score_pairs(graph, tables, keep=draws > 0)
    found = {}
    for name, table, unit, total, matrices in zip(names, tables, units, sums, pairs, strict=True):
        sizes = np.bincount(table[:, 0])
        scored = sizes > 1
        scores = class_means(total[:, 0], table[:, 0])
        null = [class_means(total[:, p], table[:, p]).mean() for p in range(1, 1 + permutations)]
        interval, pooled_interval = intervals(matrices, table[:, 0], unit, draws, seed)
        found[name] = Convexity(
            pooled=float(total[:, 0].sum() / (sizes * (sizes - 1)).sum()),
            mean_of_classes=float(scores.mean()),
            per_class=dict(zip(names[name][scored].tolist(), scores.tolist(), strict=True)),
            interval=interval,
            pooled_interval=pooled_interval,
            null_mean=float(adjacent + longer * (sizes[scored].mean() - 2) / max(n - 2, 1)),
            null_high=float(np.quantile(null, 0.975, method="weibull")) if null else float("nan"),
            connected=adjacent + longer,
        )
    return found


def _numbered(
    name: str, labels: Sequence[Hashable], n: int
) -> tuple[NDArray[np.str_], NDArray[np.unsignedinteger]]:
    """Return the class names of a label column, sorted, and each point's class index."""
    if len(labels) != n or any(label is None for label in labels):
        raise EdgepruneError(
            f"{name or 'labels'} does not have a label for each of the {n} points."
        )
    names, codes = np.unique([str(label) for label in labels], return_inverse=True)
    if len(names) == n:
        raise EdgepruneError(f"{name or 'labels'} has no class with two members.")
    return names, codes.astype(np.min_scalar_type(len(names)))


def _units(
    name: str, codes: NDArray[np.unsignedinteger], groups: Sequence[str] | None
) -> NDArray[np.integer]:
    """Return each point's resampling unit: its group, or itself if groups change no class."""
    if groups is not None:
        if len(groups) != len(codes):
            raise EdgepruneError(
                f"{name or 'labels'} has {len(codes)} labels but {len(groups)} groups."
            )
        _, units = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
        if len(np.unique(np.stack([codes, units], axis=1), axis=0)) > codes.max() + 1:
            return units
    return np.arange(len(codes))


def first_within(curve: Sequence[float], tolerance: float) -> int:
    """Return the first index whose value is within ``tolerance`` (a share) of the curve's peak.

    Index 0 is the encoder's input, which is no layer, so the search starts at 1.
    """
    layers = np.asarray(curve[1:], dtype=float)
    if layers.size == 0:
        raise ValueError("the curve has no layers")
    return 1 + int(np.argmax(layers >= layers.max() * (1.0 - tolerance)))
