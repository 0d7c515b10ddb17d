"""What is wrong with a second of sound: each fault by itself, and sound that only looks like one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray
from sounds import RATE, clipped, noise, repeated

from edgeprune_device.monitoring.signal_faults import (
    bad_samples,
    faults_of,
    is_repeated,
    power_of,
    spectrum_faults,
)


def test_a_pure_tone_is_a_test_signal_and_not_a_hung_driver() -> None:
    time = np.arange(3 * RATE) / RATE
    for pitch in (440.0, 1000.0):
        tone = np.round(20000 * np.sin(2 * np.pi * pitch * time)).astype(np.float32) / np.float32(
            32768
        )
        assert "repeated" not in faults_of(tone[RATE : 2 * RATE], tone[:RATE])
    speechlike = repeated(2, 1600)
    assert is_repeated(speechlike[RATE:], speechlike[:RATE])
    speechlike[-5] += np.float32(1e-3)
    assert not is_repeated(speechlike[RATE:], speechlike[:RATE])


NOTHING = np.empty(0, np.float32)
TIME = np.arange(RATE) / RATE


def found(sound: Any, before: Any = NOTHING) -> set[str]:
    return set(faults_of(np.asarray(sound, np.float32), np.asarray(before, np.float32)))


@pytest.mark.parametrize(
    ("sound", "faults"),
    [(np.zeros(RATE), {"silent"}), (np.full(RATE, 1e-12), {"silent"}),
     (np.full(RATE, 0.25), {"stuck"}), (np.full(RATE, 0.005), {"stuck"}),
     (noise(1, -90) + 0.3, {"dc"}), (noise(1) + 0.05, {"offset"}), (noise(1, -95), {"low"}),
     (noise(1, -135), {"low"}), (np.maximum(noise(1), 0), set()), (clipped(1), {"clipped"}),
     (0.4 * np.sign(noise(1)), {"clipped"}), (np.clip(noise(1, -9.5), -1, 1), {"clipping"}),
     (noise(1), set()), (noise(1, -85), set())],
)  # fmt: skip
def test_a_second_has_the_fault_it_was_given_and_no_other(sound: Any, faults: set[str]) -> None:
    assert found(sound) == faults


def test_a_few_peaks_at_full_scale_are_music_and_not_clipping() -> None:
    sound = noise(1, -20)
    sound[:16] = 1.0  # 0.1 % of a second
    assert found(sound) == set()
    sound[16] = 1.0
    assert found(sound) == {"clipping"}


def test_two_values_of_a_faint_sound_are_all_there_is_and_not_clipped() -> None:
    faint = np.sign(noise(1)) / 32768  # the least two steps of 16 bits
    assert "clipped" not in found(faint)


@pytest.mark.parametrize("block", [160, 441, 1024, 8000, 15_999])
def test_one_block_over_and_over_is_found_whatever_its_length(block: int) -> None:
    sound = repeated(2, block)
    assert "repeated" in found(sound[RATE:], sound[:RATE])
    assert "repeated" not in found(sound[RATE:], sound[1:RATE])  # too little before it
    other = noise(1, -30, 5)
    assert "repeated" not in found(sound[RATE:], other)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 4.001, -3e38])
def test_what_is_no_number_or_far_out_of_range_is_no_sound(value: float) -> None:
    sound = np.array([0.0, 1.0, -4.0, value, 4.0], np.float32)
    assert bad_samples(sound).tolist() == [False, False, False, True, False]


@pytest.mark.parametrize("sound", [noise(1, -30), 0.5 * np.sin(2 * np.pi * 440 * TIME)])
def test_the_powers_of_all_bands_are_the_mean_square_without_the_offset(sound: Any) -> None:
    power = power_of(np.asarray(sound + 0.2, np.float32))
    assert power.shape == (RATE // 2 + 1,)
    assert power.sum() == pytest.approx(float(np.mean(np.square(sound))), rel=0.02)


def test_a_line_is_where_it_is_and_92_db_less_five_hertz_beside_it() -> None:
    power = power_of(np.asarray(0.5 * np.sin(2 * np.pi * 440.4 * TIME), np.float32))
    assert power.argmax() == 440
    beside = np.concatenate([power[20:436], power[446:]])  # a mean that is no offset is at 0 Hz
    assert 10 * np.log10(beside.max() / power.max()) < -92


def minute(make: Callable[[int], Any], rate: int = RATE) -> NDArray[np.float64]:
    """Average the powers of a few seconds, as a minute's are."""
    powers = [power_of(np.asarray(make(seed), np.float32)) for seed in range(8)]
    return np.asarray(np.mean(powers, axis=0))


def test_a_sharp_edge_with_nothing_above_it_is_narrow_and_a_slope_is_not() -> None:
    def telephone(seed: int) -> Any:
        return soxr.resample(noise(1, -30, seed, 8000), 8000, 48_000, quality="VHQ")

    assert spectrum_faults(minute(telephone), 48_000) == {"narrow"}

    def wind(seed: int) -> Any:
        return np.convolve(noise(1, -20, seed), np.full(200, 1 / 200), "same")

    assert spectrum_faults(minute(wind), RATE) == frozenset()
    assert spectrum_faults(minute(lambda seed: noise(1, -40, seed)), RATE) == frozenset()


def test_a_step_of_twenty_decibels_is_no_edge() -> None:
    def stepped(seed: int) -> Any:
        spectrum = np.fft.rfft(noise(1, -80, seed))
        spectrum[2000:] /= 10
        return np.fft.irfft(spectrum)

    assert spectrum_faults(minute(stepped), RATE) == frozenset()


def test_faint_noise_with_a_fainter_hum_is_no_hum() -> None:
    hum = 2.5e-4 * np.sin(2 * np.pi * 50 * TIME)  # 13 dB over all the rest, which is a 20th
    assert spectrum_faults(minute(lambda seed: hum + noise(1, -88, seed)), RATE) == frozenset()


@pytest.mark.parametrize("mains", [50, 60])
def test_nothing_but_harmonics_of_the_mains_is_hum_and_with_a_song_it_is_not(mains: int) -> None:
    hum = sum(0.02 / k * np.sin(2 * np.pi * mains * k * TIME + k) for k in range(1, 6))
    assert spectrum_faults(minute(lambda seed: hum + noise(1, -95, seed)), RATE) >= {"hum"}
    song = 0.003 * np.sin(2 * np.pi * 2500 * TIME)
    assert "hum" not in spectrum_faults(minute(lambda seed: hum + song + noise(1, -95, seed)), RATE)
