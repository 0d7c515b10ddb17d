"""Labelled clips as windows of samples: read, resampled, split and stored once, then mapped.

The window is the unit everywhere: what trains, what is scored, what the file on the board is
given. A clip that is shorter stands in the middle of zeros, one that is longer becomes several
windows; ``sound`` says where in each window there is sound, so that averages can leave the rest out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.console import Ui
from edgeprune.families import family_of
from edgeprune.models import read_config
from edgeprune.settings import Clips
from edgeprune_calibration.manifest import Clip, Dataset, check_audio, read_data
from edgeprune_calibration.splits import split_clips
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.sound import fit_window, read_clip, windows_of

LONGEST_WINDOW_SECONDS = 10.0
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Windows:
    """The windows of one split, or of all."""

    samples: NDArray[np.float32]
    """(n, window_samples), in [-1, 1]."""
    sound: NDArray[np.int64]
    """(n, 2): first sample with sound, and the one after the last."""
    clip: NDArray[np.int64]
    """(n,): which clip each window was cut from."""
    rows: tuple[dict[str, Any], ...]
    """Every clip of the data: path, label, split, group, columns."""
    labels: tuple[str, ...]
    """The data's labels, sorted."""
    sample_rate: int
    """Hz."""

    @property
    def window_samples(self) -> int:
        """Length of a window in samples."""
        return int(self.samples.shape[1])

    def column(self, name: str) -> list[str]:
        """Return one labelling of the windows: ``label``, ``group`` or a column of the manifest."""
        rows = [self.rows[index] for index in self.clip]
        if name in ("label", "group", "split"):
            return [str(row[name]) for row in rows]
        return [str(row["columns"].get(name, "")) for row in rows]

    def targets(self, labels: Sequence[str]) -> NDArray[np.int64]:
        """Return each window's class as an index into a model's labels."""
        index = {label: i for i, label in enumerate(labels)}
        return np.array([index[label] for label in self.column("label")], dtype=np.int64)

    def where(self, split: str) -> NDArray[np.int64]:
        """Return which windows stand in a split."""
        chosen = np.array([row["split"] == split for row in self.rows], dtype=bool)[self.clip]
        return np.flatnonzero(chosen)

    def split(self, name: str) -> Windows:
        """Return the windows of one split."""
        return self.take(self.where(name))

    def take(self, index: NDArray[np.int64]) -> Windows:
        """Return some of the windows; their samples are read."""
        return Windows(self.samples[index], self.sound[index], self.clip[index], self.rows,
                       self.labels, self.sample_rate)  # fmt: skip


def clips(
    model: str | Path, data: Path, digest: str, *, out: Path, settings: Clips, ui: Ui
) -> None:
    """Read the data as a model needs it: the stage before all others.

    Writes ``samples.npy`` and ``clips.json``.

    Parameters
    ----------
    model : str or Path
        For its sampling rate, and its window if that is fixed.
    data : Path
        Folder of class folders, or manifest.
    digest : str
        Of the data as ``read_data`` found it, so that a changed clip is read again.

    Raises
    ------
    EdgepruneError
        Bad data, each kind in its own sentence; a window the model cannot take.

    """
    config = read_config(str(model))
    rate = int(getattr(config, "sampling_rate", 16000))
    dataset = read_data(data, settings.label, settings.group or None)
    dataset, bad = check_audio(dataset, ui.track)
    for line in bad:
        ui.say(f"left out: {line}")
    for name in dataset.crossing:
        ui.say(f"  note: a {name} stands in more than one split of the data, so accuracy is for "
               f"a {name} heard before")  # fmt: skip
    parts = split_clips(
        dataset, settings.split_seed, settings.fractions, settings.test_fold or None
    )
    fixed = family_of(config.model_type).window
    own = int(getattr(config, fixed)) if fixed else 0
    decoded, offsets, rows, window = _decode(dataset, parts, rate, settings, own, ui)
    np.save(out / "samples.npy", decoded)
    described = {
        "sample_rate": rate, "window_samples": window, "labels": list(dataset.labels),
        "label_column": settings.label, "group_column": dataset.group_column, "left_out": bad,
        "digest": digest, "source": str(data), "rows": rows,
        "windows": [[int(v) for v in row] for row in offsets],
    }  # fmt: skip
    (out / "clips.json").write_text(json.dumps(described, ensure_ascii=False), "utf-8")
    counts = ", ".join(f"{name} {len(parts[name])}" for name in SPLITS)
    ui.say(f"  {len(rows)} clips, {len(dataset.labels)} labels ({counts}), "
           f"windows of {window / rate:g} s at {rate} Hz")  # fmt: skip


def _decode(
    dataset: Dataset,
    parts: dict[str, tuple[Clip, ...]],
    rate: int,
    settings: Clips,
    own: int,
    ui: Ui,
) -> tuple[NDArray[np.float32], list[tuple[int, int, int]], list[dict[str, Any]], int]:
    """Read every clip and cut it; rows of (clip, first, last) go with the windows."""
    ordered = [(name, clip) for name in SPLITS for clip in parts[name]]
    sounds = [
        read_clip(clip.path, rate, clip.start_seconds, clip.end_seconds)
        for _, clip in ui.track(ordered, "reading clips", len(ordered))
    ]
    window = _window_samples(settings, own, rate, [len(sound) for sound in sounds])
    pieces, offsets, rows = [], [], []
    for index, ((name, clip), sound) in enumerate(zip(ordered, sounds, strict=True)):
        if len(sound) <= window:
            piece, first = fit_window(sound, window)
            pieces.append(piece)
            offsets.append((index, first, first + len(sound)))
        else:
            cut = windows_of(sound, window, window)
            pieces.extend(cut)
            offsets.extend((index, 0, window) for _ in cut)
        rows.append({"path": str(clip.path), "label": clip.label, "split": name,
                     "group": clip.group or "", "columns": dict(clip.columns),
                     "start": clip.start_seconds, "end": clip.end_seconds})  # fmt: skip
    return np.stack(pieces).astype(np.float32), offsets, rows, window


def _window_samples(settings: Clips, own: int, rate: int, lengths: Sequence[int]) -> int:
    """Choose the window's length in samples."""
    wanted = round(settings.window_seconds * rate)
    if own and wanted not in (0, own):
        raise EdgepruneError(
            f"This model takes windows of {own / rate:g} s, not {settings.window_seconds:g} s.",
            "Leave --window out.",
        )
    if own or wanted:
        return own or wanted
    tenth = rate // 10
    usual = math.ceil(float(np.quantile(lengths, 0.95)) / tenth) * tenth
    return min(usual, round(LONGEST_WINDOW_SECONDS * rate))


def load_windows(folder: Path) -> Windows:
    """Load what the ``clips`` stage wrote; samples are mapped, not read."""
    described = json.loads((folder / "clips.json").read_text("utf-8"))
    table = np.array(described["windows"], dtype=np.int64).reshape(-1, 3)
    return Windows(
        samples=np.load(folder / "samples.npy", mmap_mode="r", allow_pickle=False),
        sound=table[:, 1:], clip=table[:, 0], rows=tuple(described["rows"]),
        labels=tuple(described["labels"]), sample_rate=described["sample_rate"],
    )  # fmt: skip


def stored_clips(folder: Path, split: str) -> tuple[Clip, ...]:
    """Return one split's clips as the manifest had them, to be read again from their files."""
    return tuple(
        Clip(path=Path(row["path"]), label=row["label"], group=row["group"] or None, split=split,
             start_seconds=row["start"], end_seconds=row["end"], columns=row["columns"])
        for row in read_description(folder)["rows"] if row["split"] == split
    )  # fmt: skip


def read_description(folder: Path) -> dict[str, Any]:
    """Read what the ``clips`` stage says of the data."""
    described: dict[str, Any] = json.loads((folder / "clips.json").read_text("utf-8"))
    return described
