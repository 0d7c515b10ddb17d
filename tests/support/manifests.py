"""Manifests and short noises, for what is read of labelled clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile


def write_manifest(folder: Path, text: str, name: str = "labels.csv") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, "utf-8")
    return folder / name


def write_sounds(folder: Path, names: list[str], rate: int = 8000) -> None:
    for index, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        noise = 0.1 * np.random.default_rng(index).standard_normal(rate // 10)
        soundfile.write(folder / name, noise, rate)
