"""Metrics against brute force: every threshold, every alignment, clips drawn one by one."""

from __future__ import annotations

import functools
from itertools import product

import numpy as np
import pytest

from edgeprune.metrics import (
    METRICS,
    Metric,
    accuracy,
    average_precision,
    balanced_accuracy,
    edit_distance,
    interval,
    macro_f1,
    mean_average_precision,
    ranking_precision,
    transcript_errors,
    value,
)


def precision_by_thresholds(scores: list[float], truth: list[int]) -> float:
    """Go through every distinct score, from the highest, and add precision times recall gained."""
    area, before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        said = [t for s, t in zip(scores, truth, strict=True) if s >= threshold]
        recall = sum(said) / sum(truth)
        area += (recall - before) * sum(said) / len(said)
        before = recall
    return area


@pytest.mark.parametrize("seed", range(20))
def test_average_precision_is_that_of_every_threshold_ties_included(seed: int) -> None:
    generator = np.random.default_rng(seed)
    scores = np.round(generator.random(30), 1 if seed % 2 else 6)  # one decimal: many ties
    truth = (generator.random(30) < 0.3).astype(float)
    truth[0] = 1.0
    expected = precision_by_thresholds(scores.tolist(), truth.astype(int).tolist())
    assert average_precision(scores, truth)[0] == pytest.approx(expected, abs=1e-12)


def test_a_weight_of_two_is_a_clip_that_was_drawn_twice() -> None:
    generator = np.random.default_rng(1)
    scores, truth = generator.random(12), (np.arange(12) % 3 == 0).astype(float)
    weights = generator.integers(0, 3, (5, 12)).astype(float)
    found = average_precision(scores, truth, weights)
    for row, one in zip(weights.astype(int), found, strict=True):
        drawn_scores, drawn_truth = np.repeat(scores, row), np.repeat(truth, row)
        expected = precision_by_thresholds(drawn_scores.tolist(), drawn_truth.astype(int).tolist())
        assert one == pytest.approx(expected, abs=1e-12)


def test_a_tag_no_clip_has_is_left_out_of_the_mean() -> None:
    scores, truth = np.random.default_rng(0).random((8, 3)), np.zeros((8, 3))
    truth[:3, 0] = truth[5:, 2] = 1
    tally = np.stack([scores, truth], axis=2)
    expected = np.mean([precision_by_thresholds(scores[:, i].tolist(), truth[:, i].astype(int).tolist())
                        for i in (0, 2)])  # fmt: skip
    assert mean_average_precision(tally, np.ones((1, 8)))[0] == pytest.approx(expected)


def test_class_metrics_are_those_counted_by_hand() -> None:
    tally = np.array([[0, 0], [0, 0], [0, 0], [0, 1], [1, 1], [1, 0], [2, 1]], dtype=float)
    one = np.ones((1, 7))
    assert accuracy(tally, one)[0] == pytest.approx(4 / 7)
    assert balanced_accuracy(tally, one)[0] == pytest.approx((3 / 4 + 1 / 2 + 0) / 3)
    f1 = [2 * 3 / (4 + 4), 2 * 1 / (2 + 3), 0]
    assert macro_f1(tally, one)[0] == pytest.approx(np.mean(f1))


def distance_by_recursion(a: str, b: str) -> int:
    @functools.cache
    def left(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        change = left(i - 1, j - 1) + (a[i - 1] != b[j - 1])
        return min(change, left(i - 1, j) + 1, left(i, j - 1) + 1)

    return left(len(a), len(b))


def test_edit_distance_is_the_least_of_all_alignments() -> None:
    words = ["".join(letters) for n in range(4) for letters in product("ab", repeat=n)]
    for a, b in product(words, words):
        assert edit_distance(a, b) == distance_by_recursion(a, b), (a, b)
    generator = np.random.default_rng(0)
    for _ in range(30):
        a, b = ("".join(generator.choice(list("abcde"), generator.integers(0, 25))) for _ in "12")
        assert edit_distance(a, b) == distance_by_recursion(a, b)


def test_a_transcript_is_wrong_by_tokens_and_by_words() -> None:
    heard = tuple("A|CAP|SAT")
    assert transcript_errors(heard, "A CAT  SAT", "characters") == (1, 9, 1, 3)
    assert transcript_errors(("sh", "iy"), "sh ix h#", "words") == (2, 3, 2, 3)
    assert transcript_errors((), "SO", "characters") == (2, 2, 1, 1)


def test_ranking_precision_is_that_of_each_right_tag() -> None:
    scores = np.array([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1], [0.2, 0.3, 0.4]])
    truth = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0]])
    assert ranking_precision(scores, truth) == pytest.approx([1.0, (1 / 2 + 2 / 3) / 2, 1.0])


def test_a_metric_is_drawn_again_with_its_groups() -> None:
    """Four groups of clips that are all right or all wrong: the draws are those of four coins."""
    tally = np.array([[0, 0]] * 6 + [[0, 1]] * 2, dtype=float)
    groups = ["a"] * 2 + ["b"] * 2 + ["c"] * 2 + ["d"] * 2
    metric = Metric("accuracy", accuracy)
    low, high = interval(metric, [tally], groups)
    assert (low, high) == (0.25, 1.0)  # 3 or 4 of 4 draws are d with probability 5 %
    narrow = interval(metric, [np.repeat(tally, 50, axis=0)])
    assert narrow[1] - narrow[0] < 0.1


def test_the_interval_of_average_precision_lies_about_its_value() -> None:
    """Clips drawn twice tie, which alone would lift it above the value."""
    generator = np.random.default_rng(0)
    truth = (generator.random((60, 4)) < 0.2).astype(float)
    scores = 0.5 * truth + generator.random((60, 4))
    tally = np.stack([scores, truth], axis=2)
    metric = METRICS["tags"][0]
    low, high = interval(metric, [tally])
    own = value(metric, tally)
    assert low < own < high
    assert (own - low) == pytest.approx(high - own, abs=0.5 * (high - low) / 2)


def test_a_paired_difference_is_taken_on_the_same_draws() -> None:
    generator = np.random.default_rng(0)
    tally = generator.integers(0, 2, (60, 2)).astype(float)
    metric = Metric("accuracy", accuracy)
    assert interval(metric, [tally], base=[tally]) == (0.0, 0.0)
    assert value(metric, tally) == pytest.approx(np.mean(tally[:, 0] == tally[:, 1]))


def test_what_decides_is_from_0_to_1_and_1_is_best() -> None:
    perfect = {"classes": np.array([[0.0, 0.0], [1.0, 1.0]]),
               "tags": np.array([[[0.9, 1.0], [0.1, 0.0]], [[0.2, 0.0], [0.8, 1.0]]]),
               "ctc": np.array([[0.0, 4.0, 0.0, 2.0]])}  # fmt: skip
    for task, tally in perfect.items():
        assert value(METRICS[task][0], tally) == 1.0
    assert (
        value(METRICS["ctc"][0], np.array([[9.0, 4.0, 0.0, 2.0]])) == 0.0
    )  # more errors than tokens
