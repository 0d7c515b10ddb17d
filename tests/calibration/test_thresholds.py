"""Decision thresholds against every threshold there is."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprune_calibration.thresholds import (
    HIGHEST,
    LOWEST,
    LOWEST_WITHOUT_BACKGROUND,
    choose_thresholds,
    fit_temperature,
    nll,
)


def precision_at(scores: np.ndarray, right: np.ndarray, threshold: float) -> float:
    said = scores >= threshold
    return float(right[said].mean()) if said.any() else 1.0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("wanted", [0.8, 0.95, 1.0])
@pytest.mark.parametrize("lowest", [LOWEST, LOWEST_WITHOUT_BACKGROUND])
def test_the_threshold_reaches_the_precision_and_none_lower_does_by_much(
    seed: int, wanted: float, lowest: float
) -> None:
    generator = np.random.default_rng(seed)
    truth = generator.integers(-1, 3, 400)
    scores = np.clip(generator.normal(0.3, 0.2, (400, 3)), 0, 0.99)
    scores[np.arange(400)[truth >= 0], truth[truth >= 0]] += 0.4
    scores = scores.clip(0, 0.99)
    chosen = choose_thresholds(scores, truth, ["a", "b", "c"], wanted, lowest)
    for index, label in enumerate("abc"):
        own, right = scores[:, index], truth == index
        threshold = chosen[label]
        assert lowest <= threshold <= HIGHEST
        assert precision_at(own, right, threshold) >= wanted
        reach = [t for t in np.unique(own[own >= lowest]) if precision_at(own, right, t) >= wanted]
        if reach:  # the lowest score that reaches it is the first one reported
            assert own[own >= threshold].min() == pytest.approx(reach[0])


def test_labels_that_are_never_confused_get_the_lowest_threshold() -> None:
    scores = np.array([[0.97, 0.01]] * 5 + [[0.02, 0.98]] * 5)
    truth = np.array([0] * 5 + [1] * 5)
    chosen = choose_thresholds(scores, truth, ["a", "b"], 0.95)
    assert chosen == {"a": LOWEST, "b": LOWEST}


def test_a_label_that_is_only_ever_wrong_stands_above_its_wrong_scores() -> None:
    scores = np.array([[0.7, 0.3], [0.8, 0.2], [0.1, 0.9]])
    truth = np.array([-1, -1, 1])
    chosen = choose_thresholds(scores, truth, ["a", "b"], 0.95)
    assert chosen["a"] > 0.8


@pytest.mark.parametrize(
    ("wrong", "expected"), [((0.2, 0.3), 0.5), ((0.6, 0.9), 0.9), ((0.9999, 0.4), 0.995)]
)
def test_silencing_a_label_keeps_to_the_bounds(wrong: tuple[float, float], expected: float) -> None:
    scores = np.array([[x] for x in wrong])
    chosen = choose_thresholds(scores, np.array([-1, -1]), ["a"], 0.95)
    assert chosen["a"] == pytest.approx(expected, abs=1e-3)


def test_a_threshold_stands_midway_to_the_next_lower_score() -> None:
    scores = np.array([[0.98], [0.94], [0.88], [0.85]])
    truth = np.array([0, 0, -1, -1])
    assert choose_thresholds(scores, truth, ["a"], 1.0)["a"] == pytest.approx(0.91)
    assert choose_thresholds(scores, truth, ["a"], 2 / 3)["a"] == pytest.approx(0.865)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_the_temperature_that_made_scores_too_sure_is_found_again(
    activation: str, true: float
) -> None:
    generator = np.random.default_rng(0)
    honest = generator.normal(0, 2, (6000, 4))
    if activation == "softmax":
        powers = np.exp(honest)
        truth = (powers.cumsum(1) / powers.sum(1, keepdims=True) < generator.random((6000, 1))).sum(
            1
        )
        told = np.exp(honest * true - (honest * true).max(axis=1, keepdims=True))
        scores = told / told.sum(axis=1, keepdims=True)
    else:
        truth = (generator.random((6000, 4)) < 1 / (1 + np.exp(-honest))).astype(int)
        scores = 1 / (1 + np.exp(-honest * true))
    found = fit_temperature(scores.astype(np.float32), truth, activation)
    assert found == pytest.approx(true, rel=0.06)
    tried = np.geomspace(0.05, 20, 200)
    costs = [nll(scores, truth, float(t), activation) for t in tried]
    assert nll(scores, truth, found, activation) <= min(costs) + 1e-6


def test_scores_that_are_always_right_get_the_lowest_temperature_and_always_wrong_the_highest() -> (
    None
):
    scores = np.tile(np.array([[0.6, 0.4]], np.float32), (20, 1))
    assert fit_temperature(scores, np.zeros(20, int), "softmax") == pytest.approx(0.05, rel=1e-3)
    assert fit_temperature(scores, np.ones(20, int), "softmax") == pytest.approx(20, rel=1e-3)
