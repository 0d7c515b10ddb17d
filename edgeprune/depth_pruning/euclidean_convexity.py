"""Euclidean convexity: the share of points between two clips of a class assigned to that class.

For two clips of one class, points on the straight line between their hidden states at a layer are
passed through the rest of the model; the score is the share of them that it assigns to the class
(Tětková et al. 2023, "On convex decision regions in deep network representations": ten
equidistant inner points).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgeprune.depth_pruning.evaluator import Evaluator
from edgeprune.metrics.statistics import bootstrap_interval

INNER_POINTS = 10
BATCH = 32


def draw_pairs(
    codes: NDArray[np.int64], each: int, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw pairs of different points of one class, at most ``each`` per class, without repetition.

    Parameters
    ----------
    codes : array (n,)
        Class indices.
    each : int
        Number of pairs per class.

    Returns
    -------
    first, second : array (pairs,)
        Indices of the points.

    """
    generator = np.random.default_rng(seed)
    pairs = [np.empty((2, 0), dtype=np.int64)]
    for code in np.unique(codes):
        members = np.flatnonzero(codes == code)
        a, b = np.triu_indices(len(members), 1)
        chosen = np.sort(generator.permutation(len(a))[:each])
        pairs.append(np.stack([members[a[chosen]], members[b[chosen]]]))
    first, second = np.concatenate(pairs, axis=1)
    return first, second


def euclidean_convexity(bench: Evaluator, each: int, seed: int = 0) -> list[dict[str, Any]] | None:
    """Measure Euclidean convexity at every hidden state.

    Parameters
    ----------
    bench : Evaluator
        Model and clips.
    each : int
        Number of pairs per class; the reference implementation uses up to 5,000.

    Returns
    -------
    list of dict
        Per hidden state ``value`` (mean over pairs, 0 to 1), ``interval`` (over pairs) and
        ``pairs``; None if no class has two clips.

    """
    _, windows = np.unique(bench.windows.clip, return_index=True)  # the first window of each clip
    targets = bench.windows.targets(bench.labels)
    first, second = (windows[end] for end in draw_pairs(targets[windows], each, seed))
    if not len(first):
        return None
    scores: list[list[NDArray[np.float64]]] = [[] for _ in range(len(bench.stack) + 1)]
    starts = range(0, len(first), BATCH)
    with torch.inference_mode():
        for start in bench.ui.track(starts, "Euclidean convexity", len(starts)):
            ends = (first[start : start + BATCH], second[start : start + BATCH])
            wanted = torch.from_numpy(targets[ends[0]]).to(bench.device)
            for state, values in enumerate(_segments(bench, ends, wanted)):
                scores[state].append(values)
    found = [np.concatenate(parts) for parts in scores]
    return [{"value": float(v.mean()), "interval": list(bootstrap_interval(v)), "pairs": len(v)}
            for v in found]  # fmt: skip


def _segments(
    bench: Evaluator, ends: Sequence[NDArray[np.int64]], wanted: torch.Tensor
) -> list[NDArray[np.float64]]:
    """Return, per hidden state, each pair's share of inner points assigned to the pair's class."""
    stack, whole = bench.stack, bench.whole
    entered = [stack.run_front_end(torch.from_numpy(bench.windows.read(end)).to(bench.device))
               for end in ends]  # fmt: skip
    a, b = (stack.states(batch) for batch in entered)
    found = []
    for state in range(len(a)):
        right = torch.zeros(len(wanted), device=bench.device)
        for step in range(1, INNER_POINTS + 1):
            share = step / (INNER_POINTS + 1)
            path = [(1 - share) * x + share * y for x, y in zip(a, b, strict=True)][: state + 1]
            for index in range(state, len(stack)):
                path.append(stack.block(index, path[-1], entered[0]))
            right += stack.run_head(path, whole).argmax(dim=1) == wanted
        found.append((right / INNER_POINTS).cpu().double().numpy())
    return found
