"""Scores of all pairs of a class, and of what drawing the points again would make of them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import pytest
from convexity_by_hand import Points, clumps, intervals_by_hand, pairs_by_hand, random_case
from numpy.typing import NDArray

from edgeprune.metrics import pair_scores
from edgeprune.metrics.convexity import graph_convexity
from edgeprune.metrics.pair_scores import class_means, intervals, score_pairs
from edgeprune.metrics.shortest_paths import neighbour_graph

Codes = NDArray[np.unsignedinteger]


def codes_of(labels: Sequence[Hashable]) -> Codes:
    found = np.unique([str(label) for label in labels], return_inverse=True)[1]
    return np.asarray(found, dtype=np.uint8)


def sums_by_hand(points: Points, labels: Sequence[Hashable], k: int) -> NDArray[np.float64]:
    sums = np.zeros(len(points))
    for (source, _), score in pairs_by_hand(points, labels, k).items():
        sums[source] += score
    return sums


@pytest.mark.parametrize("seed", range(12))
def test_every_points_sum_and_every_pairs_score_are_those_of_walking_the_paths(seed: int) -> None:
    points, labels, k = random_case(seed)
    codes, graph = codes_of(labels), neighbour_graph(points, k)
    adjacent, longer, (sums,), (matrices,) = score_pairs(graph, [codes[:, None]], keep=True)
    np.testing.assert_allclose(sums[:, 0], sums_by_hand(points, labels, k), atol=1e-12)
    expected = pairs_by_hand(points, labels, k)
    for code, matrix in enumerate(matrices):
        members = np.flatnonzero(codes == code)
        for row, i in enumerate(members):
            for column, j in enumerate(members):
                score = expected.get((int(i), int(j)), 0.0)  # a point and itself are no pair
                assert matrix[row, column] == pytest.approx(score, abs=1e-6)
    everything = pairs_by_hand(points, ["one"] * len(points), k)
    joined = sum(score > 0 for score in everything.values()) / len(everything)
    assert adjacent + longer == pytest.approx(joined)


def test_pairs_that_are_neighbours_and_pairs_with_points_between_are_told_apart() -> None:
    """Five points in a row, each joined to the next: of 20 ordered pairs, 8 are neighbours."""
    points = np.array([[0.0, 0], [1.0, 0], [2.1, 0], [3.3, 0], [4.6, 0]])
    graph = neighbour_graph(points, 1)
    adjacent, longer, _, _ = score_pairs(graph, [np.zeros((5, 1), np.uint8)], keep=False)
    assert (adjacent, longer) == (8 / 20, 12 / 20)


def test_columns_and_tables_are_scored_as_each_is_alone() -> None:
    """A table's further columns are its labels shuffled; nothing is kept unless it is asked for."""
    points, labels = clumps(9, 0.7)
    graph, codes = neighbour_graph(points, 3), codes_of(labels)
    generator = np.random.default_rng(0)
    columns = [codes, generator.permutation(codes), generator.permutation(codes)]
    other = codes_of([i % 4 for i in range(len(labels))])
    _, _, found, pairs = score_pairs(graph, [np.stack(columns, axis=1), other[:, None]], keep=False)
    assert [sums.shape for sums in found] == [(27, 3), (27, 1)]
    assert pairs == [[], []]
    for place, column in enumerate(columns):
        alone = score_pairs(graph, [column[:, None]], keep=False)[2][0]
        np.testing.assert_allclose(found[0][:, place], alone[:, 0], atol=1e-12)
    alone = score_pairs(graph, [other[:, None]], keep=False)[2][0]
    np.testing.assert_allclose(found[1], alone, atol=1e-12)


def test_memory_decides_how_many_trees_are_walked_at_a_time_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    points, labels = clumps(9, 0.7)
    graph, tables = neighbour_graph(points, 3), [codes_of(labels)[:, None]]
    expected = score_pairs(graph, tables, keep=True)
    monkeypatch.setattr(pair_scores, "CACHE_BYTES", 1)  # one source at a time
    found = score_pairs(graph, tables, keep=True)
    np.testing.assert_array_equal(found[2][0], expected[2][0])
    for one, other in zip(found[3][0], expected[3][0], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_class_of_one_has_no_mean() -> None:
    sums, codes = np.array([1.0, 2.0, 5.0, 0.5]), np.array([0, 0, 1, 0], np.uint8)
    assert class_means(sums, codes).tolist() == [(1.0 + 2.0 + 0.5) / (3 * 2)]


@pytest.mark.parametrize("grouped", [False, True])
def test_the_intervals_are_those_of_drawing_by_hand(grouped: bool) -> None:
    points, labels = clumps(8, 0.8)
    groups = [f"speaker {i % 4}" for i in range(24)]
    found = graph_convexity(points, labels, k=3, draws=4000, groups=groups if grouped else None)
    units = groups if grouped else list(range(24))
    by_hand = intervals_by_hand(pairs_by_hand(points, labels, 3), labels, units, 1500)
    assert [found.interval, found.pooled_interval] == [
        pytest.approx(tuple(row), abs=0.03) for row in by_hand
    ]


def test_scores_that_are_all_alike_have_an_interval_without_width() -> None:
    codes = np.array([0, 0, 0, 1, 1], np.uint8)
    pairs = [np.full((n, n), 0.25, np.float32) - 0.25 * np.eye(n, dtype=np.float32) for n in (3, 2)]
    found = intervals(pairs, codes, np.arange(5), draws=50, seed=0)
    assert np.asarray(found).ravel().tolist() == pytest.approx([0.25] * 4)


def test_where_no_pair_can_be_drawn_there_is_no_interval() -> None:
    pairs = [np.zeros((1, 1), np.float32)] * 3
    found = intervals(pairs, np.array([0, 1, 2], np.uint8), np.arange(3), draws=20, seed=0)
    assert np.isnan(np.asarray(found)).all()
