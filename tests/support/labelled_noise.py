"""Short noises under any label cells: for what is decided by the labels and the lengths alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATE = 8000


def write_noises(folder: Path, rows: list[str], seconds: float = 0.2) -> Path:
    """Write ``name,label,speaker`` rows and their clips; ``name_0.30`` lasts 0.3 s."""
    for row in rows:
        name = row.split(",")[0]
        length = float(name.split("_")[1]) if "_" in name else seconds
        noise = 0.1 * np.random.default_rng(len(name)).standard_normal(round(length * RATE))
        soundfile.write(folder / f"{name}.wav", noise, RATE)
    text = "path,label,speaker\n" + "".join(row.replace(",", ".wav,", 1) + "\n" for row in rows)
    (folder / "labels.csv").write_text(text, "utf-8")
    return folder / "labels.csv"
