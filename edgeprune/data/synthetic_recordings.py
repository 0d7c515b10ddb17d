"""Synthetic bird recordings: songs at a distance, in wind and rain, as labelled clips or a stream.

Everything is determined by the seed. Individuals are in one split only, so that the test clips are
of birds that no model was trained on; the same holds for the sites of clips without birds.
"""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import fftconvolve, lfilter

from edgeprune.data.synthetic_songs import SPECIES, Species, individual_of, song
from edgeprune_calibration.dataset import Track
from edgeprune_calibration.event_matching import Event, write_truth

SAMPLE_RATE = 16000  # Hz
BACKGROUND = "background"
LEVEL_RANGE = (0.005, 0.05)  # RMS of the background, as a share of full scale
PARAMETERS = "recordings.json"


@dataclass(frozen=True)
class Parameters:
    """Parameters of the recordings; the same parameters give the same samples."""

    seed: int = 0
    individuals: int = 12
    """Birds per species, and sites without birds: 2/3 train, 1/6 valid, 1/6 test."""
    clips: int = 12
    """Clips per individual."""
    clip_seconds: float = 1.0
    snr_db: tuple[float, float] = (-12.0, 8.0)
    """Lowest and highest signal-to-noise ratio of a song in dB, over all frequencies."""


def make_recordings(folder: Path, parameters: Parameters, track: Track) -> Path:
    """Write labelled clips: ``audio/<label>/*.flac`` and ``labels.csv``.

    Parameters
    ----------
    folder : Path
        Output folder, written completely or not at all; kept if it holds the same recordings.
    parameters : Parameters
        Parameters of the recordings.
    track : callable
        Shows progress.

    Returns
    -------
    Path
        ``labels.csv`` with the columns path, label, individual, split.

    """
    described = json.dumps(asdict(parameters), indent=1) + "\n"
    record = folder / PARAMETERS
    if record.is_file() and record.read_text("utf-8") == described:
        return folder / "labels.csv"
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    names = [species.name for species in SPECIES] + [BACKGROUND]
    for name in names:
        (partial / "audio" / name).mkdir(parents=True)
    every = [(k, i, n) for k in range(len(names)) for i in range(parameters.individuals)
             for n in range(parameters.clips)]  # fmt: skip
    rows = []
    for kind, bird, number in track(every, "recordings", len(every)):
        path = f"audio/{names[kind]}/{bird:02d}_{number:02d}.flac"
        soundfile.write(partial / path, clip(parameters, kind, bird, number), SAMPLE_RATE)
        split = split_of(bird, parameters.individuals)
        rows.append((path, names[kind], f"{names[kind]}-{bird:02d}", split))
    with (partial / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label", "individual", "split"), *rows])
    (partial / PARAMETERS).write_text(described, "utf-8")
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)
    return folder / "labels.csv"


def split_of(bird: int, individuals: int) -> str:
    """Return the split of an individual's clips."""
    sixth = max(1, individuals // 6)
    if bird < individuals - 2 * sixth:
        return "train"
    return "valid" if bird < individuals - sixth else "test"


def clip(parameters: Parameters, kind: int, bird: int, number: int) -> NDArray[np.float64]:
    """Synthesize a clip of an individual; ``kind`` after the last species is background only."""
    generator = np.random.default_rng([parameters.seed, 1, kind, bird, number])
    length = round(parameters.clip_seconds * SAMPLE_RATE)
    sound = background(length, generator)
    if kind < len(SPECIES):
        sung = far_song(SPECIES[kind], parameters.seed, kind, bird, generator)
        late = length - len(sung)
        begin = int(generator.integers(min(0, late), max(0, late) + 1))
        add(sound, sung * _gain(sound, sung, parameters, generator), begin)
    return _within(sound * generator.uniform(*LEVEL_RANGE))


def far_song(
    species: Species, seed: int, kind: int, bird: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Synthesize a distant song of an individual: low-passed by air, with reverberation."""
    individual = individual_of(species, np.random.default_rng([seed, 0, kind, bird]))
    sung = song(species, individual, generator, SAMPLE_RATE)
    distance = generator.uniform(0, 1)
    dull = 0.6 * distance  # one-pole low-pass: air absorbs high frequencies first
    sung = lfilter([1 - dull], [1, -dull], sung)
    tail = generator.standard_normal(round(0.25 * SAMPLE_RATE))
    tail *= np.exp(-np.arange(len(tail)) / (0.05 * SAMPLE_RATE)) * 0.03 * distance
    tail[0] = 1.0
    return np.asarray(fftconvolve(sung, tail)[: len(sung) + len(tail) // 2])


def background(length: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Synthesize background sound of unit power: gusts of wind, a stream, rain, insects."""
    white = generator.standard_normal((3, length))
    gusts = np.interp(np.arange(length), np.linspace(0, length, max(2, length // 4000)),
                      generator.uniform(0, 1, max(2, length // 4000)))  # fmt: skip
    wind = lfilter([0.02], [1, -0.98], white[0]) * gusts * 6
    stream = lfilter([0.3], [1, -0.7], white[1])
    drops = np.where(generator.random(length) < 0.002, generator.standard_normal(length), 0.0)
    rain = lfilter([1.0], [1, -0.6], drops) * 8
    time = np.arange(length) / SAMPLE_RATE
    chirp = 0.5 + 0.5 * np.sign(np.sin(2 * np.pi * generator.uniform(8, 30) * time))
    insects = np.sin(2 * np.pi * generator.uniform(5200, 7000) * time) * chirp
    shares = generator.uniform(0, 1, 4) ** 2 * (generator.random(4) < (1, 0.9, 0.3, 0.3))
    shares[1] += 0.05
    mixed = shares @ np.stack([wind, stream, rain, insects])
    return np.asarray(mixed / np.sqrt(np.mean(mixed**2)))


def make_stream(path: Path, parameters: Parameters, minutes: float, songs: int) -> Path:
    """Write a long recording with occasional songs of birds of the test split.

    Parameters
    ----------
    path : Path
        FLAC or WAV file to write.
    parameters : Parameters
        Parameters of the recordings; their test individuals sing songs that are in no clip.
    minutes : float
        Length of the recording in minutes.
    songs : int
        Number of songs, at least 1.5 s apart.

    Returns
    -------
    Path
        CSV beside the recording: start_seconds, end_seconds, label.

    """
    generator = np.random.default_rng([parameters.seed, 2])
    length = round(minutes * 60 * SAMPLE_RATE)
    place = np.concatenate([background(SAMPLE_RATE * 20, generator)
                            for _ in range(-(-length // (SAMPLE_RATE * 20)))])[:length]  # fmt: skip
    birds = [b for b in range(parameters.individuals)
             if split_of(b, parameters.individuals) == "test"]  # fmt: skip
    slot = length // songs
    events = []
    for number in range(songs):
        kind = int(generator.permutation(len(SPECIES))[0])
        sung = far_song(
            SPECIES[kind], parameters.seed, kind, int(generator.choice(birds)), generator
        )
        spare = slot - len(sung) - round(1.5 * SAMPLE_RATE)
        if spare <= 0:
            raise ValueError(f"{songs} songs do not fit into {minutes:g} minutes")
        begin = number * slot + int(generator.integers(spare))
        sung = sung * _gain(place[begin : begin + len(sung)], sung, parameters, generator)
        add(place, sung, begin)
        end = begin + len(sung)
        events.append(Event(SPECIES[kind].name, begin / SAMPLE_RATE, end / SAMPLE_RATE))
    soundfile.write(path, _within(place * np.sqrt(LEVEL_RANGE[0] * LEVEL_RANGE[1])), SAMPLE_RATE)
    truth = path.with_suffix(".csv")
    write_truth(truth, events)
    return truth


def add(sound: NDArray[np.float64], other: NDArray[np.float64], begin: int) -> None:
    """Add a sound to a longer one from sample ``begin`` on, in place; the overhang is dropped."""
    first, last = max(0, begin), min(len(sound), begin + len(other))
    sound[first:last] += other[first - begin : last - begin]


def _gain(
    place: NDArray[np.float64], sung: NDArray[np.float64], parameters: Parameters,
    generator: np.random.Generator,
) -> float:  # fmt: skip
    """Return the factor that gives a song its signal-to-noise ratio."""
    wanted = 10 ** (generator.uniform(*parameters.snr_db) / 20)
    return float(wanted * np.sqrt(np.mean(place**2) / np.mean(sung**2)))


def _within(sound: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale a recording to within full scale."""
    return sound / max(1.0, float(np.abs(sound).max()) / 0.98)
