"""Measured removal: a cut is right where the really cut model is, and what costs least goes first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from measured_models import CPU, LABELS
from numpy.typing import NDArray

from edgeprune.data.tasks import TASKS
from edgeprune.data.windows import Windows
from edgeprune.depth_pruning.ablation import (
    all_spans,
    greedy_removal,
    measure_subsets,
    without_span,
)
from edgeprune.depth_pruning.evaluator import Evaluator
from edgeprune.depth_pruning.layer_stack import LayerSubset
from edgeprune.models import loading
from edgeprune.models.families import keep_layers
from edgeprune.training import loop


def test_a_measured_cut_is_right_where_the_really_cut_model_is(
    evaluator: Evaluator, model_folder: Path, windows: Windows
) -> None:
    """A clip of two windows is right where the mean of its scores is highest at its label."""
    found = measure_subsets(evaluator, [(0, 1, 2), (1, 2), (0, 2), (2,)])
    valid = windows.split("valid")
    assert len(found[0, 2]) == len(set(valid.clip.tolist())) < len(valid.clip)
    for cut, right in found.items():
        really = loading.load_model(str(model_folder))
        keep_layers(really, cut)
        logits = loop.predict(really, valid, CPU)
        np.testing.assert_array_equal(right, TASKS["classes"].correctness(logits, valid, LABELS))


def test_spans_are_all_runs_of_neighbours_that_leave_something() -> None:
    found = all_spans(4, ())
    assert set(found) == {(i, j) for i, j in combinations(range(5), 2)} - {(0, 4)}
    assert found[1, 3] == (0, 3) == without_span(4, 1, 3)
    assert set(all_spans(4, (0,))) == {(i, j) for i, j in combinations(range(1, 5), 2)}


def additive(costs: Sequence[int]) -> tuple[list[list[LayerSubset]], object]:
    """Make an oracle: 100 clips, each removed layer turns as many wrong as it costs."""
    asked: list[list[LayerSubset]] = []

    def measure(cuts: Sequence[LayerSubset]) -> dict[LayerSubset, NDArray[np.bool_]]:
        asked.append(list(cuts))
        lost = {cut: sum(c for i, c in enumerate(costs) if i not in cut) for cut in cuts}
        return {cut: np.arange(100) >= n for cut, n in lost.items()}

    return asked, measure


def test_the_layer_that_costs_least_goes_first_the_later_of_equals() -> None:
    asked, measure = additive([9, 2, 2, 30, 1])
    assert greedy_removal(measure, 5, ()) == [4, 2, 1, 0]  # type: ignore[arg-type]
    assert [len(cuts) for cuts in asked] == [5, 4, 3, 2]


def test_layers_that_must_stay_are_never_removed() -> None:
    _, measure = additive([0, 5, 6, 7])
    assert greedy_removal(measure, 4, (0,)) == [1, 2, 3]  # type: ignore[arg-type]
