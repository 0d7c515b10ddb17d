"""Drift of recordings from the calibration set: level, crest factor and spectrum are compared.

Both are split into windows of one length. For every feature, the Kolmogorov-Smirnov distance
between the two is computed (largest difference of their cumulative distributions, 0 to 1), and the
population stability index. Neither needs labels. Windows of one recording are correlated, so the
significance limit comes from permuting whole recordings: the largest distance of any feature stays
below it in 99 % of the permutations (Westfall and Young 1993, which corrects for testing 18
features). A difference counts if it exceeds that limit and is large enough to matter.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune_calibration.dataset import Track, untracked
from edgeprune_calibration.manifest import DELIMITERS, clips_of_manifest
from edgeprune_calibration.select_clips import check_rates, sounds_of
from edgeprune_calibration.sound_features import NAMES, cut, features
from edgeprune_device.audio.sound_files import rate_of, read_clip
from edgeprune_device.errors import EdgepruneError

PERMUTATIONS = 499
CONFIDENCE = 0.99
MIN_DISTANCE = 0.25  # least distance that matters
PSI_MATTERS = 0.25  # the usual rule: below 0.1 stable, above 0.25 shifted
PSI_BINS = 10
LEAST_RECORDINGS = 5  # on each side; with fewer, no permutation is significant
LOUDER_SHARE = 0.01  # largest share of windows above the set's peak, whose samples would be clipped

Part = tuple[Path, float | None, float | None]
"""A file, and start and end of the segment in seconds."""


@dataclass(frozen=True)
class AuditWindows:
    """Features of the windows of recordings."""

    table: NDArray[np.float64]
    """(windows, 18): features, see ``sound_features``."""
    peaks: NDArray[np.float64]
    """(windows,): largest magnitude of each window."""
    recording: NDArray[np.int64]
    """(windows,): index of each window's recording."""


def distances(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Kolmogorov-Smirnov distance of every column.

    Parameters
    ----------
    first : array (n, columns)
    second : array (m, columns)

    Returns
    -------
    array (columns,)
        0 to 1.

    """
    found = []
    for a, b in zip(first.T, second.T, strict=True):
        both = np.sort(np.concatenate([a, b]))
        shares = [np.searchsorted(np.sort(x), both, side="right") / len(x) for x in (a, b)]
        found.append(float(np.abs(shares[0] - shares[1]).max()))
    return np.array(found)


def stability_index(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return the population stability index of ``second`` against ``first``, over its deciles.

    Parameters
    ----------
    first, second : array (n,), (m,)
        Values of one feature.

    """
    edges = np.unique(np.percentile(first, np.linspace(0, 100, PSI_BINS + 1)[1:-1]))
    shares = [np.bincount(np.searchsorted(edges, x), minlength=len(edges) + 1) / len(x)
              for x in (first, second)]  # fmt: skip
    p, q = (np.maximum(share, 1e-4) for share in shares)
    return float(np.sum((q - p) * np.log(q / p)))


def chance_limits(
    first: AuditWindows, second: AuditWindows, deals: int = PERMUTATIONS, seed: int = 0
) -> tuple[float, float]:
    """Return the 99th percentiles under random permutations of the recordings.

    Parameters
    ----------
    first, second : AuditWindows
        Calibration set and later recordings.
    deals, seed : int
        Number of permutations and random seed.

    Returns
    -------
    distance : float
        Of the largest distance of any feature.
    louder : float
        Of the share of the second's windows whose peak exceeds all of the first.

    """
    table = np.concatenate([first.table, second.table])
    offset = int(first.recording.max()) + 1
    recording = np.concatenate([first.recording, second.recording + offset])
    names = np.unique(recording)
    number = len(np.unique(first.recording))
    # For sorted columns, a distance is the largest difference of the cumulative shares.
    order = np.argsort(table, axis=0, kind="stable")
    ordered = np.take_along_axis(table, order, axis=0)
    last = np.vstack([ordered[1:] != ordered[:-1], np.ones((1, table.shape[1]), bool)])
    peaks = np.concatenate([first.peaks, second.peaks])
    generator = np.random.default_rng(seed)
    worst, louder = [], []
    for _ in range(deals):
        chosen = np.isin(recording, generator.permutation(names)[:number])
        share = np.where(chosen, 1 / chosen.sum(), -1 / (~chosen).sum())
        steps = np.abs(np.cumsum(share[order], axis=0))
        worst.append(float(steps[last].max()))
        louder.append(_louder(peaks[chosen], peaks[~chosen]))
    distance, share = (float(np.quantile(x, CONFIDENCE, method="higher")) for x in (worst, louder))
    return distance, share


def _louder(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    return float(np.mean(second > first.max()))


def compare(first: AuditWindows, second: AuditWindows) -> dict[str, Any]:
    """Compare a calibration set with later recordings.

    Parameters
    ----------
    first, second : AuditWindows
        Calibration set and later recordings.

    Returns
    -------
    dict
        ``redo`` and the ``reasons`` for it, ``limit``, ``louder`` (share of windows above the set's
        highest peak), and for each feature ``distance``, ``psi`` and ``shift`` (of the median, in
        dB).

    """
    limit, by_chance = chance_limits(first, second)
    distance = distances(first.table, second.table)
    shift = np.median(second.table, axis=0) - np.median(first.table, axis=0)
    louder = _louder(first.peaks, second.peaks)
    found = {
        name: {"distance": float(distance[i]), "shift": float(shift[i]),
               "psi": stability_index(first.table[:, i], second.table[:, i])}
        for i, name in enumerate(NAMES)
    }  # fmt: skip
    moved = [x for x in NAMES if found[x]["distance"] > limit and found[x]["distance"] >= MIN_DISTANCE
             and found[x]["psi"] >= PSI_MATTERS]  # fmt: skip
    reasons = [
        f"{_name(x)} shifted by {found[x]['shift']:+.1f} dB" for x in moved if "band" not in x
    ]
    if bands := [x for x in moved if "band" in x]:
        worst = max(bands, key=lambda x: abs(found[x]["shift"]))
        reasons.append(f"the spectrum changed in {len(bands)} of 16 bands, most in "
                       f"{worst} ({found[worst]['shift']:+.1f} dB)")  # fmt: skip
    if louder > max(LOUDER_SHARE, by_chance):
        reasons.append(f"{100 * louder:.0f} % of the windows exceed the highest peak of the set")
    return {"redo": bool(reasons), "reasons": reasons, "limit": limit, "louder": louder,
            "windows": [len(first.table), len(second.table)],
            "recordings": [len(np.unique(w.recording)) for w in (first, second)],
            "features": found}  # fmt: skip


def audit(
    data: Path, heard: Path, *, seconds: float = 1.0, rate: int | None = None,
    out: Path | None = None, track: Track = untracked,
) -> dict[str, Any]:  # fmt: skip
    """Compare a calibration set with later recordings, and recommend whether to redo it.

    Parameters
    ----------
    data : Path
        Calibration set: a manifest, a folder, or a sound file.
    heard : Path
        Folder of sound files, or a journal with a folder ``clips``.
    seconds : float
        Length of a window in seconds.
    rate : int or None
        Sample rate in Hz that every file must have; None: resample to the lowest rate among them.
    out : Path or None
        File for the result as JSON.
    track : callable
        Shows progress.

    Returns
    -------
    dict
        As ``compare``, with ``verdict`` and ``text``.

    Raises
    ------
    EdgepruneError
        There is no sound, there are too few recordings, a sample is not finite, or a file has
        another rate.

    """
    if not 0 < seconds < 3600:
        raise EdgepruneError(
            f"--window {seconds:g} is out of range.", "Allowed: more than 0 seconds."
        )
    sides: list[list[Part]] = [_parts(data), [(path, None, None) for path in _field(heard)]]
    for side, source in zip(sides, (data, heard), strict=True):
        check_rates([path for path, _, _ in side], rate)
        if len({path for path, _, _ in side}) < LEAST_RECORDINGS:
            raise EdgepruneError(
                f"{source} has fewer than {LEAST_RECORDINGS} recordings, too few for a comparison.",
                "Record more, at other times.",
            )
    common = rate or min(rate_of(path) for path in {p for side in sides for p, _, _ in side})
    first, second = (_windows(side, common, seconds, track) for side in sides)
    done = compare(first, second)
    verdict = (
        "Redo the calibration: " + "; ".join(done["reasons"]) + "." if done["redo"] else
        "Keep the calibration: the recordings do not differ significantly from the set, or too "
        "little to matter."
    )  # fmt: skip
    done |= {"calibration": str(data), "heard": str(heard), "verdict": verdict}
    if out is not None:
        out.write_text(json.dumps(done, indent=1) + "\n", "utf-8")
    return done | {"text": _text(done)}


def _windows(
    parts: Sequence[Part], rate: int, seconds: float,
    track: Track,
) -> AuditWindows:  # fmt: skip
    rows, peaks, recording = [], [], []
    numbers: dict[Path, int] = {}
    for path, start, end in track(parts, "listening", len(parts)):
        for window in cut(read_clip(path, rate, start, end), max(1, round(seconds * rate))):
            rows.append(features(window, rate))
            peaks.append(float(np.abs(window).max()))
            recording.append(numbers.setdefault(path, len(numbers)))
    return AuditWindows(np.array(rows), np.array(peaks), np.array(recording, dtype=np.int64))


def _parts(data: Path) -> list[Part]:
    if not data.exists():
        raise EdgepruneError(f"There is no calibration set at {data}.")
    if data.suffix.lower() in DELIMITERS:
        clips = clips_of_manifest(data, "label", may_be_empty=True)
        return [(c.path, c.start_seconds, c.end_seconds) for c in clips]
    return [(path, None, None) for path in sounds_of(data)]


def _field(heard: Path) -> list[Path]:
    if not heard.exists():
        raise EdgepruneError(f"There are no recordings at {heard}.")
    return sounds_of(heard / "clips" if (heard / "clips").is_dir() else heard)


def _name(feature: str) -> str:
    return {"level": "the level", "crest": "the crest factor"}.get(feature, feature)


def _text(done: dict[str, Any]) -> str:
    lines = [f"{done['windows'][0]} windows of {done['recordings'][0]} recordings in the set, "
             f"{done['windows'][1]} of {done['recordings'][1]} recorded later; distances up to "
             f"{done['limit']:.2f} are not significant", "",
             "feature   distance   PSI   shift of the median"]  # fmt: skip
    lines += [f"{name:<9} {f['distance']:>8.2f} {f['psi']:>5.2f} {f['shift']:>+8.1f} dB"
              for name, f in done["features"].items()]  # fmt: skip
    return "\n".join([*lines, "", done["verdict"]])
