"""Graph convexity against a brute-force oracle, its invariances, and its rules at the edges."""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from dataclasses import asdict
from itertools import permutations

import numpy as np
import pytest
from convexity_by_hand import (
    Points,
    classes_by_hand,
    clumps,
    pairs_by_hand,
    random_case,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.metrics.convexity import Convexity, convexities, first_within, graph_convexity
from edgeprune_device.errors import EdgepruneError

examples = settings(derandomize=True, deadline=None, max_examples=200)
seeds = st.integers(0, 2**32 - 1)


def score(points: Points, labels: Sequence[Hashable], k: int = 10) -> Convexity:
    """Measure scores and the null's mean alone."""
    return graph_convexity(points, labels, k=k, permutations=0, draws=0)


@examples
@given(seeds)
def test_every_class_scores_what_walking_every_path_by_hand_gives(seed: int) -> None:
    points, labels, k = random_case(seed, twins=True)
    scores = pairs_by_hand(points, labels, k)
    found = score(points, labels, k)
    expected = classes_by_hand(scores, labels)
    assert found.per_class == pytest.approx(expected, abs=1e-12)
    assert found.mean_of_classes == pytest.approx(np.mean(list(expected.values())), abs=1e-12)
    assert found.pooled == pytest.approx(np.mean(list(scores.values())), abs=1e-12)


@examples
@given(seeds)
def test_the_reference_scores_what_its_rules_give_by_hand(seed: int) -> None:
    points, labels, k = random_case(seed, twins=True)
    scores = pairs_by_hand(points, labels, k, reference=True)
    found = graph_convexity(points, labels, k=k, permutations=0, draws=0, reference=True)
    assert found.pooled == pytest.approx(np.mean(list(scores.values())), abs=1e-12)
    assert found.per_class == pytest.approx(classes_by_hand(scores, labels), abs=1e-12)


@examples
@given(seeds, st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_turning_moving_and_scaling_the_points_does_not_matter(
    seed: int, shift: float, scale: float
) -> None:
    points, labels, k = random_case(seed)
    d = points.shape[1]
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]
    before, after = score(points, labels, k), score(scale * (points @ turn) + shift, labels, k)
    assert after.per_class == pytest.approx(before.per_class, abs=1e-12)


@examples
@given(seeds)
def test_the_order_of_the_points_and_the_names_of_the_classes_do_not_matter(seed: int) -> None:
    points, labels, k = random_case(seed)
    order = np.random.default_rng(seed).permutation(len(points))
    before = score(points, labels, k)
    after = score(points[order], [f"z{labels[i]}" for i in order], k)
    assert after.per_class == pytest.approx({f"z{n}": v for n, v in before.per_class.items()})
    assert after.pooled == pytest.approx(before.pooled)
    assert after.null_mean == pytest.approx(before.null_mean)


def test_clumps_a_million_apart_keep_their_exact_neighbours() -> None:
    points, labels = clumps(12, 1.0)
    points[::2] += 1e6
    expected = classes_by_hand(pairs_by_hand(points, labels, 3), labels)
    assert score(points, labels, 3).per_class == pytest.approx(expected, abs=1e-12)


@examples
@given(seeds, st.integers(2, 4))
def test_well_separated_classes_that_hang_together_are_convex(seed: int, classes: int) -> None:
    points, labels = clumps(15, 0.01, seed, classes)
    found = graph_convexity(points, labels, k=9, draws=50)
    assert found.pooled == found.mean_of_classes == 1.0
    assert found.interval == found.pooled_interval == (1.0, 1.0)
    assert found.null_mean <= found.null_high < 1.0


def test_two_classes_on_a_line_that_alternate_are_least_convex() -> None:
    points = np.cumsum(1 + 0.01 * np.random.default_rng(4).random(12))[:, None]
    assert score(points, ["a", "b"] * 6, 2).pooled < 0.6


def test_a_class_in_two_parts_that_no_path_joins_scores_zero_across_them() -> None:
    points = np.array([0.0, 1.0, 2.1, 100.0, 101.0, 102.1])[:, None]
    found = score(points, ["a"] * 6, 1)
    assert found.pooled == pytest.approx(2 * 6 / 30)


def test_exact_duplicates_are_neighbours_and_cost_the_reference_its_paths() -> None:
    generator = np.random.default_rng(5)
    points = np.concatenate([generator.normal(10 * c, 1, (20, 3)) for c in range(2)])
    points[:12] = points[0]
    labels = ["a"] * 20 + ["b"] * 20
    ours = score(points, labels, 9)
    theirs = graph_convexity(points, labels, k=9, permutations=0, draws=0, reference=True)
    assert ours.pooled == 1.0
    assert theirs.per_class["a"] < 0.9 < theirs.per_class["b"]
    assert score(np.zeros((6, 2)), ["a", "b"] * 3, 5).pooled == 1.0


@pytest.mark.parametrize("angle", np.linspace(0, 3, 7))
def test_of_equally_long_paths_the_one_with_the_fewest_steps_counts(angle: float) -> None:
    """Turned, the lengths are equal up to rounding only."""
    line = np.array([0.1, 0.4, 0.7])[:, None] * [np.cos(angle), np.sin(angle)]
    assert score(line, ["a", "b", "a"], 2).per_class == {"a": 1.0}


@pytest.mark.parametrize(("order", "expected"), [([0, 1, 2, 3, 4], 0.0), ([0, 2, 1, 3, 4], 1.0)])
def test_of_equally_near_neighbours_the_first_one_counts(order: list[int], expected: float) -> None:
    points = np.array([0.0, 1.0, -1.0, 1.5, -1.5])[order][:, None]
    labels = np.array(["a", "b", "a", "b", "b"])[order]
    assert score(points, labels.tolist(), 1).per_class["a"] == expected


def test_a_class_with_one_member_has_no_pair_and_is_left_out() -> None:
    points = np.random.default_rng(3).standard_normal((21, 3))
    found = graph_convexity(points, ["a"] * 10 + ["b"] * 10 + ["alone"], k=4)
    assert set(found.per_class) == {"a", "b"}
    assert np.isfinite([found.mean_of_classes, *found.interval, found.null_high]).all()


def test_the_null_s_mean_is_that_of_all_labellings() -> None:
    points = np.random.default_rng(6).standard_normal((8, 2))
    points[:3] += 50
    labels = ["a", "a", "a", "b", "b", "b", "b", "alone"]
    every = [score(points, mixed, 2).mean_of_classes for mixed in set(permutations(labels))]
    found = graph_convexity(points, labels, k=2, permutations=2000, draws=0)
    assert found.null_mean == pytest.approx(np.mean(every), abs=1e-12)
    assert found.null_high == pytest.approx(np.quantile(every, 0.975), abs=0.03)


def test_the_null_s_mean_is_that_of_many_permutations() -> None:
    points, labels = clumps(15, 0.7)
    generator = np.random.default_rng(8)
    values = [score(points, [labels[i] for i in generator.permutation(45)], 4).mean_of_classes
              for _ in range(400)]  # fmt: skip
    error = np.std(values) / np.sqrt(len(values))
    assert score(points, labels, 4).null_mean == pytest.approx(np.mean(values), abs=4 * error)


def test_labels_without_meaning_score_like_their_own_null() -> None:
    points = np.random.default_rng(1).standard_normal((150, 8))
    found = graph_convexity(points, [i % 5 for i in range(150)], permutations=50)
    assert abs(found.mean_of_classes - found.null_mean) < 0.05
    assert found.interval[0] < found.null_mean < found.null_high


@settings(examples, max_examples=20)
@given(seeds)
def test_the_interval_covers_the_score_and_shrinks_with_more_clips(seed: int) -> None:
    few, many = (graph_convexity(*clumps(each, 0.8, seed), permutations=0) for each in (15, 120))
    for found in (few, many):
        assert found.interval[0] <= found.mean_of_classes <= found.interval[1]
        assert found.pooled_interval[0] <= found.pooled <= found.pooled_interval[1]
    assert np.ptp(many.interval) < np.ptp(few.interval)


def test_drawing_whole_speakers_widens_the_interval_where_their_clips_lie_together() -> None:
    generator = np.random.default_rng(9)
    speakers = np.repeat(np.arange(8), 12)
    points = generator.standard_normal((8, 5))[speakers] + 0.5 * generator.standard_normal((96, 5))
    labels = [f"word {i % 2}" if s < 4 else f"word {s % 2}" for i, s in enumerate(speakers)]
    by_clip = graph_convexity(points, labels, k=5)
    by_speaker = graph_convexity(points, labels, k=5, groups=[str(s) for s in speakers])
    assert np.ptp(by_speaker.interval) > 1.5 * np.ptp(by_clip.interval)


def test_clips_are_drawn_where_every_class_lies_within_one_group() -> None:
    points, labels = clumps(12, 0.8)
    groups = [str(label) for label in labels]
    assert graph_convexity(points, labels, groups=groups) == graph_convexity(points, labels)


def test_labellings_measured_together_score_as_they_do_alone() -> None:
    points, words = clumps(15, 0.8)
    speakers = [i % 4 for i in range(45)]
    groups = {"words": [str(s) for s in speakers]}
    together = convexities(points, {"words": words, "speakers": speakers}, k=5, groups=groups)
    assert together["words"] == graph_convexity(points, words, k=5, groups=groups["words"])
    assert together["speakers"] == graph_convexity(points, speakers, k=5)


def test_a_measurement_can_be_written_as_json() -> None:
    facts = asdict(graph_convexity(*clumps(8, 0.5), k=3))
    assert json.loads(json.dumps(facts, allow_nan=False))["per_class"] == facts["per_class"]


RANDOM = np.random.default_rng(0).random((20, 2))


@pytest.mark.parametrize(
    ("points", "labels", "groups", "sentence"),
    [
        (np.full((20, 2), np.nan), ["a"] * 20, None, "values that are not finite"),
        (np.zeros((3, 2)), ["a"] * 3, None, "k = 5 is out of range"),
        (RANDOM, list(range(20)), None, "no class with two members"),
        (RANDOM, ["a"] * 19, None, "does not have a label for each of the 20 points"),
        (RANDOM, ["a"] * 19 + [None], None, "does not have a label for each of the 20 points"),
        (RANDOM, ["a"] * 20, ["g"] * 19, "has 20 labels but 19 groups"),
    ],
)
def test_points_that_cannot_be_scored_are_refused(
    points: Points, labels: list[Hashable], groups: list[str] | None, sentence: str
) -> None:
    with pytest.raises(EdgepruneError, match=sentence):
        graph_convexity(points, labels, k=5, groups=groups)


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


def test_the_share_of_pairs_that_a_path_joins_is_told() -> None:
    """Three islands of 20 points: of 60 x 59 ordered pairs, 3 x 20 x 19 are joined."""
    generator = np.random.default_rng(11)
    points = np.concatenate([generator.normal(1000 * i, 0.1, (20, 3)) for i in range(3)])
    found = graph_convexity(points, ["a", "b", "c", "d"] * 15, k=5, permutations=2, draws=10)
    assert found.connected == pytest.approx(3 * 20 * 19 / (60 * 59))
