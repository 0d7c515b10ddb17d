"""Data for measuring the effect of a background label: a manifest with background clips.

    python benchmarks/background.py WORDS/labels.csv BACKGROUND/labels.csv -o runs/with-background

Writes ``labels.csv`` (the words, and one-second segments of the background's folds with the label
``background``) for ``edgeprune compress``, and ``unheard.csv`` (the recordings of the last fold,
used for tests only) for ``stream.py --background``.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from edgeprune_calibration.dataset import read_data
from edgeprune_calibration.splits import split_clips
from edgeprune_device.audio.sound_files import read_clip

PIECES = 2  # of each recording
RATE = 16000


def main() -> None:
    """Write both manifests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("words", type=Path)
    parser.add_argument("background", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    rows: list[Sequence[object]] = []
    for split, clips in split_clips(read_data(options.words)).items():
        rows += [(c.path.resolve(), c.label, c.group, split, "", "") for c in clips]
    places = split_clips(read_data(options.background))
    for split, clips in places.items():
        for clip in clips:
            whole = int(len(read_clip(clip.path, RATE)) // RATE)  # seconds
            for start in generator.permutation(whole)[:PIECES]:
                rows.append((clip.path.resolve(), "background", clip.path.stem, split,
                             start, start + 1))  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    write(options.out / "labels.csv", ("path", "label", "speaker", "split", "start", "end"), rows)
    unheard = [(clip.path.resolve(), clip.label) for clip in places["test"]]
    write(options.out / "unheard.csv", ("path", "label"), unheard)
    print(f"{len(rows)} clips in {options.out / 'labels.csv'}, {len(unheard)} in unheard.csv")


def write(path: Path, names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a manifest."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([names, *rows])


if __name__ == "__main__":
    main()
