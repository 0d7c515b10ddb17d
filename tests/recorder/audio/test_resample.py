"""The stream's resampler: the same as resampling each piece whole, and right over any gaps."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeprune_device.audio.resample import Resampler

RATES = ((48000, 16000), (44100, 16000), (32000, 16000), (16000, 16000), (16000, 48000),
         (22050, 16000), (96000, 32000), (44100, 47999), (8000, 16000))  # fmt: skip


def noise(length: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-1, 1, length).astype(np.float32)


def halves_up(value: Fraction) -> int:
    return int((value + Fraction(1, 2)) // 1)


@settings(max_examples=60, deadline=None)
@given(rates=st.sampled_from(RATES), cuts=st.lists(st.integers(0, 6000), max_size=25),
       seed=st.integers(0, 9))  # fmt: skip
def test_a_stream_is_the_batch_to_1e_6_for_any_chunking(
    rates: tuple[int, int], cuts: list[int], seed: int
) -> None:
    sound = noise(sum(cuts), seed)
    resampler, found, first = Resampler(*rates), [], 0
    for length in cuts:
        found.append(resampler.push(sound[first : first + length]))
        first += length
    found.append(resampler.flush())
    stream, whole = np.concatenate(found), soxr.resample(sound, *rates, quality="HQ")
    assert len(stream) == len(whole) == halves_up(Fraction(len(sound) * rates[1], rates[0]))
    np.testing.assert_allclose(stream, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("rates", RATES)
def test_a_tone_that_fits_both_rates_comes_out_as_the_same_tone(rates: tuple[int, int]) -> None:
    source, rate = rates
    sound = np.sin(2 * np.pi * 440 * np.arange(source) / source).astype(np.float32)
    resampler = Resampler(source, rate)
    found = np.concatenate([resampler.push(part) for part in np.array_split(sound, 17)]
                           + [resampler.flush()])  # fmt: skip
    wanted = np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    np.testing.assert_allclose(found[1000:-1000], wanted[1000:-1000], atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(rates=st.sampled_from(RATES),
       pieces=st.lists(st.tuples(st.integers(0, 5000), st.integers(50, 100_000)), max_size=12))  # fmt: skip
def test_over_any_gaps_every_frame_has_its_samples_and_no_piece_hears_another(
    rates: tuple[int, int], pieces: list[tuple[int, int]]
) -> None:
    resampler, position, frames = Resampler(*rates), 0, 0
    for seed, (length, lost) in enumerate(pieces):
        sound = noise(length, seed)
        found = np.concatenate([resampler.push(sound), resampler.flush()])
        np.testing.assert_allclose(found, soxr.resample(sound, *rates, quality="HQ"), atol=1e-6)
        position += len(found) + resampler.gap(lost)
        frames += length + lost
        assert position == resampler.samples_out
        assert abs(position - Fraction(frames * rates[1], rates[0])) <= 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38])
def test_a_frame_that_is_no_sound_spoils_its_neighbourhood_and_not_the_stream(bad: float) -> None:
    sound = noise(3 * 48000)
    broken = sound.copy()
    broken[48000] = bad
    heard, wanted = (
        np.concatenate([resampler.push(part) for part in np.split(samples, 30)])
        for resampler, samples in (
            (Resampler(48000, 16000), broken),
            (Resampler(48000, 16000), sound),
        )
    )
    away = np.abs(np.arange(len(wanted)) / 16000 - 1) > 0.05
    np.testing.assert_allclose(heard[away], wanted[away], atol=1e-5)


def test_a_gap_is_one_sample_at_least_and_none_is_counted_twice() -> None:
    resampler = Resampler(48000, 16000)
    assert [resampler.gap(1) for _ in range(3)] == [1, 1, 1]
    assert resampler.gap(48000 - 3) == 16000 - 3


def test_what_is_held_back_is_told_in_seconds() -> None:
    resampler = Resampler(48000, 16000)
    given_out = resampler.push(noise(48000))
    assert resampler.held_seconds == pytest.approx(1 - len(given_out) / 16000)
    resampler.flush()
    assert resampler.held_seconds == pytest.approx(0, abs=1e-9)
