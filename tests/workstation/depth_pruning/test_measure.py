"""Measured cuts: ablation, greedy removal, Euclidean convexity and the probe, each by an oracle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_models import make_model
from tiny_recordings import TONES

from edgeprune.core.console import Silent
from edgeprune.core.settings import Clips
from edgeprune.data.clip_subsets import some_clips
from edgeprune.data.tasks import TASKS
from edgeprune.data.windows import Windows, load_windows
from edgeprune.depth_pruning.ablation import all_spans, greedy_removal, measure_cuts, without
from edgeprune.depth_pruning.euclidean_convexity import draw_pairs, euclidean_convexity
from edgeprune.depth_pruning.evaluator import Evaluator
from edgeprune.depth_pruning.layer_stack import Cut, Stack
from edgeprune.depth_pruning.linear_probe import fit_probe, logistic_regression
from edgeprune.models import loading
from edgeprune.models.families import keep_layers
from edgeprune.pipeline.clips import clips
from edgeprune.training import loop

CPU = torch.device("cpu")
LABELS = tuple(sorted(TONES))


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "labelled", "hubert", LABELS)


@pytest.fixture(scope="module")
def windows(
    model_folder: Path, recordings: Path, tmp_path_factory: pytest.TempPathFactory
) -> Windows:
    out = tmp_path_factory.mktemp("clips")
    clips(model_folder, recordings, "x", out=out, settings=Clips(window_seconds=0.2), ui=Silent())
    return load_windows(out)


@pytest.fixture
def bench(model_folder: Path, windows: Windows) -> Evaluator:
    stack = Stack(loading.load_model(str(model_folder)))
    return Evaluator(stack, windows.split("valid"), LABELS, CPU, Silent())


def test_a_measured_cut_is_right_where_the_really_cut_model_is(
    bench: Evaluator, model_folder: Path, windows: Windows
) -> None:
    """A clip of two windows is right where the mean of its scores is highest at its label."""
    found = measure_cuts(bench, [(0, 1, 2), (1, 2), (0, 2), (2,)])
    valid = windows.split("valid")
    assert len(found[0, 2]) == len(set(valid.clip.tolist())) < len(valid.clip)
    for cut, right in found.items():
        really = loading.load_model(str(model_folder))
        keep_layers(really, cut)
        logits = loop.predict(really, valid, CPU)
        np.testing.assert_array_equal(right, TASKS["classes"].values(logits, valid, LABELS))


def test_spans_are_all_runs_of_neighbours_that_leave_something() -> None:
    found = all_spans(4, ())
    assert set(found) == {(i, j) for i, j in combinations(range(5), 2)} - {(0, 4)}
    assert found[1, 3] == (0, 3) == without(4, 1, 3)
    assert set(all_spans(4, (0,))) == {(i, j) for i, j in combinations(range(1, 5), 2)}


def additive(costs: Sequence[int]) -> tuple[list[list[Cut]], object]:
    """Make an oracle: 100 clips, each removed layer turns as many wrong as it costs."""
    asked: list[list[Cut]] = []

    def measure(cuts: Sequence[Cut]) -> dict[Cut, NDArray[np.bool_]]:
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


def test_pairs_are_of_one_class_different_and_drawn_once() -> None:
    codes = np.repeat([0, 1, 2], [10, 4, 1])
    a, b = draw_pairs(codes, 5)
    assert (codes[a] == codes[b]).all()
    assert (a != b).all()
    assert len({tuple(sorted(p)) for p in zip(a.tolist(), b.tolist(), strict=True)}) == 10
    assert np.bincount(codes[a]).tolist() == [5, 5]  # class 1 has 6 pairs, class 2 none


def test_classes_of_one_clip_have_no_euclidean_convexity(bench: Evaluator) -> None:
    one_each = np.unique(bench.windows.targets(LABELS), return_index=True)[1]
    alone = replace(bench, windows=bench.windows.only(one_each))
    assert euclidean_convexity(alone, 2) is None


def test_euclidean_convexity_counts_what_the_rest_of_the_model_says_between_two_clips(
    bench: Evaluator,
) -> None:
    """State 1 by hand: ten points between two clips' states, through blocks 1 and 2 and the head."""
    found = euclidean_convexity(bench, 2)
    assert found is not None
    assert len(found) == 4
    _, first = np.unique(bench.windows.clip, return_index=True)  # a clip has two windows here
    targets = bench.windows.targets(LABELS)
    a, b = (first[end] for end in draw_pairs(targets[first], 2))
    stack, right = bench.stack, []
    with torch.inference_mode():
        for i, j in zip(a, b, strict=True):
            entered = [
                stack.enter(torch.from_numpy(bench.windows.heard(np.array([k])))) for k in (i, j)
            ]
            x, y = (stack.states(batch)[1] for batch in entered)
            for step in range(1, 11):
                state = x + (y - x) * step / 11
                for block in (1, 2):
                    state = stack.block(block, state, entered[0])
                answer = stack.leave([state], (0, 1, 2)).argmax()
                right.append(int(answer) == targets[i])
    assert found[1]["value"] == pytest.approx(np.mean(right))
    assert found[1]["pairs"] == len(a)


def test_the_probe_is_logistic_regression_to_the_end() -> None:
    """The gradient of the decayed loss vanishes, on features of very different scales."""
    generator = np.random.default_rng(0)
    features = torch.from_numpy(generator.standard_normal((200, 5)) * [1e-3, 1, 50, 2, 1] + 7)
    targets = generator.integers(0, 3, 200)
    weight, bias = logistic_regression(features.float(), targets, 3)
    mean, spread = features.mean(0), features.std(0)
    x = (features - mean) / spread
    w = (weight.double() * spread).requires_grad_()
    b = (bias.double() + weight.double() @ mean).requires_grad_()
    loss = torch.nn.functional.cross_entropy(x @ w.T + b, torch.from_numpy(targets))
    (loss + 1e-3 * w.square().sum()).backward()  # type: ignore[no-untyped-call]
    assert w.grad is not None
    assert float(w.grad.abs().max()) < 1e-3


def test_a_probe_on_an_untrained_model_tells_tones_apart(
    model_folder: Path, windows: Windows
) -> None:
    stack = Stack(loading.load_model(str(model_folder)))
    stack.head = fit_probe(stack, windows, LABELS, CPU, Silent())
    right = measure_cuts(
        Evaluator(stack, windows.split("test"), LABELS, CPU, Silent()), [(0, 1, 2)]
    )
    assert right[0, 1, 2].mean() > 0.6


def test_some_clips_come_with_all_their_windows(windows: Windows) -> None:
    few = some_clips(windows, "train", 6)
    assert len(set(few.clip.tolist())) == 6
    assert len(few.clip) == 12
    assert set(few.column("split")) == {"train"}
    assert sorted(few.column("label")) == sorted(4 * list(TONES))
