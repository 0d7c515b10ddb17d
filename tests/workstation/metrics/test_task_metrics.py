"""Each task's metrics: by loops over clips, by hand, and under drawing clips again."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeprune.metrics.task_metrics import (
    METRICS,
    Metric,
    average_precision,
    edit_distance,
    interval,
    ranking_precision,
    transcript_errors,
    value,
)

BY_NAME = {metric.name: metric for metrics in METRICS.values() for metric in metrics}


def once(tally: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.ones((1, len(tally)))


def classes(seed: int, clips: int = 60, kinds: int = 4) -> NDArray[np.float64]:
    """Return (right, decided) of clips, of which about half are right."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(kinds, size=clips)
    said = np.where(generator.random(clips) < 0.5, truth, generator.integers(kinds, size=clips))
    return np.stack([truth, said], axis=1).astype(float)


def test_accuracy_recall_and_f1_are_those_counted_clip_by_clip() -> None:
    tally = classes(0)
    pairs = [(int(a), int(b)) for a, b in tally]
    truth, said = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    hits = Counter(a for a, b in pairs if a == b)
    recall = [hits[c] / truth[c] for c in truth]
    f1 = [2 * hits[c] / (truth[c] + said[c]) for c in truth]
    assert value(BY_NAME["accuracy"], tally) == pytest.approx(sum(hits.values()) / len(pairs))
    assert value(BY_NAME["balanced accuracy"], tally) == pytest.approx(np.mean(recall))
    assert value(BY_NAME["macro F1"], tally) == pytest.approx(np.mean(f1))


@pytest.mark.parametrize("name", ["accuracy", "balanced accuracy", "macro F1"])
def test_a_clip_that_is_drawn_twice_counts_as_two_clips_and_one_not_drawn_as_none(
    name: str,
) -> None:
    tally, metric = classes(1, clips=12, kinds=3), BY_NAME[name]
    drawn = np.random.default_rng(0).multinomial(12, np.full(12, 1 / 12), size=20).astype(float)
    expected = [value(metric, np.repeat(tally, row.astype(int), axis=0)) for row in drawn]
    np.testing.assert_allclose(metric.compute(tally, drawn), expected)


def precision_by_hand(scores: Sequence[float], truth: Sequence[float]) -> float:
    """Sum precision at each distinct score over the recall gained there."""
    found, recalled = 0.0, 0.0
    for least in sorted(set(scores), reverse=True):
        above = [t for s, t in zip(scores, truth, strict=True) if s >= least]
        recall = sum(above) / sum(truth)
        found += (recall - recalled) * sum(above) / len(above)
        recalled = recall
    return found


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_is_precision_weighted_by_recall_gained(ties: bool) -> None:
    generator = np.random.default_rng(3)
    scores = generator.random(40).round(1 if ties else 8)
    truth = (generator.random(40) < 0.3).astype(float)
    expected = precision_by_hand(scores.tolist(), truth.tolist())
    assert average_precision(scores, truth)[0] == pytest.approx(expected)


def test_the_mean_over_tags_leaves_out_those_that_no_clip_has() -> None:
    generator = np.random.default_rng(4)
    scores, truth = generator.random((20, 3)), (generator.random((20, 3)) < 0.4).astype(float)
    truth[:, 1] = 0
    tally = np.stack([scores, truth], axis=2)
    each = [precision_by_hand(scores[:, i].tolist(), truth[:, i].tolist()) for i in (0, 2)]
    assert value(BY_NAME["mAP"], tally) == pytest.approx(np.mean(each))
    assert math.isnan(value(BY_NAME["mAP"], np.stack([scores, 0 * truth], axis=2)))


def test_ranking_precision_is_the_share_of_right_tags_among_those_as_high() -> None:
    scores = np.array([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1], [0.2, 0.2, 0.2], [0.1, 0.2, 0.3]])
    truth = np.array([[1.0, 0, 0], [0, 1, 1], [0, 0, 1], [0, 0, 0]])
    # first: 1/1; second: 1/2 and 2/3; third: all tie, 1/3; fourth: no tag
    expected = [1.0, (1 / 2 + 2 / 3) / 2, 1 / 3, 1.0]
    assert ranking_precision(scores, truth).tolist() == pytest.approx(expected)


@cache
def distance_by_hand(a: str, b: str) -> int:
    if not a or not b:
        return len(a) + len(b)
    return min(
        distance_by_hand(a[1:], b) + 1,
        distance_by_hand(a, b[1:]) + 1,
        distance_by_hand(a[1:], b[1:]) + (a[0] != b[0]),
    )


@pytest.mark.parametrize(
    ("heard", "said"),
    [("", ""), ("", "abc"), ("abc", ""), ("kitten", "sitting"), ("flaw", "lawn"), ("aab", "baa")],
)
def test_edits_are_the_fewest_of_all_ways(heard: str, said: str) -> None:
    assert edit_distance(heard, said) == distance_by_hand(heard, said)


def test_edits_of_random_words_are_the_fewest_of_all_ways() -> None:
    generator = np.random.default_rng(5)
    for _ in range(60):
        heard, said = (
            "".join(generator.choice(list("abc"), n)) for n in generator.integers(9, size=2)
        )
        assert edit_distance(heard, said) == distance_by_hand(heard, said)


def test_a_transcripts_errors_are_counted_in_tokens_and_in_words() -> None:
    heard = [*"go", "|", *"one"]  # said: go on
    assert transcript_errors(heard, "go on", "characters") == (1, 5, 1, 2)
    assert transcript_errors(["go", "one"], "go on", "words") == (1, 2, 1, 2)
    assert transcript_errors([], "", "characters") == (0, 0, 0, 0)


def test_error_rates_weigh_clips_by_their_length_and_the_score_never_falls_below_zero() -> None:
    tally = np.array([[1.0, 10, 1, 2], [6, 2, 3, 1]])
    assert value(BY_NAME["token error rate"], tally) == pytest.approx(7 / 12)
    assert value(BY_NAME["word error rate"], tally) == pytest.approx(4 / 3)
    assert value(BY_NAME["1 - TER"], tally) == pytest.approx(5 / 12)
    assert value(BY_NAME["1 - TER"], tally[1:]) == 0.0
    assert value(BY_NAME["token error rate"], np.zeros((1, 4))) == 0.0


def test_the_interval_of_a_share_is_near_the_normal_one() -> None:
    right = (np.arange(400) < 300).astype(float)
    low, high = interval(BY_NAME["accuracy"], [np.stack([np.ones(400), right], axis=1)])
    half = 1.96 * math.sqrt(0.75 * 0.25 / 400)
    assert (low, high) == pytest.approx((0.75 - half, 0.75 + half), abs=0.006)


def test_clips_of_one_group_are_drawn_together() -> None:
    """Ten groups that are all right or all wrong: the interval is that of ten clips."""
    right = np.repeat((np.arange(10) < 6).astype(float), 30)
    tally = np.stack([np.ones(300), right], axis=1)
    groups = [f"g{i // 30}" for i in range(300)]
    alone = np.stack([np.ones(10), (np.arange(10) < 6).astype(float)], axis=1)
    assert interval(BY_NAME["accuracy"], [tally], groups) == pytest.approx(
        interval(BY_NAME["accuracy"], [alone]), abs=1e-9
    )
    low, high = interval(BY_NAME["accuracy"], [tally])
    wide = interval(BY_NAME["accuracy"], [tally], groups)
    assert wide[1] - wide[0] > 3 * (high - low)


def test_a_paired_difference_of_the_same_answers_is_nothing_and_may_be_negative() -> None:
    tally = classes(6)
    worse = tally.copy()
    worse[:20, 1] = (worse[:20, 0] + 1) % 4
    same = interval(BY_NAME["accuracy"], [tally], base=[tally])
    low, high = interval(BY_NAME["accuracy"], [worse], base=[tally])
    assert same == (0.0, 0.0)
    assert low <= value(BY_NAME["accuracy"], worse) - value(BY_NAME["accuracy"], tally) <= high < 0


def test_of_several_seeds_the_mean_is_drawn() -> None:
    one, other = classes(7), classes(8)
    other[:, 0] = one[:, 0]
    low, high = interval(BY_NAME["accuracy"], [one, other])
    mean = (value(BY_NAME["accuracy"], one) + value(BY_NAME["accuracy"], other)) / 2
    assert low < mean < high
    assert interval(BY_NAME["accuracy"], [one, one]) == interval(BY_NAME["accuracy"], [one])


def test_draws_of_a_metric_that_drawing_lifts_stand_around_its_value() -> None:
    generator = np.random.default_rng(9)
    scores, truth = generator.random((60, 2)), (generator.random((60, 2)) < 0.2).astype(float)
    tally, metric = np.stack([scores, truth], axis=2), BY_NAME["mAP"]
    low, high = interval(metric, [tally])
    lifted = interval(Metric("mAP", metric.compute), [tally])
    assert low < value(metric, tally) < high
    assert sum(lifted) > sum((low, high)), "ties of a clip with itself count as found together"


def test_the_same_seed_draws_the_same_clips() -> None:
    tally = classes(10)
    first, again, other = (interval(BY_NAME["macro F1"], [tally], seed=s) for s in (0, 0, 1))
    assert first == again != other
