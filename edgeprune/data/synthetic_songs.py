"""Synthesis of bird-like songs of invented species, for the demonstration.

A species is a row of numbers; an individual deviates from it consistently, and every song varies a
little. Several species differ in one trait only (direction, rate, order), so that an average
spectrum does not suffice to tell them apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RAMP_SECONDS = 0.008  # attack and decay of a syllable


@dataclass(frozen=True)
class Species:
    """Song parameters of a species."""

    name: str
    contour: str
    """Pitch contour of a syllable: rise, fall, arch, flat, wobble, or alternating high-low,
    low-high."""
    low_hz: float
    high_hz: float
    syllable_seconds: float
    gap_seconds: float
    syllables: int
    harmonics: int = 1
    wobble_hz: float = 0.0
    """Rate in Hz of the pitch modulation between low and high."""
    buzz_hz: float = 0.0
    """Rate in Hz of a deep amplitude modulation."""


SPECIES = (
    Species("rising-whistle", "rise", 2000, 3200, 0.28, 0.10, 2, 2),
    Species("falling-whistle", "fall", 2000, 3200, 0.28, 0.10, 2, 2),
    Species("fast-trill", "flat", 3900, 4100, 0.030, 0.018, 14),
    Species("slow-trill", "flat", 3900, 4100, 0.045, 0.055, 7),
    Species("high-low", "high-low", 3300, 4300, 0.14, 0.03, 4, 2),
    Species("low-high", "low-high", 3300, 4300, 0.14, 0.03, 4, 2),
    Species("buzzer", "flat", 4600, 4800, 0.55, 0.0, 1, 1, buzz_hz=90),
    Species("rattler", "flat", 4600, 4800, 0.55, 0.0, 1, 1, buzz_hz=45),
    Species("warbler", "wobble", 2300, 3700, 0.65, 0.0, 1, 2, wobble_hz=9),
    Species("quaver", "wobble", 2300, 3700, 0.65, 0.0, 1, 2, wobble_hz=18),
    Species("chatter", "fall", 2600, 5600, 0.045, 0.03, 9),
    Species("hooter", "arch", 600, 760, 0.24, 0.12, 2, 4),
)


@dataclass(frozen=True)
class Individual:
    """Deviation of one bird from its species."""

    pitch: float
    """Factor on every frequency."""
    tempo: float
    """Factor on every duration."""
    timbre: tuple[float, ...]
    """Level of each harmonic."""


def individual_of(species: Species, generator: np.random.Generator) -> Individual:
    """Draw an individual: pitch within 8 %, tempo within 12 %, random timbre."""
    timbre = [0.5**n * generator.uniform(0.5, 1.5) for n in range(species.harmonics)]
    return Individual(generator.uniform(0.92, 1.08), generator.uniform(0.88, 1.12), tuple(timbre))


def song(
    species: Species, bird: Individual, generator: np.random.Generator, sample_rate: int
) -> NDArray[np.float64]:
    """Synthesize one song.

    Parameters
    ----------
    species : Species
        Species.
    bird : Individual
        Individual.
    generator : numpy.random.Generator
        For the variation from song to song: pitch within 2 %, tempo within 5 %, one syllable more
        or fewer.
    sample_rate : int
        Sample rate in Hz.

    Returns
    -------
    array (samples,)
        Song with a peak of 1.

    """
    pitch = bird.pitch * generator.uniform(0.98, 1.02)
    tempo = bird.tempo * generator.uniform(0.95, 1.05)
    count = species.syllables
    if count > 3:
        count += int(generator.integers(-1, 2))
    gap = np.zeros(round(species.gap_seconds * tempo * sample_rate))
    pieces = []
    for index in range(count):
        length = round(species.syllable_seconds * tempo * sample_rate)
        frequency = pitch * _contour(species, index, length, sample_rate, generator)
        phase = 2 * np.pi * np.cumsum(frequency) / sample_rate
        sound = np.zeros(length)
        for number, level in enumerate(bird.timbre, start=1):
            audible = number * frequency < 0.45 * sample_rate
            sound += level * np.sin(number * phase) * audible
        pieces += [sound * _envelope(species, length, sample_rate, tempo), gap]
    whole = np.concatenate(pieces[:-1])
    return np.asarray(whole / np.abs(whole).max())


def _contour(
    species: Species, index: int, length: int, sample_rate: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Return a syllable's frequency in Hz per sample."""
    low, high = species.low_hz, species.high_hz
    place = np.linspace(0, 1, length)
    match species.contour:
        case "rise":
            part = place
        case "fall":
            part = 1 - place
        case "arch":
            part = np.sin(np.pi * place)
        case "flat":
            part = np.full(length, 0.5)
        case "high-low" | "low-high":
            first = species.contour == "high-low"
            part = np.full(length, float((index % 2 == 0) == first))
        case "wobble":
            swing = 2 * np.pi * species.wobble_hz * np.arange(length) / sample_rate
            part = 0.5 + 0.5 * np.sin(swing + generator.uniform(0, 2 * np.pi))
        case unknown:
            raise ValueError(f"contour {unknown!r} is not known")
    return np.asarray(low + (high - low) * part)


def _envelope(species: Species, length: int, sample_rate: int, tempo: float) -> NDArray[np.float64]:
    """Return a syllable's amplitude: smooth edges, and the amplitude modulation if any."""
    ramp = min(length // 2, round(RAMP_SECONDS * sample_rate))
    shape = np.ones(length)
    edge = 0.5 - 0.5 * np.cos(np.pi * np.arange(ramp) / max(1, ramp))
    shape[:ramp], shape[length - ramp :] = edge, edge[::-1]
    if species.buzz_hz:
        time = np.arange(length) / sample_rate
        shape *= 0.5 + 0.5 * np.cos(2 * np.pi * species.buzz_hz / tempo * time)
    return shape
