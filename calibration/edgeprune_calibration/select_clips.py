"""Selecting few clips that represent many: all classes, levels, spectra, and the site's noise.

``pick`` is deterministic. ``select`` reads the sound files, selects clips, and writes a manifest
for ``dataset.read_data``, with statistics of the selection in ``coverage.json``.
"""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune_calibration.dataset import Dataset, Track, read_data, untracked
from edgeprune_calibration.manifest import SOUND_SUFFIXES
from edgeprune_calibration.sound_features import NAMES, QUIETEST_DB, features, standardised
from edgeprune_device.audio.sound_files import rate_of, read_clip, seconds_of
from edgeprune_device.errors import EdgepruneError

NOISE = "noise"  # label of clips from recordings without labels
MANIFEST, COVERAGE = "manifest.csv", "coverage.json"
AT_A_TIME = 256  # number of clips whose distances to all others are in memory at once
DRAWS = 20  # number of random selections for comparison


@dataclass(frozen=True)
class Piece:
    """A segment of sound that can be selected."""

    path: Path
    label: str
    kinds: tuple[str, ...]
    """Classes or tags that it counts for."""
    start_seconds: float | None = None
    end_seconds: float | None = None


def pick(
    table: NDArray[np.float64], kinds: Sequence[tuple[str, ...]], count: int, rule: str = "facility"
) -> list[int]:
    """Select clips one at a time, each for the class with the fewest so far.

    Parameters
    ----------
    table : array (n, features)
        Standardized features; distances are Euclidean.
    kinds : sequence of tuple of str
        Classes or tags of each clip, at least one.
    count : int
        Number of clips to select.
    rule : str
        A row of ``RULES``.

    Returns
    -------
    list of int
        Indices in the order of selection; all clips if there are no more.

    """
    free = set(range(len(table)))
    had: Counter[str] = Counter({kind: 0 for own in kinds for kind in own})
    nearest = np.full(len(table), np.inf)
    picked: list[int] = []
    while free and len(picked) < count:
        open_kinds = {kind for i in free for kind in kinds[i]}
        scarce = min(open_kinds, key=lambda kind: (had[kind], kind))
        allowed = np.array(sorted(i for i in free if scarce in kinds[i]))
        best = int(allowed[RULES[rule](table, nearest, allowed)])
        picked.append(best)
        free.remove(best)
        had.update(kinds[best])
        nearest = np.minimum(nearest, np.linalg.norm(table - table[best], axis=1))
    return picked


def _facility(
    table: NDArray[np.float64], nearest: NDArray[np.float64], allowed: NDArray[np.int64]
) -> int:
    """Minimize the mean distance to the nearest selected clip (greedy facility location)."""
    reach = np.where(np.isinf(nearest), np.linalg.norm(table, axis=1) + 10.0, nearest)
    squares = np.square(table).sum(axis=1)
    gains = []
    for i in range(0, len(allowed), AT_A_TIME):
        some = allowed[i : i + AT_A_TIME]
        apart = squares[some, None] + squares - 2 * table[some] @ table.T
        gains.append(np.maximum(0, reach - np.sqrt(apart.clip(0))).sum(axis=1))
    return int(np.concatenate(gains).argmax())


def _farthest(
    table: NDArray[np.float64], nearest: NDArray[np.float64], allowed: NDArray[np.int64]
) -> int:
    """Select the clip farthest from all selected ones (Gonzalez 1985, k-center)."""
    reach = np.where(np.isinf(nearest), np.linalg.norm(table, axis=1), nearest)
    return int(reach[allowed].argmax())


Rule = Callable[[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]], int]
RULES: dict[str, Rule] = {"facility": _facility, "farthest": _farthest}
"""Rule -> (table, distances to the nearest selected clip, allowed) -> index into ``allowed``."""


def coverage(
    table: NDArray[np.float64], kinds: Sequence[tuple[str, ...]], picked: Sequence[int]
) -> dict[str, Any]:
    """Return statistics on how well a selection covers all clips.

    Parameters
    ----------
    table : array (n, 18)
        Result of ``sound_features.features``.
    kinds, picked
        As for ``pick``.

    Returns
    -------
    dict
        ``distance``: mean distance of a clip to the nearest selected one, in standard deviations;
        ``random_distance``: the same for random selections of that size; ``span``: for each
        feature, the share of the range from its 1st to its 99th percentile that the selection
        covers; ``kinds``: number of selected clips per class.

    """
    even, chosen = standardised(table), np.asarray(picked)
    generator = np.random.default_rng(0)
    drawn = [generator.choice(len(table), len(chosen), replace=False) for _ in range(DRAWS)]
    low, high = np.percentile(table, [1, 99], axis=0)
    first, last = table[chosen].min(axis=0), table[chosen].max(axis=0)
    inside = np.minimum(high, last) - np.maximum(low, first)
    span = np.where(high > low, inside.clip(0) / np.maximum(high - low, 1e-12), 1.0)
    return {
        "pieces": len(table), "picked": len(chosen), "distance": _distance(even, chosen),
        "random_distance": float(np.mean([_distance(even, d) for d in drawn])),
        "span": dict(zip(NAMES, span.tolist(), strict=True)),
        "kinds": dict(sorted(Counter(k for i in picked for k in kinds[i]).items())),
    }  # fmt: skip


def select(
    data: Path, count: int, out: Path, *, label: str = "label", task: str = "classes",
    split: str = "", noise: Path | None = None, noise_share: float = 0.2, rate: int | None = None,
    rule: str = "facility", track: Track = untracked,
) -> dict[str, Any]:  # fmt: skip
    """Select a calibration set from a data set and write its manifest.

    Parameters
    ----------
    data : Path
        As for ``dataset.read_data``.
    count : int
        Number of clips, including noise.
    out : Path
        Folder for ``manifest.csv`` and ``coverage.json``.
    label, task : str
        As for ``dataset.read_data``.
    split : str
        Only clips of this split; empty: all.
    noise : Path or None
        Folder of recordings from the site, or a file; split into segments as long as the clips.
    noise_share : float
        Share of noise in the set, 0 to 1.
    rate : int or None
        Sample rate in Hz that every file must have; None: any.
    rule : str
        A row of ``RULES``.
    track : callable
        Shows progress.

    Returns
    -------
    dict
        Coverage statistics, and ``text``.

    Raises
    ------
    EdgepruneError
        There are too few clips or classes, all are silent, a sample is not finite, or a file has
        another rate.

    """
    if count < 1 or not 0 <= noise_share < 1 or rule not in RULES:
        raise EdgepruneError(
            f"Selecting {count} clips with {noise_share:g} noise by {rule!r} is not possible.",
            f"Allowed: --count from 1, --noise-share from 0, below 1, --rule {' or '.join(RULES)}.",
        )
    pieces = _pieces(read_data(data, label, task=task), split)
    check_rates([p.path for p in pieces], rate)
    heard = _described(pieces, data, rate, track)
    for_noise = round(noise_share * count) if noise is not None else 0
    chosen, covered = _picked(*heard, count - for_noise, rule)
    result: dict[str, Any] = {"data": str(data), "rule": rule, "clips": covered}
    if noise is not None:
        files = sounds_of(noise)
        check_rates(files, rate)
        field = _described(_noises(files, pieces), noise, rate, track)
        more, result["noise"] = _picked(*field, for_noise, rule)
        chosen += more
    out.mkdir(parents=True, exist_ok=True)
    _write_manifest(out / MANIFEST, chosen)
    (out / COVERAGE).write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    return result | {"manifest": str(out / MANIFEST), "text": _text(result, out / MANIFEST)}


def sounds_of(source: Path) -> list[Path]:
    """Return all sound files in a folder, recursively, sorted; or the given file.

    Raises
    ------
    EdgepruneError
        There is none.

    """
    if source.is_file():
        return [source]
    found = sorted(p for p in source.rglob("*")
                   if p.suffix.lower() in SOUND_SUFFIXES and p.name[0] != ".")  # fmt: skip
    if not found:
        raise EdgepruneError(f"{source} has no sound files.")
    return found


def check_rates(files: Sequence[Path], rate: int | None) -> None:
    """Raise if a file has another sample rate than requested."""
    if rate is None:
        return
    others = [(path, found) for path in dict.fromkeys(files) if (found := rate_of(path)) != rate]
    if others:
        path, found = others[0]
        raise EdgepruneError(
            f"{len(others)} of {len(set(files))} files do not have the requested {rate} Hz; "
            f"{path} has {found} Hz.",
            "Leave out --rate to have the files resampled.",
        )


def _pieces(data: Dataset, split: str) -> list[Piece]:
    kinds = data.labelling.stratify_by
    found = [Piece(c.path, c.label, kinds(c.label), c.start_seconds, c.end_seconds)
             for c in data.clips if split in ("", c.split)]  # fmt: skip
    if not found:
        raise EdgepruneError(f"{data.source} has no clips in the split {split!r}.")
    if len({k for p in found for k in p.kinds}) < data.labelling.least_labels:
        raise EdgepruneError(
            f"The split {split!r} of {data.source} has the single label {found[0].label!r}.",
            "At least two labels are needed.",
        )
    return found


def _noises(files: Sequence[Path], clips: Sequence[Piece]) -> list[Piece]:
    """Split recordings into segments as long as the clips usually are."""
    lengths = [seconds_of(p.path, p.start_seconds, p.end_seconds) for p in clips[:100]]
    length = float(np.median(lengths))
    pieces = []
    for path in files:
        whole = seconds_of(path)
        for i in range(max(1, int(whole / length))):
            end = min(whole, (i + 1) * length)
            pieces.append(Piece(path, NOISE, (NOISE,), i * length, end))
    return pieces


def _described(
    pieces: list[Piece], source: Path, rate: int | None, track: Track
) -> tuple[list[Piece], NDArray[np.float64]]:
    """Return the clips that are not silent and their features, all at one sample rate."""
    common = rate or min(rate_of(path) for path in {p.path for p in pieces})
    rows = [features(read_clip(p.path, common, p.start_seconds, p.end_seconds), common)
            for p in track(pieces, "listening", len(pieces))]  # fmt: skip
    table = np.array(rows)
    sounding = np.flatnonzero(table[:, 0] > QUIETEST_DB)
    if not len(sounding):
        raise EdgepruneError(f"All {len(pieces)} clips of {source} are silent.")
    kinds = {k for p in pieces for k in p.kinds}
    kept = [pieces[i] for i in sounding]
    if lost := sorted(kinds - {k for p in kept for k in p.kinds}):
        raise EdgepruneError(f"All clips of {lost[0]!r} in {source} are silent.")
    return kept, table[sounding]


def _picked(
    pieces: list[Piece], table: NDArray[np.float64], count: int, rule: str
) -> tuple[list[Piece], dict[str, Any]]:
    kinds = [p.kinds for p in pieces]
    number = len({k for own in kinds for k in own})
    if not number <= count <= len(pieces) and count != 0:
        raise EdgepruneError(
            f"{count} clips cannot be selected from {len(pieces)} audible ones of {number} labels.",
            "--count must be at least the number of labels and at most the number of clips.",
        )
    if count == 0:
        return [], {"pieces": len(pieces), "picked": 0}
    chosen = pick(standardised(table), kinds, count, rule)
    return [pieces[i] for i in chosen], coverage(table, kinds, chosen)


def _distance(table: NDArray[np.float64], picked: NDArray[np.int64]) -> float:
    nearest = np.full(len(table), np.inf)
    for i in picked:
        nearest = np.minimum(nearest, np.linalg.norm(table - table[i], axis=1))
    return float(nearest.mean())


def _write_manifest(path: Path, pieces: Sequence[Piece]) -> None:
    def row(p: Piece) -> tuple[str, ...]:
        times = ("" if t is None else f"{t:.6f}" for t in (p.start_seconds, p.end_seconds))
        return (Path(os.path.relpath(p.path, path.parent.resolve())).as_posix(), p.label, *times)

    with path.open("w", encoding="utf-8", newline="") as file:
        rows = [("path", "label", "start", "end"), *map(row, pieces)]
        csv.writer(file).writerows(rows)


def _text(result: dict[str, Any], manifest: Path) -> str:
    lines = []
    for name in ("clips", "noise"):
        if not (found := result.get(name)) or not found["picked"]:
            continue
        span = sorted(found["span"].items(), key=lambda item: item[1])
        bands = [share for key, share in span if key.startswith("band")]
        lines += [
            f"{name}: {found['picked']} of {found['pieces']}, "
            f"{min(found['kinds'].values())} to {max(found['kinds'].values())} per label",
            f"  mean distance to the nearest selected clip: {found['distance']:.2f} standard "
            f"deviations ({found['random_distance']:.2f} for a random selection)",
            f"  range covered: level {100 * found['span']['level']:.0f} %, crest factor "
            f"{100 * found['span']['crest']:.0f} %, spectrum {100 * min(bands):.0f} to "
            f"{100 * max(bands):.0f} %",
        ]
    return "\n".join([*lines, f"Written: {manifest}"])
