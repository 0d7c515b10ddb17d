"""Labelled clips as windows of samples: stored once by the stage ``clips``, then memory-mapped.

A window is the input of the model. A clip that is shorter is centred and zero-padded; one that is
longer is split into several windows. ``sound`` says which part of each window is sound, so that
averages can exclude the padding. With ``clips.context = "file"`` the files are split into windows,
a clip is a segment of its file, and a window can contain several points (such as phones).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.core.files import read_json
from edgeprune_calibration.manifest import Clip

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Windows:
    """The windows of one split, or of all, and the labelled points in them."""

    samples: NDArray[np.float32]
    """Samples (windows, window_samples), in [-1, 1]."""
    sound: NDArray[np.int64]
    """(n, 2): each point's first sample in its window, and its end (exclusive)."""
    clip: NDArray[np.int64]
    """(n,): index of the clip that each point is, or is a part of."""
    rows: tuple[dict[str, Any], ...]
    """All clips of the data: path, label, split, group, columns."""
    labels: tuple[str, ...]
    """Labels of the data, sorted."""
    sample_rate: int
    """Sample rate in Hz."""
    window: NDArray[np.int64] = field(default_factory=lambda: np.arange(0))
    """(n,): index into ``samples`` of each point's window; empty: one window per point."""
    task: str = "classes"
    """Task, a row of ``tasks.TASKS``."""
    tokens: str = "characters"
    """Tokens of a transcript, ``characters`` or ``words`` (task ``ctc``)."""

    def __post_init__(self) -> None:
        """Give every window one point by default."""
        if not len(self.window):
            object.__setattr__(self, "window", np.arange(len(self.samples)))

    @property
    def window_samples(self) -> int:
        """Length of a window in samples."""
        return int(self.samples.shape[1])

    def column(self, name: str) -> list[str]:
        """Return a column of the points: ``label``, ``group`` or a column of the manifest."""
        rows = [self.rows[index] for index in self.clip]
        if name in ("label", "group", "split"):
            return [str(row[name]) for row in rows]
        return [str(row["columns"].get(name, "")) for row in rows]

    def targets(self, labels: Sequence[str]) -> NDArray[np.int64]:
        """Return each point's class as an index into a model's labels."""
        index = {label: i for i, label in enumerate(labels)}
        return np.array([index[label] for label in self.column("label")], dtype=np.int64)

    def where(self, split: str) -> NDArray[np.int64]:
        """Return the indices of the points in a split."""
        chosen = np.array([row["split"] == split for row in self.rows], dtype=bool)[self.clip]
        return np.flatnonzero(chosen)

    def split(self, name: str) -> Windows:
        """Return the points of one split with their windows."""
        return self.take(self.where(name))

    def subset(self, index: NDArray[np.int64]) -> Windows:
        """Return a subset of the points; no samples are read."""
        return replace(self, sound=self.sound[index], clip=self.clip[index],
                       window=self.window[index])  # fmt: skip

    def read(self, points: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """Read the windows of the given points: (points, window_samples)."""
        return np.array(self.samples[self.window[points]])

    def take(self, index: NDArray[np.int64]) -> Windows:
        """Return a subset of the points; the samples of their windows are read."""
        used = self.window[index]
        window = np.arange(len(used))
        if not np.array_equal(self.window, np.arange(len(self.samples))):  # points share windows
            used, window = np.unique(used, return_inverse=True)
        return replace(self, samples=self.samples[used], sound=self.sound[index],
                       clip=self.clip[index], window=window)  # fmt: skip


def load_windows(folder: Path) -> Windows:
    """Load the result of the stage ``clips``; samples are memory-mapped."""
    described = read_json(folder / "clips.json")
    table = np.array(described["points"], dtype=np.int64).reshape(-1, 4)
    return Windows(
        samples=np.load(folder / "samples.npy", mmap_mode="r", allow_pickle=False),
        sound=table[:, 1:3], clip=table[:, 0], window=table[:, 3], rows=tuple(described["rows"]),
        labels=tuple(described["labels"]), sample_rate=described["sample_rate"],
        task=described["task"], tokens=described["tokens"],
    )  # fmt: skip


def stored_clips(folder: Path, split: str) -> tuple[Clip, ...]:
    """Return one split's clips as in the manifest, to be read again from their files."""
    return tuple(
        Clip(path=Path(row["path"]), label=row["label"], group=row["group"] or None, split=split,
             start_seconds=row["start"], end_seconds=row["end"], columns=row["columns"])
        for row in read_description(folder)["rows"] if row["split"] == split
    )  # fmt: skip


def read_description(folder: Path) -> dict[str, Any]:
    """Read the description of the data that the stage ``clips`` wrote."""
    described: dict[str, Any] = read_json(folder / "clips.json")
    return described
