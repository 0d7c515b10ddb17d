"""Neighbour graphs and shortest paths: exact, and each step counted once."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from convexity_by_hand import Points
from scipy.spatial.distance import cdist

from edgeprune.metrics import shortest_paths
from edgeprune.metrics.shortest_paths import (
    NO_NODE,
    STEP,
    count_inner,
    lengths,
    nearest,
    neighbour_graph,
    shortest_path_trees,
)
from edgeprune_device.errors import EdgepruneError


def points_of(n: int, d: int = 3, seed: int = 0) -> Points:
    return np.random.default_rng(seed).standard_normal((n, d))


@pytest.mark.parametrize(("n", "k"), [(2, 1), (12, 1), (40, 5), (40, 39)])
def test_each_point_is_joined_to_its_nearest_both_ways(n: int, k: int) -> None:
    points = points_of(n, seed=n)
    apart = cdist(points, points)
    np.fill_diagonal(apart, np.inf)
    near = np.zeros((n, n), dtype=bool)
    np.put_along_axis(near, np.argsort(apart, axis=1)[:, :k], True, axis=1)
    near |= near.T
    graph = neighbour_graph(points, k).toarray()
    assert ((graph > 0) == near).all()
    chosen = np.sort(apart, axis=1)[:, :k]
    np.testing.assert_allclose(graph[near], apart[near] + STEP * chosen.mean(), rtol=1e-12)


def test_clumps_a_million_apart_keep_their_exact_neighbours() -> None:
    """There a product of coordinates rounds off all that tells the near points apart."""
    clumps = [points_of(30, seed=s) * 1e-3 + side for s, side in ((1, 1e6), (2, -1e6))]
    whole = neighbour_graph(np.concatenate(clumps), 4).toarray() > 0
    for place, clump in enumerate(clumps):
        alone = neighbour_graph(clump - clump.mean(axis=0), 4).toarray() > 0
        part = slice(30 * place, 30 * place + 30)
        assert (whole[part, part] == alone).all()
    assert not whole[:30, 30:].any()


def test_of_equally_near_points_the_first_is_taken() -> None:
    square = np.array([[0.0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
    source, target, length = nearest(square, 2)
    assert target[source == 0].tolist() == [1, 2]
    assert length[source == 0].tolist() == [1.0, 1.0]


def test_the_reference_gives_a_duplicate_no_edge_and_a_step_no_price() -> None:
    points = np.array([[0.0, 0], [0, 0], [1, 0], [5, 0]])
    ours, theirs = (neighbour_graph(points, 1, reference=r).toarray() for r in (False, True))
    assert ours[0, 1] > 0
    assert theirs[0, 1] == 0
    assert theirs[2, 3] == 4.0
    assert ours[2, 3] > 4.0


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    points = points_of(30)
    expected = neighbour_graph(points, 3)
    trees = np.concatenate([before for _, before in shortest_path_trees(expected, 30)])
    monkeypatch.setattr(shortest_paths, "BLOCK_BYTES", 1)
    monkeypatch.setattr(shortest_paths, "CACHE_BYTES", 1)
    found = neighbour_graph(points, 3)
    np.testing.assert_array_equal(found.toarray(), expected.toarray())
    parts = list(shortest_path_trees(found, 1))
    assert [sources.tolist() for sources, _ in parts] == [[i] for i in range(30)]
    np.testing.assert_array_equal(np.concatenate([before for _, before in parts]), trees)


@pytest.mark.parametrize(
    ("points", "k", "sentence"),
    [
        (np.zeros((3, 2)), 3, r"k = 3 is out of range for points of shape \(3, 2\)"),
        (np.zeros((3, 2)), 0, "k = 0 is out of range"),
        (np.zeros(5), 1, r"shape \(5,\)"),
        (np.array([[0.0], [np.inf], [1.0]]), 1, "not finite"),
    ],
)
def test_what_has_no_neighbours_is_refused(points: Points, k: int, sentence: str) -> None:
    with pytest.raises(EdgepruneError, match=sentence):
        neighbour_graph(points, k)


def test_lengths_of_near_points_come_from_their_differences() -> None:
    x = np.array([[1e8, 0.0], [1e8 + 1e-6, 0.0], [0.0, 3.0], [4.0, 0.0]])
    found = lengths(x, np.array([0, 2]), np.array([1, 3]))
    assert found[0] == abs(x[0, 0] - x[1, 0])
    assert found[1] == 5.0


def test_inner_points_are_those_met_on_the_way_back_to_the_source() -> None:
    """Every path walked by hand, in a graph of two parts."""
    points = np.concatenate([points_of(14), 1e3 + points_of(7, seed=1)])
    graph, n = neighbour_graph(points, 2), 21
    marked = np.random.default_rng(2).random((n, n, 2)) < 0.5
    marked[np.arange(n), np.arange(n)] = False
    for sources, before in shortest_path_trees(graph, 5):
        inner, inside = count_inner(sources, before, marked[sources])
        for row, goal in product(range(len(sources)), range(n)):
            met, node = [], before[row, goal]
            while node not in (NO_NODE, sources[row]):
                met.append(int(node))
                node = before[row, node]
            assert inner[row, goal] == len(met)
            assert inside[row, goal].tolist() == marked[sources[row], met].sum(axis=0).tolist()
