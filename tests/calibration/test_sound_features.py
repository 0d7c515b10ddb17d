"""Features of a sound: level, peakedness and spectrum, by the textbook."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_recordings import RATE, tone

from edgeprune_calibration.sound_features import (
    NAMES,
    QUIETEST_DB,
    band_powers,
    cut,
    features,
    standardised,
)


def test_level_and_crest_factor_are_those_of_the_textbook() -> None:
    sine = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)).astype(np.float32)
    found = dict(zip(NAMES, features(sine, RATE), strict=True))
    assert found["level"] == pytest.approx(20 * np.log10(0.5 / 2**0.5), abs=0.01)
    assert found["crest"] == pytest.approx(20 * np.log10(2**0.5), abs=0.01)
    edges = np.geomspace(50, RATE / 2, 17)
    band = int(np.searchsorted(edges, 1000.0))
    assert max((x for x in NAMES if "band" in x), key=lambda x: found[x]) == f"band {band}"


def test_a_louder_sound_has_the_same_spectrum_and_silence_is_at_the_floor() -> None:
    sound = tone(900, 1.0, 1)
    quiet, loud = features(sound, RATE), features(2 * sound, RATE)
    np.testing.assert_allclose(loud[1:], quiet[1:], atol=1e-3)
    assert loud[0] - quiet[0] == pytest.approx(6.02, abs=0.01)
    assert (features(np.zeros(RATE, np.float32), RATE) == QUIETEST_DB).all()


def test_white_noise_has_power_in_a_band_by_its_width() -> None:
    noise = np.random.default_rng(0).normal(size=20 * RATE)
    found = band_powers(noise, RATE)
    widths = np.diff(np.geomspace(50, RATE / 2, 17))
    shares = found / found.sum()
    np.testing.assert_allclose(shares, widths / widths.sum(), rtol=0.15)


def test_a_sound_is_cut_into_whole_windows_and_a_short_one_left_as_it_is() -> None:
    sound = np.arange(10, dtype=np.float32)
    assert [part.tolist() for part in cut(sound, 4)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [len(part) for part in cut(sound, 5)] == [5, 5]
    for window in (10, 11):
        (whole,) = cut(sound, window)
        assert whole is sound


def test_level_crest_and_the_whole_spectrum_have_the_same_say() -> None:
    table = np.random.default_rng(0).normal(size=(300, len(NAMES))) * 7 + 3
    found = standardised(table)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-9)
    spread = found.std(axis=0)
    np.testing.assert_allclose(spread[:2], 1)
    np.testing.assert_allclose(np.sqrt((spread[2:] ** 2).sum()), 1)  # the bands together
    constant = standardised(np.full((5, len(NAMES)), 4.0))
    assert not constant.any(), "what never differs says nothing"


@pytest.mark.parametrize("samples", [0, 1, 100])
def test_a_sound_shorter_than_a_frame_is_described_too(samples: int) -> None:
    sound = 0.5 * np.ones(samples, np.float32)
    found = features(sound, RATE)
    assert np.isfinite(found).all()
    expected = 20 * np.log10(0.5) if samples else QUIETEST_DB
    assert found[0] == pytest.approx(expected, abs=1e-3)


def test_the_shares_of_the_bands_make_up_the_whole() -> None:
    shares = 10 ** (features(tone(900, 1.0, 1), RATE)[2:] / 10)
    assert shares.sum() == pytest.approx(1.0, abs=1e-6)
