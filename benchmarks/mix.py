"""Multi-label data from single-label clips: mixtures of one to three classes, with their tags.

    python benchmarks/mix.py ../shared/data/esc10/labels.csv mixed --group source

Clips of one mixture come from the same fold (or split) and have different classes, so that the test
fold contains no sound of the training folds. Within a fold the recordings are divided into pools,
and a mixture is made from one pool: ``group`` names it, so that intervals can be computed over
groups that share no recording. Each part is scaled to a random level; the mixture's label cell
lists its classes separated by ``;``. The same seed makes the same files.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from edgeprune_calibration.dataset import NO_GROUP, read_data
from edgeprune_calibration.manifest import Clip
from edgeprune_device.audio.sound_files import rate_of, read_clip
from edgeprune_device.errors import EdgepruneError

SHARES = (0.3, 0.4, 0.3)  # of mixtures of one, two and three classes
GAINS_DB = (-9.0, 0.0)
LEVEL = 0.1  # root mean square of the loudest part, of full scale
PEAK = 0.98


def draw(clips: list[Clip], generator: np.random.Generator) -> list[Clip]:
    """Draw one to three clips of different classes."""
    labels = sorted({clip.label for clip in clips})
    count = min(len(labels), 1 + int(generator.choice(len(SHARES), p=SHARES)))
    chosen = sorted(generator.choice(labels, count, replace=False).tolist())
    found = []
    for label in chosen:
        among = [clip for clip in clips if clip.label == label]
        found.append(among[int(generator.integers(len(among)))])
    return found


def mix(
    sounds: list[NDArray[np.float32]], generator: np.random.Generator
) -> tuple[NDArray[np.float32], list[float]]:
    """Add sounds at random levels, shorter ones at a random position within the longest.

    Returns
    -------
    mixture : array (samples,)
        Peak at most 0.98.
    gains_db : list of float
        Each sound's level relative to the greatest possible one.

    """
    length = max(map(len, sounds))
    total = np.zeros(length, dtype=np.float32)
    gains = generator.uniform(*GAINS_DB, size=len(sounds))
    for sound, gain in zip(sounds, gains, strict=True):
        level = float(np.sqrt(np.mean(np.square(sound, dtype=np.float64)))) or 1.0
        first = int(generator.integers(length - len(sound) + 1))
        total[first : first + len(sound)] += sound * np.float32(LEVEL / level * 10 ** (gain / 20))
    return total * np.float32(
        min(1.0, PEAK / max(1e-9, float(np.abs(total).max())))
    ), gains.tolist()


def pools_of(clips: Sequence[Clip], pools: int) -> dict[tuple[str, int], list[Clip]]:
    """Return the clips by (fold or split, pool): a recording is in one pool, a class in many."""
    place: dict[str, int] = {}
    found: dict[tuple[str, int], list[Clip]] = {}
    dealt: dict[tuple[str, str], int] = {}
    for clip in sorted(clips, key=lambda c: (c.split or "", c.label, _recording(c), c.path)):
        side, recording = clip.split or "", _recording(clip)
        if recording not in place:
            dealt[side, clip.label] = dealt.get((side, clip.label), -1) + 1
            place[recording] = dealt[side, clip.label] % pools
        found.setdefault((side, place[recording]), []).append(clip)
    return dict(sorted(found.items()))


def _recording(clip: Clip) -> str:
    return clip.group or str(clip.path)


def make(
    source: Path, out: Path, label: str, group: str, count: int, pools: int, seed: int
) -> int:  # fmt: skip
    """Write ``out/labels.csv`` and the mixtures; return their number."""
    dataset = read_data(source, label, group or NO_GROUP)
    if any(clip.split is None for clip in dataset.clips):
        raise EdgepruneError(
            f"{source} gives no split, so mixtures could carry a sound from train to test.",
            "Give its rows a split: train, valid and test, or fold1, fold2, ...",
        )
    (out / "audio").mkdir(parents=True, exist_ok=True)
    rate = rate_of(dataset.clips[0].path)
    rows = []
    for (side, pool), clips in pools_of(dataset.clips, pools).items():
        generator = np.random.default_rng([seed, pool, *side.encode()])
        for number in range(round(count * len(clips) / len(dataset.clips))):
            parts = draw(clips, generator)
            sounds = [read_clip(c.path, rate, c.start_seconds, c.end_seconds) for c in parts]
            sound, gains = mix(sounds, generator)
            name = f"audio/{side}-{pool}-{number:05d}.flac"
            soundfile.write(out / name, sound, rate, subtype="PCM_16")
            rows.append((name, ";".join(c.label for c in parts), side,
                         f"{side}-{pool}", ";".join(c.path.name for c in parts),
                         ";".join(f"{gain:.1f}" for gain in gains)))  # fmt: skip
    with (out / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [("path", "label", "split", "group", "parts", "gains_db"), *rows]
        )
    return len(rows)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "data", type=Path, help="manifest of single-label clips with a split column"
    )
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--label", default="label", help="column with the classes")
    parser.add_argument("--group", default="", help="column that must not stand in two splits")
    parser.add_argument("--count", type=int, default=600, help="mixtures, over all splits")
    parser.add_argument("--pools", type=int, default=4, help="groups of recordings in each split")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    given = parser.parse_args()
    try:
        made = make(
            given.data, given.out, given.label, given.group, given.count, given.pools, given.seed
        )
    except EdgepruneError as error:
        print(f"error: {error}\nhint: {error.hint}", file=sys.stderr)
        return error.status
    print(f"{made} mixtures in {given.out / 'labels.csv'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
