"""Intervals against scipy."""

from __future__ import annotations

import pytest
from scipy import stats

from edgeprune_calibration.count_intervals import poisson_below, poisson_interval, wilson_interval


@pytest.mark.parametrize("count", [0, 1, 2, 10, 96, 400, 3000])
def test_the_poisson_interval_is_garwoods(count: int) -> None:
    low = stats.chi2.ppf(0.025, 2 * count) / 2 if count else 0.0
    high = stats.chi2.ppf(0.975, 2 * count + 2) / 2
    assert poisson_interval(count) == pytest.approx((low, high), rel=1e-6)
    assert poisson_below(count, 1.1 * count + 1) == pytest.approx(
        stats.poisson.cdf(count, 1.1 * count + 1)
    )


@pytest.mark.parametrize(("hits", "tries"), [(0, 5), (3, 7), (80, 80), (612, 720)])
def test_the_interval_of_a_share_is_wilsons(hits: int, tries: int) -> None:
    expected = stats.binomtest(hits, tries).proportion_ci(method="wilson")
    assert wilson_interval(hits, tries) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_of_no_tries_every_share_is_possible() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)
