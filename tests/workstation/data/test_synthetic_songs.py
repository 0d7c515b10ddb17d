"""What sets one species, one bird and one song apart; recordings of them: test_recordings.py."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeprune.data.synthetic_recordings import SAMPLE_RATE
from edgeprune.data.synthetic_songs import SPECIES, Individual, Species, individual_of, song

MIDDLE = Individual(pitch=1.0, tempo=1.0, timbre=(1.0,))
BY_NAME = {species.name: species for species in SPECIES}
VARIATION = 0.02  # of a song's pitch, each way; its tempo varies by 5 %


def sing(species: Species, bird: Individual = MIDDLE, seed: int = 0) -> NDArray[np.float64]:
    return song(species, bird, np.random.default_rng(seed), SAMPLE_RATE)


def strongest_hz(sound: NDArray[np.float64]) -> float:
    """Return the frequency of the highest peak of the spectrum."""
    size = 1 << 16  # zero-padded: a bin is a quarter of a hertz
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), size))
    return float(power.argmax()) * SAMPLE_RATE / size


def pulses(sound: NDArray[np.float64]) -> int:
    """Count how often the level, over 6 ms, rises through a half of its maximum."""
    level = np.convolve(np.abs(sound), np.ones(96), "same")
    loud = level > 0.5 * level.max()
    return int(np.sum(loud[1:] & ~loud[:-1]))


def test_every_species_has_a_name_and_a_row_of_its_own() -> None:
    assert len(BY_NAME) == len(SPECIES) >= 10
    assert len({(s.contour, s.syllable_seconds, s.buzz_hz, s.wobble_hz) for s in SPECIES}) > 9
    assert all(0 < s.low_hz <= s.high_hz < SAMPLE_RATE / 2 / 1.08 for s in SPECIES)


@pytest.mark.parametrize("species", SPECIES, ids=lambda s: s.name)
def test_a_song_has_peak_one_and_repeats_with_its_seed_only(species: Species) -> None:
    first = sing(species)
    assert np.isfinite(first).all()
    assert np.abs(first).max() == pytest.approx(1)
    assert np.array_equal(first, sing(species))
    assert not np.array_equal(first[:400], sing(species, seed=1)[:400])


def test_an_individual_keeps_within_its_bounds_and_birds_differ() -> None:
    birds = [individual_of(BY_NAME["hooter"], np.random.default_rng(n)) for n in range(50)]
    assert all(0.92 <= bird.pitch <= 1.08 and 0.88 <= bird.tempo <= 1.12 for bird in birds)
    assert {len(bird.timbre) for bird in birds} == {BY_NAME["hooter"].harmonics}
    assert len(set(birds)) == 50


@pytest.mark.parametrize("pitch", [0.92, 1.0, 1.08])
def test_a_birds_pitch_moves_its_note(pitch: float) -> None:
    trill = BY_NAME["slow-trill"]
    steady = Species("note", "flat", trill.low_hz, trill.high_hz, 0.5, 0.0, 1)
    heard = strongest_hz(sing(steady, Individual(pitch, 1.0, (1.0,))))
    expected = pitch * (trill.low_hz + trill.high_hz) / 2
    assert heard == pytest.approx(expected, rel=VARIATION + 0.001)


def test_a_slower_bird_sings_longer_by_its_tempo() -> None:
    whistle = BY_NAME["rising-whistle"]
    slow, fast = (len(sing(whistle, Individual(1.0, tempo, (1.0,)))) for tempo in (1.12, 0.88))
    assert slow / fast == pytest.approx(1.12 / 0.88, rel=0.001)


@pytest.mark.parametrize(
    ("name", "direction"),
    [("rising-whistle", 1), ("falling-whistle", -1), ("high-low", -1), ("low-high", 1)],
)
def test_of_a_pair_one_goes_up_first_and_the_other_down(name: str, direction: int) -> None:
    """The first syllable of a sweep, the first two notes of a two-note song."""
    species = BY_NAME[name]
    seconds = species.syllable_seconds * (2 if "-" in species.contour else 1)
    first, second = np.array_split(sing(species)[: round(0.9 * seconds * SAMPLE_RATE)], 2)
    assert np.sign(strongest_hz(second) - strongest_hz(first)) == direction


@pytest.mark.parametrize("name", ["fast-trill", "slow-trill"])
def test_a_trill_has_its_syllables_one_more_or_one_fewer(name: str) -> None:
    expected = BY_NAME[name].syllables
    counts = {pulses(sing(BY_NAME[name], seed=seed)) for seed in range(12)}
    assert counts == {expected - 1, expected, expected + 1}


@pytest.mark.parametrize("name", ["buzzer", "rattler"])
def test_a_buzz_pulses_at_its_rate(name: str) -> None:
    """The strongest line in the spectrum of the squared sound, below 300 Hz."""
    squared = sing(BY_NAME[name]) ** 2
    power = np.abs(np.fft.rfft((squared - squared.mean()) * np.hanning(len(squared)), 1 << 16))
    hertz = np.fft.rfftfreq(1 << 16, 1 / SAMPLE_RATE)
    heard = hertz[power[hertz < 300].argmax()]
    assert heard == pytest.approx(BY_NAME[name].buzz_hz, rel=0.06)


def test_an_unknown_contour_is_named() -> None:
    with pytest.raises(ValueError, match="'spiral'"):
        sing(Species("odd", "spiral", 1000, 2000, 0.1, 0.0, 1))
