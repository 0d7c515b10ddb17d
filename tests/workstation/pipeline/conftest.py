"""A finished run on tones, and tiny data sets with several tags a clip and with transcripts."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from tiny_recordings import RATE, TONES, tone
from tones_run import settings

from edgeprune.core.console import Silent
from edgeprune.pipeline.compress import compress

SPEAKERS = 6


@pytest.fixture(scope="session")
def finished(backbone: Path, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a run of two seeds; whoever changes it takes ``run_copy``."""
    out = tmp_path_factory.mktemp("runs") / "tones"
    compress(str(backbone), recordings, out, settings(), ui=Silent())
    return out


@pytest.fixture
def run_copy(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "tones")
    return tmp_path / "tones"


def write(folder: Path, clips: list[tuple[str, NDArray[np.float32]]]) -> Path:
    """Write labelled clips, dealt out to speakers in turn; returns labels.csv."""
    folder.mkdir(parents=True)
    rows = []
    for number, (label, sound) in enumerate(clips):
        soundfile.write(folder / f"{number}.wav", sound, RATE)
        rows.append((f"{number}.wav", label, f"s{number % SPEAKERS}"))
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label", "speaker"), *rows])
    return folder / "labels.csv"


def chord(pitches: list[str], seed: int) -> NDArray[np.float32]:
    noise = 0.01 * np.random.default_rng(seed).standard_normal(4000)
    return np.asarray(noise + sum(0.6 * tone(TONES[p], 0.25, seed) for p in pitches), np.float32)


def melody(pitches: list[str], seed: int) -> NDArray[np.float32]:
    silence = 0.001 * np.random.default_rng(seed).standard_normal(1600)
    parts = [
        part for n, p in enumerate(pitches) for part in (tone(TONES[p], 0.2, seed + n), silence)
    ]
    return np.concatenate(parts, dtype=np.float32)


@pytest.fixture(scope="session")
def chords(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = np.random.default_rng(0)
    cells = []
    for number in range(96):
        chosen = [label for label in TONES if generator.random() < 0.45]
        cells.append((";".join(chosen), chord(chosen, number)))
    return write(tmp_path_factory.mktemp("chords") / "data", cells)


@pytest.fixture(scope="session")
def melodies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = np.random.default_rng(1)
    cells = []
    for number in range(96):
        chosen = list(generator.choice(list(TONES), generator.integers(1, 4)))
        cells.append((" ".join(chosen), melody(chosen, 10 * number)))
    return write(tmp_path_factory.mktemp("melodies") / "data", cells)
