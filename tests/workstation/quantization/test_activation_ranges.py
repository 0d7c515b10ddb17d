"""Ranges of activations: from clips of use, over all of them, chosen as asked."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeprune.quantization.activation_ranges import (
    CHOICE,
    QUIETEST,
    check_choice,
    checked,
    ranges_of,
)
from edgeprune_calibration.clipping_ranges import METHODS
from edgeprune_device.errors import EdgepruneError


def noises(count: int = 4, window: int = 50) -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(-1, 1, (count, window)).astype(np.float32)


def test_ranges_are_over_all_clips() -> None:
    clips = [{"a": np.array([-1.0, 2.0], np.float32)}, {"a": np.array([0.5, 3.0], np.float32)}]
    found = ranges_of(clips, "minmax")["a"]
    assert (found.low, found.high) == (-1.0, 3.0)


def test_every_activation_has_a_range_of_its_own_and_one_without_values_has_none() -> None:
    nothing = np.zeros(0, np.float32)
    heard = [{"loud": x, "quiet": 0.01 * x, "never": nothing} for x in noises()]
    found = ranges_of(heard, "minmax")
    assert set(found) == {"loud", "quiet"}
    assert found["quiet"].high == pytest.approx(0.01 * found["loud"].high, rel=1e-3)


def test_a_way_that_clips_leaves_out_what_is_far_off() -> None:
    heard = [{"a": np.append(x, np.float32(100.0))} for x in noises(window=20_000)]
    assert ranges_of(heard, "minmax")["a"].high == 100.0
    assert ranges_of(heard, "percentile")["a"].high < 10.0


def test_an_activation_that_is_no_number_is_refused() -> None:
    with pytest.raises(EdgepruneError):
        ranges_of([{"a": np.array([1.0, np.nan], np.float32)}], "minmax")


def test_clips_of_use_come_back_as_they_are_in_single_precision() -> None:
    clips = noises()
    np.testing.assert_array_equal(checked(clips.astype(np.float64), 50), clips)
    assert checked(clips.astype(np.float64), 50).dtype == np.float32
    np.testing.assert_array_equal(checked(clips * 0 + QUIETEST, 50), clips * 0 + QUIETEST)


@pytest.mark.parametrize(
    ("clips", "sentence"),
    [
        (noises(0), "no calibration clips"),
        (noises()[0], "no calibration clips"),
        (noises(window=49), "have 49 samples, the model's window 50"),
        (np.where(np.arange(4)[:, None] < 2, np.nan, noises()), "2 of 4 .* NaN or infinity"),
        (np.where(np.arange(4)[:, None] < 1, np.inf, noises()), "1 of 4 .* NaN or infinity"),
        (noises() * QUIETEST * 0.99, "All 4 calibration clips are silent"),
    ],
)
def test_clips_of_no_use_are_refused_in_a_sentence(
    clips: NDArray[np.float32], sentence: str
) -> None:
    with pytest.raises(EdgepruneError, match=sentence) as error:
        checked(clips, 50)
    assert error.value.hint


def test_a_way_to_choose_that_is_none_is_named_with_those_that_are() -> None:
    for name in METHODS:
        check_choice(name)
    with pytest.raises(EdgepruneError, match=r"quantize\.calibrate = 'max' is not known") as error:
        check_choice("max")
    assert all(name in error.value.hint for name in METHODS)
    assert CHOICE in METHODS
