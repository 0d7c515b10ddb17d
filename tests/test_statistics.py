"""Intervals against scipy, textbook values and simulated data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from edgeprune.statistics import bootstrap_interval, wilson_interval


@pytest.mark.parametrize(
    ("correct", "total"), [(0, 1), (1, 1), (0, 20), (20, 20), (7, 9), (150, 200), (99_999, 100_000)]
)
def test_wilson_agrees_with_scipy(correct: int, total: int) -> None:
    expected = binomtest(correct, total).proportion_ci(0.95, method="wilson")
    assert wilson_interval(correct, total) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_gives_the_values_that_newcombe_prints() -> None:
    """Newcombe 1998 (Statistics in Medicine 17:857), table I, method 3: 81/263, 15/148, 0/20."""
    printed = {(81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605), (0, 20): (0.0, 0.1611)}
    for (correct, total), interval in printed.items():
        assert wilson_interval(correct, total) == pytest.approx(interval, abs=5e-5)


@pytest.mark.parametrize(("correct", "total"), [(0, 0), (1, 0), (-1, 5), (6, 5), (0, -3)])
def test_wilson_refuses_what_is_no_proportion(correct: int, total: int) -> None:
    with pytest.raises(ValueError, match=f"{correct} of {total} is not a proportion"):
        wilson_interval(correct, total)


def test_the_bootstrap_covers_the_truth_about_95_times_in_100() -> None:
    generator = np.random.default_rng(5)
    runs, truth, covered = 300, 0.8, 0
    for run in range(runs):
        low, high = bootstrap_interval(generator.random(150) < truth, draws=400, seed=run)
        covered += low <= truth <= high
    assert 0.90 <= covered / runs <= 0.98


def test_the_bootstrap_of_ungrouped_values_has_the_normal_width() -> None:
    """Far from the ends the percentile interval is mean +- 1.96 standard errors."""
    values = np.random.default_rng(6).normal(3.0, 2.0, size=2000)
    low, high = bootstrap_interval(values)
    error = values.std() / np.sqrt(len(values))
    assert (low, high) == pytest.approx(
        (values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.1 * error
    )


def test_clips_of_one_speaker_that_are_all_alike_count_as_one() -> None:
    """20 speakers of 25 equal clips: the standard error is that of 20 values, 5 times that of 500."""
    of_speaker = np.random.default_rng(7).normal(size=20)
    values, speakers = np.repeat(of_speaker, 25), np.repeat([f"s{i}" for i in range(20)], 25)
    low, high = bootstrap_interval(values, speakers.tolist())
    alone_low, alone_high = bootstrap_interval(values)
    assert (high - low) / (alone_high - alone_low) == pytest.approx(5.0, rel=0.1)
    once = bootstrap_interval(of_speaker)
    assert (low, high) == pytest.approx(once, abs=0.05)


def test_groups_of_unequal_size_weigh_by_their_clips() -> None:
    """Two speakers, 1 right of 1 and 0 right of 3: a draw gives 1, 1/4 or 0, never 1/2."""
    low, high = bootstrap_interval(np.array([1, 0, 0, 0]), ["a", "b", "b", "b"])
    assert (low, high) == (0.0, 1.0)
    means = {bootstrap_interval(np.array([1, 0, 0, 0]), ["a", "b", "b", "b"], draws=1, seed=s)[0]
             for s in range(30)}  # fmt: skip
    assert means == {0.0, 0.25, 1.0}


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    values = np.random.default_rng(8).normal(size=50)
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)


@pytest.mark.parametrize("groups", [None, []])
def test_the_mean_of_nothing_has_no_interval(groups: list[str] | None) -> None:
    with pytest.raises(ValueError, match="no value"):
        bootstrap_interval(np.array([]), groups)


def test_groups_must_be_as_many_as_values() -> None:
    with pytest.raises(ValueError, match="length"):
        bootstrap_interval(np.ones(3), ["a", "b"])
