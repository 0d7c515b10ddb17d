"""The paired loss: its mean, and an error that counts groups and not clips."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprune.metrics.paired_loss import paired_loss


def test_the_loss_is_the_difference_of_the_means() -> None:
    found = paired_loss([1, 1, 1, 0], [1, 0, 1, 1])
    assert found.loss == 0.0
    assert paired_loss([1, 1, 1, 1], [1, 0, 1, 0]).loss == 0.5


def test_without_groups_the_error_is_that_of_a_mean() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.integers(0, 2, (2, 50))
    found = paired_loss(first, second)
    assert found.error == pytest.approx((first - second).std(ddof=1) / np.sqrt(50))
    assert found.upper == found.loss + found.error


def test_the_error_is_what_resampling_whole_groups_gives() -> None:
    """Jackknife over equally large speakers, one of whom is lost altogether."""
    first, second = np.ones(40), np.ones(40)
    second[:10] = 0
    groups = [f"speaker {n // 10}" for n in range(40)]
    means = [np.delete(first - second, range(10 * g, 10 * g + 10)).mean() for g in range(4)]
    jackknife = np.sqrt(3 / 4 * np.square(np.array(means) - np.mean(means)).sum())
    assert paired_loss(first, second, groups).error == pytest.approx(jackknife)
    assert paired_loss(first, second, groups).error > 3 * paired_loss(first, second).error


def test_a_single_group_says_nothing_about_others() -> None:
    assert paired_loss([1, 1], [1, 0], ["a", "a"]).error == float("inf")
    assert paired_loss([1, 0], [1, 0], ["a", "b"]).error == 0.0
