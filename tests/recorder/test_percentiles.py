"""Percentiles and how many samples each needs: against scipy, and what LoadGen itself printed."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune_device.percentiles import (
    PERCENTILES,
    binomial_cdf,
    bound,
    describe,
    discarded,
    interval,
    needed,
    thin,
)


@settings(deadline=None)
@given(st.integers(1, 3000), st.floats(0.001, 0.999))
def test_binomial_probabilities_are_scipys(n: int, share: float) -> None:
    expected = scipy.stats.binom.cdf(np.arange(n + 1), n, share)
    np.testing.assert_allclose(binomial_cdf(n, share), expected, atol=1e-9)


@pytest.mark.parametrize(("n", "thrown_away"), [
    (100, 2),  # a summary in mlcommons/inference's issues
    (201, 9),  # MLPerf Inference v3.1, gptj-99 on Zen 4
    (659, 47), (708, 51),
    (79_944, 7796),  # MLPerf Inference v3.0, BERT on a Qualcomm Cloud AI 100
])  # fmt: skip
def test_as_many_samples_are_discarded_as_mlperfs_loadgen_says_in_published_summaries(
    n: int, thrown_away: int
) -> None:
    assert discarded(n, 0.9) - 1 == thrown_away


def test_needed_samples_are_mlperfs_64_and_662_and_no_smaller_number_would_do() -> None:
    assert (needed(0.9), needed(0.99)) == (64, 662)
    for percentile in PERCENTILES.values():
        n = needed(percentile)
        assert scipy.stats.binom.cdf(1, n, 1 - percentile) <= 0.01
        assert scipy.stats.binom.cdf(1, n - 1, 1 - percentile) > 0.01


@given(st.integers(1, 900), st.sampled_from([0.5, 0.9, 0.99]))
def test_discarded_is_the_largest_count_that_the_binomial_allows(n: int, percentile: float) -> None:
    allowed = [t for t in range(1, n + 1) if scipy.stats.binom.cdf(t, n, 1 - percentile) <= 0.01]
    assert discarded(n, percentile) == max(allowed, default=0)


def test_bound_lies_over_the_true_percentile_in_99_of_100_runs() -> None:
    generator = np.random.default_rng(0)
    truth = scipy.stats.gamma(9).ppf(0.9)
    held = [bound(generator.gamma(9.0, size=200), 0.9) for _ in range(4000)]
    assert np.mean([one is not None and one > truth for one in held]) >= 0.99


def test_bound_never_lies_under_the_plain_percentile() -> None:
    samples = np.random.default_rng(1).gamma(9.0, size=700)
    for percentile in (0.9, 0.99):
        found = bound(samples, percentile)
        assert found is not None
        assert found >= np.quantile(samples, percentile)


@pytest.mark.parametrize("percentile", [0.5, 0.9])
def test_interval_covers_the_true_percentile_at_least_as_often_as_it_says(
    percentile: float,
) -> None:
    generator = np.random.default_rng(2)
    truth, inside = scipy.stats.expon.ppf(percentile), 0
    for _ in range(4000):
        ends = interval(generator.exponential(size=80), percentile)
        assert ends is not None
        inside += ends[0] < truth < ends[1]
    assert 0.945 <= inside / 4000 <= 0.985


def test_interval_of_the_median_of_ten_is_the_second_and_the_ninth() -> None:
    # Table of David and Nagaraja: X(2) to X(9) covers 97.9 %, X(3) to X(8) 89.1 %.
    assert interval(np.arange(1.0, 11.0), 0.5) == (2.0, 9.0)
    assert interval(np.arange(5.0), 0.5) is None  # all five cover 93.75 % only


def test_a_percentile_of_too_few_samples_is_absent_with_the_reason() -> None:
    found = describe(np.arange(1.0, 101.0))
    assert found["p90"]["ms"] == pytest.approx(90.1)
    assert found["p99"] == {"ms": None, "needs": 662, "interval": None,
                            "missing": "100 samples; 662 are needed"}  # fmt: skip
    assert found["early_stopping"]["p90"]["ms"] == 98.0  # two are discarded
    assert found["early_stopping"]["p99"]["missing"] == "100 samples; 662 are needed"
    assert describe(np.array([])) == {"n": 0, "missing": "nothing was measured"}


def test_moments_are_scipys() -> None:
    samples = np.random.default_rng(3).gamma(3.0, size=999)
    found = describe(samples)
    assert found["mad"] == pytest.approx(scipy.stats.median_abs_deviation(samples))
    assert found["std"] == pytest.approx(scipy.stats.tstd(samples))
    assert found["median"] == found["p50"]["ms"] == np.median(samples)
    assert (found["n"], found["min"], found["max"]) == (999, samples.min(), samples.max())
    assert describe(np.array([3.0]))["std"] is None


def test_thinned_samples_keep_their_order_their_ends_and_every_part() -> None:
    kept = thin(np.arange(12_345.0), 2000)
    assert len(kept) == 2000
    assert (kept[0], kept[-1]) == (0, 12_344)
    assert set(np.diff(kept)) == {6, 7}
    assert thin(np.array([3.0, 1.0]), 2000) == [3, 1]
