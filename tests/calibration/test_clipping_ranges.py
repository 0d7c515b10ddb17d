"""One-pass tallies against numpy on all values; clipping ranges against brute force and peers."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeprune_calibration.clipping_ranges import (
    BINS,
    METHODS,
    NOTHING,
    Range,
    add,
    by_entropy,
    by_mse,
    by_percentile,
    merge,
    min_max,
    percentile,
    rounded,
    tally,
)
from edgeprune_device.errors import EdgepruneError


def draws(seed: int, size: int = 20_000) -> NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    return generator.standard_t(3, size) * 10 ** generator.uniform(-3, 3) + generator.normal()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("per_cent", [0.0, 0.01, 1.0, 37.0, 50.0, 99.9, 100.0])
def test_a_percentile_is_numpys_within_a_bin(seed: int, per_cent: float) -> None:
    values = draws(seed)
    known = functools.reduce(add, np.array_split(values, 17), NOTHING)
    expected = np.percentile(values, [per_cent])[0]
    # Between two values numpy goes half-way; a bin can say no more than on which side.
    low = np.percentile(values, per_cent, method="lower") - known.width
    high = np.percentile(values, per_cent, method="higher") + known.width
    assert low <= percentile(known, per_cent) <= high, expected


@pytest.mark.parametrize("seed", range(5))
def test_it_does_not_matter_in_which_order_or_parts_the_values_come(seed: int) -> None:
    values = draws(seed, 3000) * np.geomspace(1e-6, 1e3, 3000)  # the range grows on the way
    whole = tally(values)
    one_by_one = functools.reduce(add, np.array_split(values, 100), NOTHING)
    parts = [tally(part) for part in np.array_split(values[::-1], 7)]
    merged = functools.reduce(merge, parts)
    for other in (one_by_one, merged):
        assert (other.limit, other.lowest, other.highest) == (
            whole.limit, whole.lowest, whole.highest,
        )  # fmt: skip
        np.testing.assert_array_equal(other.counts, whole.counts)
    assert whole.count == 3000
    assert (whole.lowest, whole.highest) == (values.min(), values.max())


def test_the_histogram_is_numpys() -> None:
    known = tally(draws(1))
    edges = np.linspace(-known.limit, known.limit, BINS + 1)
    np.testing.assert_array_equal(known.counts, np.histogram(draws(1), edges)[0])


def test_values_that_are_no_numbers_and_no_values_at_all_are_refused() -> None:
    for bad in (np.nan, np.inf):
        with pytest.raises(EdgepruneError, match="the values contain NaN or infinity") as error:
            tally(np.array([1.0, bad]))
        assert error.value.status == 2
    for method in METHODS.values():
        with pytest.raises(EdgepruneError, match="no values to compute a range from"):
            method(NOTHING)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", ["normal", "positive", "negative", "zeros", "one value"])
def test_every_range_lies_within_the_extrema_and_holds_zero(method: str, shape: str) -> None:
    normal = np.random.default_rng(0).normal(size=5000)
    values = {"normal": normal, "positive": np.abs(normal), "negative": -np.abs(normal),
              "zeros": np.zeros(100), "one value": np.array([0.3])}[shape]  # fmt: skip
    known = tally(values)
    found, extreme = METHODS[method](known), min_max(known)
    assert extreme.low <= found.low <= 0 <= found.high <= extreme.high
    assert (extreme.low, extreme.high) == (min(0, values.min()), max(0, values.max()))


def test_the_percentile_range_leaves_the_share_out_on_both_sides() -> None:
    values = np.random.default_rng(3).standard_t(3, 20_000)
    found = by_percentile(tally(values), 99.0)
    outside = np.mean((values < found.low) | (values > found.high))
    assert outside == pytest.approx(0.01, abs=0.003)


def error_of(values: NDArray[np.float64], low: float, high: float, levels: int) -> float:
    step = (high - low) / (levels - 1)
    zero = np.rint(-low / step)
    integers = np.clip(np.rint(values / step) + zero, 0, levels - 1)
    return float(np.mean(((integers - zero) * step - values) ** 2))


@pytest.mark.parametrize("levels", [16, 256])
@pytest.mark.parametrize("seed", range(3))
def test_the_squared_error_is_that_of_the_best_range_of_all(levels: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    values = generator.laplace(size=4000) + (generator.random(4000) < 0.01) * 5
    found = by_mse(tally(values), levels)
    shares = np.linspace(0.02, 1, 50)
    best = min(error_of(values, values.min() * a, values.max() * b, levels)
               for a in shares for b in shares)  # fmt: skip
    assert error_of(values, found.low, found.high, levels) <= 1.03 * best
    plain = error_of(values, values.min(), values.max(), levels)
    assert error_of(values, found.low, found.high, levels) <= plain
    even = by_mse(tally(values), levels, symmetric=True)
    assert even.low == -even.high


def test_rounding_is_that_of_the_textbook() -> None:
    values = np.linspace(-2, 2, 101)
    found = rounded(values, Range(-1.0, 1.55), 256)
    np.testing.assert_allclose(found, np.clip(np.rint(values * 100), -100, 155) / 100)


@pytest.mark.parametrize("seed", range(3))
def test_the_entropy_range_is_near_onnx_runtimes(seed: int) -> None:
    calibrate = pytest.importorskip("onnxruntime.quantization.calibrate")
    generator = np.random.default_rng(seed)
    values = generator.laplace(size=200_000) * 0.5
    values[:20] *= 5  # outliers
    known = tally(values)
    edges = np.linspace(-known.limit, known.limit, BINS + 2)
    counts = np.histogram(values, edges)[0]  # theirs wants a bin in the middle
    low, high = values.min(), values.max()
    collector = calibrate.HistogramCollector("entropy", True, BINS, 128, 99.99, "same")
    limit = known.limit
    theirs = collector.get_entropy_threshold((counts, edges, low, high, limit), 128)
    ours = by_entropy(known, levels=64)  # theirs counts the levels of both sides
    assert ours.high < high
    assert ours.high == pytest.approx(float(theirs[1]), rel=0.1)


def test_entropy_cuts_off_a_few_far_values_and_none_of_an_even_spread() -> None:
    generator = np.random.default_rng(0)
    body = generator.normal(size=100_000)
    assert by_entropy(tally(np.append(body, [40.0, -40.0]))).high < 12
    even = generator.uniform(-1, 1, 100_000)
    assert by_entropy(tally(even)).high > 0.95
