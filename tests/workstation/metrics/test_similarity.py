"""Similarity of layers against independent formulas, and what each measure must not notice."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeprune.metrics.similarity import (
    block_influence,
    find_blocks,
    layer_similarity,
    segment,
    silhouette,
)

GENERATOR = np.random.default_rng(0)


def points(n: int = 40, d: int = 6, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal((n, d)) + 1.0


def rotation(d: int, seed: int = 1) -> NDArray[np.float64]:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]


def cka(x: NDArray[np.float64], y: NDArray[np.float64], name: str = "cka") -> float:
    return float(layer_similarity([x, y])[name][0, 1])


@pytest.mark.parametrize("shape", [(40, 6), (10, 50)])
@pytest.mark.parametrize("name", ["cka", "cka_uncentred"])
def test_cka_is_the_normalised_hsic_of_linear_kernels(shape: tuple[int, int], name: str) -> None:
    """Kornblith et al. 2019, equation 3, with kernel matrices written out."""
    x, y = points(*shape), points(*shape, seed=2)
    n = len(x)
    h = np.eye(n) - 1 / n if name == "cka" else np.eye(n)
    k, m = h @ x @ x.T @ h, h @ y @ y.T @ h
    expected = np.trace(k @ m) / np.sqrt(np.trace(k @ k) * np.trace(m @ m))
    assert cka(x, y, name) == pytest.approx(expected, abs=1e-4)


def test_cka_does_not_notice_rotation_scale_and_translation() -> None:
    x, y = points(), points(seed=2)
    moved = 3.0 * x @ rotation(6) + 10.0
    assert cka(moved, y) == pytest.approx(cka(x, y), abs=1e-4)
    assert cka(x, moved) == pytest.approx(1.0, abs=1e-4)
    assert abs(cka(moved, y, "cka_uncentred") - cka(x, y, "cka_uncentred")) > 0.01


def test_states_that_are_all_alike_are_one_block() -> None:
    assert find_blocks(np.ones((6, 6))) == [0]
    place = np.arange(7)
    assert find_blocks(1 - np.abs(place[:, None] - place[None]) / 100) != [0]  # a slope is halves


def test_every_matrix_is_symmetric_with_ones_on_the_diagonal() -> None:
    states = [points(seed=s) for s in range(4)]
    found = layer_similarity(states, neighbours=5)
    assert set(found) == {"cosine_pooled", "cka", "cka_uncentred", "mutual_knn"}
    for matrix in found.values():
        np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)
        np.testing.assert_allclose(np.diag(matrix), 1.0, atol=1e-5)


def test_mutual_neighbours_are_counted_as_sets_are_compared() -> None:
    a, b = points(25, 4), points(25, 4, seed=3)
    shared = []
    for i in range(25):
        sets = []
        for x in (a, b):
            products = x @ x[i]
            products[i] = -np.inf
            sets.append(set(np.argsort(-products)[:7].tolist()))
        shared.append(len(sets[0] & sets[1]) / 7)
    assert layer_similarity([a, b], neighbours=7)["mutual_knn"][0, 1] == pytest.approx(
        np.mean(shared)
    )


def test_the_cosine_is_the_mean_of_every_points_own() -> None:
    a, b = points(), points(seed=4)
    each = [x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(a, b, strict=True)]
    assert layer_similarity([a, b])["cosine_pooled"][0, 1] == pytest.approx(np.mean(each))


def test_block_influence_is_one_minus_the_cosine_beside_the_diagonal() -> None:
    cosines = np.array([[1, 0.9, 0.5], [0.9, 1, 0.6], [0.5, 0.6, 1]])
    np.testing.assert_allclose(block_influence(cosines), [0.1, 0.4])


def blocky(sizes: list[int]) -> NDArray[np.float64]:
    code = np.repeat(np.arange(len(sizes)), sizes)
    noise = np.random.default_rng(0).random((len(code), len(code))) * 0.02
    return np.where(code[:, None] == code[None], 0.95, 0.3) + (noise + noise.T) / 2


@pytest.mark.parametrize("sizes", [[4, 5, 4], [2, 9], [3, 3, 3, 4]])
def test_blocks_that_are_there_are_found(sizes: list[int]) -> None:
    starts = np.cumsum([0, *sizes[:-1]]).tolist()
    assert segment(blocky(sizes), len(sizes)) == starts
    assert find_blocks(blocky(sizes)) == starts


def test_the_cut_into_blocks_is_the_best_of_all() -> None:
    values = np.random.default_rng(5).random((8, 8))
    similarity = (values + values.T) / 2

    def cost(starts: Sequence[int]) -> float:
        parts = zip(starts, [*starts[1:], 8], strict=True)
        pairs = [[1 - similarity[i, j] for i, j in combinations(range(a, b), 2)] for a, b in parts]
        sizes = np.diff([*starts, 8])
        return float(sum(sum(p) / n for p, n in zip(pairs, sizes, strict=True)))

    for blocks in (1, 2, 3, 4, 8):
        ways = [[0, *rest] for rest in combinations(range(1, 8), blocks - 1)]
        assert segment(similarity, blocks) == min(ways, key=cost)


@pytest.mark.parametrize("blocks", [0, 9])
def test_more_blocks_than_states_are_refused(blocks: int) -> None:
    with pytest.raises(ValueError, match="cannot be split into"):
        segment(np.ones((8, 8)), blocks)


def test_the_silhouette_is_that_of_two_tight_pairs() -> None:
    """Rousseeuw 1987: distance 1 inside, 4 to the other pair gives (4 - 1) / 4 everywhere."""
    distance = np.array([[0, 1, 4, 4], [1, 0, 4, 4], [4, 4, 0, 1], [4, 4, 1, 0]], dtype=float)
    assert silhouette(distance, [0, 2]) == pytest.approx(0.75)
    assert silhouette(distance, [0, 1, 2, 3]) == 0.0
