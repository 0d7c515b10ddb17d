"""Has the field moved away from the calibration set? Level, crest factor and spectrum, compared.

Both are cut into windows of one length. For every feature the Kolmogorov-Smirnov distance between
the two is taken (the largest difference of their cumulative shares, 0 to 1), beside the population
stability index that practice knows. Neither needs labels. Windows of one recording are alike, so
chance is asked by dealing out whole recordings: the limit is what the largest distance of any
feature stays under in 99 % of such deals (Westfall and Young 1993, so 18 features are one test).
A difference counts when it is over that limit and large enough to matter.
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

DEALS = 499
SURE = 0.99
MATTERS = 0.25  # a distance of less changes little
PSI_MATTERS = 0.25  # the usual rule: under 0.1 stable, over 0.25 moved
PSI_BINS = 10
LEAST_RECORDINGS = 5  # on each side: of fewer, no deal is out of the ordinary
LOUDER_SHARE = 0.01  # of windows, over the loudest peak of the set: values the ranges clip

Part = tuple[Path, float | None, float | None]
"""A file, and from where to where it is heard, in seconds."""


@dataclass(frozen=True)
class AuditWindows:
    """Windows of recordings, described."""

    table: NDArray[np.float64]
    """(windows, 18), as ``features``."""
    peaks: NDArray[np.float64]
    """(windows,), the largest magnitude of each."""
    recording: NDArray[np.int64]
    """(windows,), which recording each is of."""


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
    """Return the population stability index of ``second`` against ``first``, over its tenths.

    Parameters
    ----------
    first, second : array (n,), (m,)

    """
    edges = np.unique(np.percentile(first, np.linspace(0, 100, PSI_BINS + 1)[1:-1]))
    shares = [np.bincount(np.searchsorted(edges, x), minlength=len(edges) + 1) / len(x)
              for x in (first, second)]  # fmt: skip
    p, q = (np.maximum(share, 1e-4) for share in shares)
    return float(np.sum((q - p) * np.log(q / p)))


def chance_limits(
    first: AuditWindows, second: AuditWindows, deals: int = DEALS, seed: int = 0
) -> tuple[float, float]:
    """Return what chance alone stays under in 99 % of the deals of recordings.

    Parameters
    ----------
    first, second : AuditWindows
    deals, seed : int

    Returns
    -------
    distance : float
        The largest of any feature.
    louder : float
        The share of the second's windows that peak over all of the first.

    """
    table = np.concatenate([first.table, second.table])
    offset = int(first.recording.max()) + 1
    recording = np.concatenate([first.recording, second.recording + offset])
    names = np.unique(recording)
    number = len(np.unique(first.recording))
    # Of sorted columns, a distance is the largest step of the running sums of both sides' shares.
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
    distance, share = (float(np.quantile(x, SURE, method="higher")) for x in (worst, louder))
    return distance, share


def _louder(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    return float(np.mean(second > first.max()))


def compare(first: AuditWindows, second: AuditWindows) -> dict[str, Any]:
    """Compare a calibration set with what was heard later.

    Parameters
    ----------
    first, second : AuditWindows
        The set, and the field.

    Returns
    -------
    dict
        ``redo`` and the ``reasons`` for it, ``limit``, ``louder`` (the share of windows over the
        set's highest peak), and of each feature ``distance``, ``psi`` and ``shift`` (of the
        median, in dB).

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
    moved = [x for x in NAMES if found[x]["distance"] > limit and found[x]["distance"] >= MATTERS
             and found[x]["psi"] >= PSI_MATTERS]  # fmt: skip
    reasons = [f"{_name(x)} moved by {found[x]['shift']:+.1f} dB" for x in moved if "band" not in x]
    if bands := [x for x in moved if "band" in x]:
        worst = max(bands, key=lambda x: abs(found[x]["shift"]))
        reasons.append(f"the spectrum changed in {len(bands)} of 16 bands, most in "
                       f"{worst} ({found[worst]['shift']:+.1f} dB)")  # fmt: skip
    if louder > max(LOUDER_SHARE, by_chance):
        reasons.append(f"{100 * louder:.0f} % of the windows peak over all of the set")
    return {"redo": bool(reasons), "reasons": reasons, "limit": limit, "louder": louder,
            "windows": [len(first.table), len(second.table)],
            "recordings": [len(np.unique(w.recording)) for w in (first, second)],
            "features": found}  # fmt: skip


def audit(
    data: Path, heard: Path, *, seconds: float = 1.0, rate: int | None = None,
    out: Path | None = None, track: Track = untracked,
) -> dict[str, Any]:  # fmt: skip
    """Compare a calibration set with recordings of the field, and say whether to redo it.

    Parameters
    ----------
    data : Path
        The set: a manifest, a folder, or a sound file.
    heard : Path
        A folder of sound files, or a journal that has a folder ``clips``.
    seconds : float
        Of a window.
    rate : int or None
        Hz that every file must have; None: all are heard at the lowest rate among them.
    out : Path or None
        A file for the result as JSON.
    track : callable

    Returns
    -------
    dict
        As ``compare``, with ``verdict`` and ``text``.

    Raises
    ------
    EdgepruneError
        No sound, too few recordings to tell anything, a sample that is no number, another rate.

    """
    if not 0 < seconds < 3600:
        raise EdgepruneError(f"--window {seconds:g} makes no sense.", "Seconds, over 0.")
    sides: list[list[Part]] = [_parts(data), [(path, None, None) for path in _field(heard)]]
    for side, source in zip(sides, (data, heard), strict=True):
        check_rates([path for path, _, _ in side], rate)
        if len({path for path, _, _ in side}) < LEAST_RECORDINGS:
            raise EdgepruneError(
                f"{source} holds fewer than {LEAST_RECORDINGS} recordings: no difference could be "
                "told from chance.",
                "Record more, at other times.",
            )
    common = rate or min(rate_of(path) for path in {p for side in sides for p, _, _ in side})
    first, second = (_windows(side, common, seconds, track) for side in sides)
    done = compare(first, second)
    verdict = (
        "Redo the calibration: " + "; ".join(done["reasons"]) + "." if done["redo"] else
        "Keep the calibration: what was heard differs from the set by no more than chance or by "
        "too little to matter."
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
             f"{done['windows'][1]} of {done['recordings'][1]} heard; a distance up to "
             f"{done['limit']:.2f} is chance", "",
             "feature   distance   PSI   shift of the median"]  # fmt: skip
    lines += [f"{name:<9} {f['distance']:>8.2f} {f['psi']:>5.2f} {f['shift']:>+8.1f} dB"
              for name, f in done["features"].items()]  # fmt: skip
    return "\n".join([*lines, "", done["verdict"]])
