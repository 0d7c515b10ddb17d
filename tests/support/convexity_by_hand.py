"""Graph convexity by brute force: paths walked one by one, units drawn and laid out one by one."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Pairs = dict[tuple[int, int], float]
NAMES: list[Callable[[int], Hashable]] = [str, lambda c: c + 1, lambda c: ("class", c), float]


def pairs_by_hand(
    points: Points, labels: Sequence[Hashable], k: int, reference: bool = False
) -> Pairs:
    """Score every ordered pair of one class by walking Dijkstra's paths.

    Paths are compared by length, then by steps. The reference's rules: an exact duplicate is no
    neighbour, but takes a neighbour's place.
    """
    n = len(points)
    edges: list[dict[int, float]] = [{} for _ in range(n)]
    for i in range(n):
        distance = [float(np.sqrt(((points[i] - points[j]) ** 2).sum())) for j in range(n)]
        for j in sorted((j for j in range(n) if j != i), key=lambda j: (distance[j], j))[:k]:
            if distance[j] > 0 or not reference:
                edges[i][j] = edges[j][i] = distance[j]
    scores: Pairs = {(i, j): 0.0 for i in range(n) for j in range(n)
                     if i != j and labels[i] == labels[j]}  # fmt: skip
    for i in range(n):
        heap: list[tuple[float, int, tuple[int, ...]]] = [(0.0, 0, (i,))]
        settled = set()
        while heap:
            length, steps, path = heapq.heappop(heap)
            j = path[-1]
            if j in settled:
                continue
            settled.add(j)
            if (i, j) in scores:
                inner = [labels[v] == labels[i] for v in path[1:-1]]
                scores[i, j] = sum(inner) / len(inner) if inner else 1.0
            for other, more in edges[j].items():
                heapq.heappush(heap, (round(length + more, 9), steps + 1, (*path, other)))
    return scores


def classes_by_hand(scores: Pairs, labels: Sequence[Hashable]) -> dict[str, float]:
    return {
        str(label): float(np.mean([v for (i, _), v in scores.items() if labels[i] == label]))
        for label in set(labels)
        if sum(other == label for other in labels) > 1
    }


def intervals_by_hand(
    scores: Pairs, labels: Sequence[Hashable], units: Sequence[Hashable], draws: int
) -> NDArray[np.float64]:
    """Draw units, lay out their clips, and score the pairs that are not of a unit and its copy.

    Pairs within a unit and pairs across units keep the shares they have among all pairs.
    """
    generator = np.random.default_rng(99)
    names = sorted(set(units), key=str)
    shares = {
        label: np.mean([units[i] == units[j] for i, j in scores if labels[i] == label])
        for label in {labels[i] for i, _ in scores}
    }
    found: list[tuple[float, float]] = []
    for _ in range(draws):
        drawn = [(copy, i) for copy, u in enumerate(generator.integers(len(names), size=len(names)))
                 for i in range(len(labels)) if units[i] == names[u]]  # fmt: skip
        kinds: dict[Hashable, tuple[list[float], list[float]]] = {}
        for one, i in drawn:
            for other, j in drawn:
                if (i, j) in scores and (one == other or units[i] != units[j]):
                    kinds.setdefault(labels[i], ([], []))[one == other].append(scores[i, j])
        means: list[float] = []
        sizes: list[int] = []
        for label, (across, within) in kinds.items():
            share = float(shares[label])
            if (across or share == 1) and (within or share == 0):
                parts = ((within, share), (across, 1 - share))
                means.append(float(sum(part * np.mean(values) for values, part in parts if part)))
                sizes.append(len(across) + len(within))
        if means:
            found.append((float(np.mean(means)), float(np.average(means, weights=sizes))))
    return np.asarray(np.quantile(found, (0.025, 0.975), axis=0).T)


def random_case(seed: int, *, twins: bool = False) -> tuple[Points, list[Hashable], int]:
    """Return points in up to three far-off parts, labels, and k; no two paths are equally long.

    Twins are exact duplicates with one label, so that it does not matter which a path goes by.
    """
    generator = np.random.default_rng(seed)
    n, classes = int(generator.integers(5, 24)), int(generator.integers(1, 5))
    points = generator.standard_normal((n, int(generator.integers(2, 5))))
    points += 100.0 * generator.integers(generator.integers(1, 4), size=(n, 1))
    name = NAMES[generator.integers(len(NAMES))]
    labels = [name(int(c)) for c in generator.integers(classes, size=n)]
    labels[:2] = [name(0), name(0)]
    for twin in range(2, int(generator.integers(2, 5)) if twins else 2):
        points[twin], labels[twin] = points[0], labels[0]
    return points, labels, int(generator.integers(1, 4))


def clumps(
    each: int, spread: float, seed: int = 0, classes: int = 3
) -> tuple[Points, list[Hashable]]:
    """Return classes around random centres."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(7).standard_normal((classes, 4))
    labels = [c for c in range(classes) for _ in range(each)]
    noise = generator.standard_normal((len(labels), 4))
    return centres[labels] + spread * noise, [str(c) for c in labels]
