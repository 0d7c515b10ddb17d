"""The level of sound in dB of full scale, against what is known of its waveform."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeprune_device.audio.level import level_db


@pytest.mark.parametrize(
    ("samples", "wanted"),
    [(np.ones(1000), 0.0), (np.full(1000, -0.1), -20.0), (np.array([0.5, -0.5] * 50), -6.0206),
     (np.sin(2 * np.pi * np.arange(4800) / 48), -3.0103),  # a sine of full scale: 1 / sqrt(2)
     (np.array([1.0, 0.0, 0.0, 0.0]), -6.0206), (np.linspace(-1, 1, 100_001), -4.7712)],
)  # fmt: skip
def test_a_level_is_the_root_mean_square(samples: NDArray[np.float64], wanted: float) -> None:
    assert level_db(samples.astype(np.float32)) == pytest.approx(wanted, abs=1e-3)


def test_silence_and_nothing_at_all_are_minus_infinity() -> None:
    assert level_db(np.zeros(100, np.float32)) == -math.inf
    assert level_db(np.empty(0, np.float32)) == -math.inf


def test_samples_far_over_full_scale_do_not_overflow() -> None:
    found = level_db(np.full(100, 3e38, np.float32))
    assert found == pytest.approx(20 * math.log10(3e38), abs=1e-3)


def test_a_single_bit_of_sixteen_has_the_level_that_it_has() -> None:
    assert level_db(np.full(10, 1 / 32768, np.float32)) == pytest.approx(-90.309, abs=1e-3)
