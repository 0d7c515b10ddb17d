"""Layer-removal ablation: accuracy of layer subsets of a model, measured on the same clips.

This is the ground truth for convexity, similarity and block influence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgeprune.data.tasks import task_of
from edgeprune.depth_pruning.evaluator import Evaluator
from edgeprune.depth_pruning.layer_stack import Bridges, LayerSubset, batches, run_subsets

Measure = Callable[[Sequence[LayerSubset]], "dict[LayerSubset, NDArray[Any]]"]
"""Layer subsets -> for each, the correctness of every clip (``Task.correctness``)."""


def measure_subsets(
    bench: Evaluator,
    cuts: Iterable[LayerSubset],
    bridges: Bridges | None = None,
    title: str = "ablation",
) -> dict[LayerSubset, NDArray[Any]]:
    """Evaluate layer subsets of a model on clips, without retraining.

    Parameters
    ----------
    bench : Evaluator
        Model and clips.
    cuts : iterable of tuple
        Layer subsets: the layers that each keeps.
    bridges : mapping, optional
        See ``layer_stack.run_subsets``.
    title : str
        Title of the progress bar.

    Returns
    -------
    dict
        Layer subset -> array (clips,): for classes, whether the class with the highest mean score
        is the clip's; for other tasks, the clip's score from 0 to 1.

    """
    wanted = list(dict.fromkeys(cuts))
    logits: dict[LayerSubset, list[NDArray[np.float32]]] = {cut: [] for cut in wanted}
    with torch.inference_mode():
        for batch in batches(bench.windows, bench.device, bench.ui, title):
            for cut, answer in run_subsets(bench.stack, batch, wanted, bridges).items():
                logits[cut].append(answer.cpu().numpy())
    values = task_of(bench.windows.task).correctness
    return {
        cut: values(np.concatenate(parts), bench.windows, bench.labels)
        for cut, parts in logits.items()
    }


def without_span(layers: int, start: int, stop: int) -> LayerSubset:
    """Return the layer subset without layers start to stop - 1."""
    return (*range(start), *range(stop, layers))


def all_spans(layers: int, fixed: Sequence[int]) -> dict[tuple[int, int], LayerSubset]:
    """Return, by span (i, j), the layer subset without it, for all spans without a fixed layer."""
    return {
        (i, j): without_span(layers, i, j)
        for i in range(layers) for j in range(i + 1, layers + 1)
        if j - i < layers and not any(i <= layer < j for layer in fixed)
    }  # fmt: skip


def greedy_removal(measure: Measure, layers: int, fixed: Sequence[int]) -> list[int]:
    """Remove the layer with the smallest measured loss, repeatedly.

    Parameters
    ----------
    measure : callable
        Measures the candidates of one step.
    layers : int
        Number of layers.
    fixed : sequence of int
        Layers that are not removed.

    Returns
    -------
    list of int
        Layers in the order of removal; ties are resolved by removing the later layer.

    """
    keep, order = list(range(layers)), []
    while len(keep) > max(1, len(fixed)):
        steps = {tuple(k for k in keep if k != i): i for i in keep if i not in fixed}
        found = measure(list(steps))
        best = max(steps, key=lambda cut: (float(found[cut].sum()), steps[cut]))
        order.append(steps[best])
        keep = list(best)
    return order
