"""Intervals against scipy, textbook values and simulated data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, spearmanr

from edgeprune.metrics.statistics import (
    bootstrap_interval,
    rank_correlation,
    sign_flip_test,
    wilson_interval,
)


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
    with pytest.raises(ValueError, match="values is empty"):
        bootstrap_interval(np.array([]), groups)


def test_groups_must_be_as_many_as_values() -> None:
    with pytest.raises(ValueError, match="length"):
        bootstrap_interval(np.ones(3), ["a", "b"])


@pytest.mark.parametrize("values", [[0.3, 0.1, 0.5, 0.2, 0.9], [1, 1, 2, 3, 3], [5, 3, 4, 1, 2]])
def test_the_rank_correlation_is_scipys_ties_included(values: list[float]) -> None:
    other = [0.1, 0.4, 0.4, 0.8, 0.9]
    rho, (low, high) = rank_correlation(values, other)
    assert rho == pytest.approx(spearmanr(values, other).statistic)
    assert -1 <= low <= rho <= high <= 1


def test_the_interval_of_a_rank_correlation_is_bonetts_and_wrights() -> None:
    """Fisher's z with the variance (1 + rho^2 / 2) / (n - 3); here rho = 0.6 exactly, n = 4 + 1."""
    x, y = [1, 2, 3, 4, 5], [1, 2, 5, 4, 3]
    rho, interval = rank_correlation(x, y)
    assert rho == pytest.approx(0.6)
    half = 1.959964 * np.sqrt((1 + 0.18) / 2)
    expected = np.tanh([np.arctanh(0.6) - half, np.arctanh(0.6) + half])
    assert interval == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_perfect_order_has_no_interval() -> None:
    rho, interval = rank_correlation([1, 2, 3, 4], [10, 20, 30, 40])
    assert rho == pytest.approx(1.0)
    assert np.isnan(interval).all()


def test_the_interval_of_a_rank_correlation_covers_the_truth() -> None:
    """Normal pairs of correlation 0.7: Spearman's rho is 6/pi asin(0.35)."""
    truth, generator, covered = 6 / np.pi * np.arcsin(0.35), np.random.default_rng(9), 0
    for _ in range(300):
        x, y = generator.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], size=25).T
        low, high = rank_correlation(x.tolist(), y.tolist())[1]
        covered += low <= truth <= high
    assert covered / 300 > 0.90


def test_what_is_constant_has_no_rank_correlation() -> None:
    rho, interval = rank_correlation([1, 1, 1, 1], [1, 2, 3, 4])
    assert np.isnan([rho, *interval]).all()
    with pytest.raises(ValueError, match="rank correlation needs 4 or more pairs"):
        rank_correlation([1, 2, 3], [1, 2, 3])


def test_the_sign_flip_test_is_exact_on_few_clips() -> None:
    """Five clips, all in favour: 2 of 32 sign patterns are as extreme."""
    assert sign_flip_test(np.ones(5)) == pytest.approx(2 / 32, abs=0.01)
    assert sign_flip_test(np.zeros(5)) == 1.0


def test_clips_of_a_group_flip_together() -> None:
    """Three speakers of 50 clips each are three observations: the least p is 2 of 8."""
    speakers = np.repeat(["a", "b", "c"], 50).tolist()
    assert sign_flip_test(np.ones(150), speakers) == pytest.approx(0.25, abs=0.02)
    assert sign_flip_test(np.ones(150)) < 0.001


def test_a_difference_of_nothing_is_found_significant_one_time_in_twenty() -> None:
    generator = np.random.default_rng(10)
    found = [sign_flip_test(generator.normal(size=40), draws=400, seed=i) < 0.05
             for i in range(300)]  # fmt: skip
    assert 0.02 <= np.mean(found) <= 0.08


def test_no_difference_at_all_cannot_be_tested() -> None:
    with pytest.raises(ValueError, match="differences is empty"):
        sign_flip_test(np.array([]))
