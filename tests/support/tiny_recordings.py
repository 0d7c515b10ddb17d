"""Tiny recordings: tones in noise, each label at a pitch of its own, of several speakers."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from edgeprune_calibration.event_matching import (
    Event,
    write_truth,
)

RATE = 16000
TONES = {"low": 300.0, "middle": 900.0, "high": 2500.0}
"""Labels of the tiny recordings, and their pitch in Hz."""


def tone(pitch: float, seconds: float, seed: int, rate: int = RATE) -> NDArray[np.float32]:
    """Make a tone in noise, near its pitch, at a level of its own."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    level, near = generator.uniform(0.1, 0.5), pitch * generator.uniform(0.95, 1.05)
    sound = level * np.sin(2 * np.pi * near * time) + 0.01 * generator.standard_normal(len(time))
    return np.asarray(sound, dtype=np.float32)


def make_recordings(folder: Path, speakers: int = 6, each: int = 6, seconds: float = 0.25) -> Path:
    """Write tones as labelled clips of several speakers; returns labels.csv, without splits."""
    (folder / "audio").mkdir(parents=True)
    rows = []
    for speaker in range(speakers):
        for label, pitch in TONES.items():
            for take in range(each):
                name = f"audio/{label}_s{speaker}_{take}.wav"
                seed = 1000 * speaker + 10 * take + len(label)
                soundfile.write(folder / name, tone(pitch, seconds, seed), RATE)
                rows.append((name, label, f"s{speaker}"))
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label", "speaker"), *rows])
    return folder / "labels.csv"


def make_stream(folder: Path, seed: int, seconds: float = 240.0) -> tuple[Path, Path]:
    """Write tones of three labels, some of them in the truth, in noise; and the list of them."""
    generator = np.random.default_rng(seed)
    sound = 0.003 * generator.standard_normal(round(seconds * RATE))
    truth = []
    for second in np.arange(1.0, seconds - 2, 1.5):
        label = str(generator.choice(list(TONES)))
        length = float(generator.uniform(0.15, 0.3))
        level = 10 ** generator.uniform(-1.6, 0)
        first = round(second * RATE)
        played = level * tone(TONES[label], length, int(generator.integers(1 << 30)))
        sound[first : first + len(played)] += played
        if generator.random() < 0.7:  # the others are false alarms if they are reported
            truth.append(Event(label, float(second), float(second) + length))
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / f"{seed}.flac", sound, RATE)
    write_truth(folder / f"{seed}.csv", truth)
    return folder / f"{seed}.flac", folder / f"{seed}.csv"
