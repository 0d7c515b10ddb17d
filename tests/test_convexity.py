"""Graph convexity against a brute-force oracle, and its rules at the edges."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse.csgraph import shortest_path

from edgeprune.convexity import convexity, first_within


def brute_force(points: NDArray[np.float64], labels: Sequence[str], k: int) -> dict[str, float]:
    """Score every pair by hand: symmetric kNN graph, scipy's shortest paths walked back node by node.

    A pair without a path counts 0; a pair of neighbours has no inner point and counts 1 (the
    definition of Tetkova et al. 2023 as methods.md 1.1 gives it).
    """
    n = len(points)
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    graph = np.zeros((n, n))
    for i in range(n):
        order = [j for j in np.argsort(distance[i]) if j != i][:k]
        graph[i, order] = distance[i, order]
    graph = np.maximum(graph, graph.T)
    lengths, before = shortest_path(graph, directed=False, return_predecessors=True)
    scores: dict[str, list[float]] = {}
    for i in range(n):
        for j in range(n):
            if i == j or labels[i] != labels[j]:
                continue
            inner = []
            node = before[i, j]
            while node not in (i, -9999):
                inner.append(labels[node] == labels[i])
                node = before[i, node]
            reachable = np.isfinite(lengths[i, j])
            value = (float(np.mean(inner)) if inner else 1.0) if reachable else 0.0
            scores.setdefault(labels[i], []).append(value)
    return {label: float(np.mean(values)) for label, values in scores.items()}


@pytest.mark.parametrize("k", [2, 5])
@pytest.mark.parametrize("spread", [0.5, 2.0])
def test_every_class_scores_what_walking_every_path_by_hand_gives(k: int, spread: float) -> None:
    generator = np.random.default_rng(int(10 * spread) + k)
    labels = [f"class {i % 4}" for i in range(60)]
    centres = generator.standard_normal((4, 6))
    points = np.array([centres[i % 4] for i in range(60)])
    points = points + spread * generator.standard_normal(points.shape)
    expected = brute_force(points, labels, k)
    found = convexity(points, labels, k=k)
    assert found.per_class == pytest.approx(expected, abs=1e-12)
    assert found.mean_of_classes == pytest.approx(np.mean(list(expected.values())))


def test_well_separated_classes_are_convex_and_far_above_the_null() -> None:
    generator = np.random.default_rng(0)
    points = np.concatenate([generator.normal(10 * c, 0.1, (25, 3)) for c in range(3)])
    found = convexity(points, ["a"] * 25 + ["b"] * 25 + ["c"] * 25, k=10)
    assert found.pooled == pytest.approx(1.0)
    assert found.null_high < 0.7


def test_labels_without_meaning_score_like_their_own_null() -> None:
    generator = np.random.default_rng(1)
    points, labels = generator.standard_normal((150, 8)), [str(i % 5) for i in range(150)]
    found = convexity(points, labels, k=10, permutations=50)
    assert abs(found.mean_of_classes - found.null_mean) < 0.05


def test_the_order_and_the_names_of_the_classes_do_not_matter() -> None:
    generator = np.random.default_rng(2)
    points = generator.standard_normal((80, 4))
    labels = [f"{i % 3}" for i in range(80)]
    renamed = [{"0": "zebra", "1": "10", "2": "a"}[label] for label in labels]
    order = generator.permutation(80)
    first = convexity(points, labels, k=6)
    second = convexity(points[order], [renamed[i] for i in order], k=6)
    assert second.per_class["zebra"] == pytest.approx(first.per_class["0"])
    assert second.pooled == pytest.approx(first.pooled)


def test_a_class_with_one_member_has_no_pair_and_is_left_out() -> None:
    points = np.random.default_rng(3).standard_normal((21, 3))
    found = convexity(points, ["a"] * 10 + ["b"] * 10 + ["alone"], k=4)
    assert set(found.per_class) == {"a", "b"}
    assert np.isfinite(found.mean_of_classes)


def test_two_classes_on_a_line_that_alternate_are_least_convex() -> None:
    points = np.cumsum(1 + 0.01 * np.random.default_rng(4).random(12))[:, None]
    found = convexity(points, ["a", "b"] * 6, k=1)
    assert found.pooled < 0.6


@pytest.mark.parametrize(
    ("points", "labels"),
    [(np.full((20, 2), np.nan), ["a"] * 20), (np.zeros((3, 2)), ["a"] * 3),
     (np.random.default_rng(0).random((20, 2)), [str(i) for i in range(20)])],
)  # fmt: skip
def test_points_that_cannot_be_scored_are_refused(
    points: NDArray[np.float64], labels: list[str]
) -> None:
    with pytest.raises(ValueError, match=r"finite|few|two members|points"):
        convexity(points, labels, k=5)


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([0.2, 0.9, 0.99, 1.0], 2),
        ([0.5, 0.4, 0.3], 1),
        ([0.1, 0.2, 0.3], 2),
        ([0.9, 0.991, 1.0], 1),
    ],
)
def test_the_cut_stands_after_the_first_block_within_one_per_cent_of_the_peak(
    curve: list[float], expected: int
) -> None:
    """The first value is the first block's input: no cut can stand there."""
    assert first_within(curve, 0.01) == expected
