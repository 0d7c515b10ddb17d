"""Recordings whose every sample tells its file and its place, and stretches of them."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from tiny_recordings import RATE

from edgeprune.core.console import Silent
from edgeprune.core.settings import Clips
from edgeprune.data.windows import Windows, load_windows
from edgeprune.pipeline.clips import clips

WINDOW = 1600
FILES = (1000, 1600, 1601, 2400, 5000, 16001)  # samples
FILE_STEP = 100_000  # sample i of file k has the value k * FILE_STEP + i + 1; padding has 0
Stretch = tuple[int, Any, Any]


def write_ramps(folder: Path, stretches: list[Stretch]) -> Path:
    """Write the files, and a manifest of stretches (file, first sample, one after the last)."""
    for number, length in enumerate(FILES):
        ramp = np.arange(1, length + 1, dtype=np.float32) + number * FILE_STEP
        soundfile.write(folder / f"{number}.wav", ramp, RATE, subtype="FLOAT")
    with (folder / "stretches.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [(f"{s[0]}.wav", s[1], s[2], *s, "ab"[i % 2]) for i, s in enumerate(stretches)]
        names = ("path", "start_sample", "end_sample", "file", "first", "last", "label")
        csv.writer(file).writerows([names, *rows])
    return folder / "stretches.csv"


def random_stretches(longest: int, each: int = 40) -> list[Stretch]:
    generator = np.random.default_rng(longest)
    found: list[Stretch] = []
    for number, length in enumerate(FILES):
        for _ in range(each):
            span = int(generator.integers(1, min(longest, length) + 1))
            first = int(generator.integers(0, length - span + 1))
            found.append((number, first, first + span))
    generator.shuffle(found)
    return found


def cut(model: Path, data: Path, out: Path, **changes: Any) -> Windows:
    settings = replace(Clips(window_seconds=WINDOW / RATE, context="file"), **changes)
    out.mkdir()
    clips(model, data, "digest", out=out, settings=settings, ui=Silent())
    return load_windows(out)


def heard(windows: Windows, point: int) -> NDArray[np.float32]:
    first, last = windows.sound[point]
    return np.asarray(windows.samples[windows.window[point], first:last])


def wanted(windows: Windows, point: int) -> tuple[int, int, int]:
    """Return the file, the first sample and the one after the last, as the manifest says."""
    columns = windows.rows[windows.clip[point]]["columns"]
    return int(columns["file"]), int(columns["first"]), int(columns["last"])
