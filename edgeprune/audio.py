"""Labelled clips as windows of samples: read, resampled, split and stored once, then mapped.

The window is what a model hears. A clip that is shorter stands in the middle of zeros, one that is
longer becomes several windows; ``sound`` says where in each there is sound, so that averages can
leave the rest out. With ``clips.context = "file"`` a clip is a stretch of its file, the file is
what is cut, and several points (phones, say) lie in one window.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.checkpoints import read_config
from edgeprune.console import Ui
from edgeprune.cutting import cut_clips, cut_files, pieces_of, window_samples, write_windows
from edgeprune.families import family_of
from edgeprune.hearing import check_window
from edgeprune.settings import Clips
from edgeprune_calibration.dataset import MOST_BAD, Clip, Dataset, check_audio, read_data
from edgeprune_calibration.labels import vocabulary
from edgeprune_calibration.splits import split_clips
from edgeprune_device.audio.sound_files import seconds_of
from edgeprune_device.errors import EdgepruneError

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Windows:
    """The windows of one split, or of all, and the labelled points that lie in them."""

    samples: NDArray[np.float32]
    """(windows, window_samples), in [-1, 1]."""
    sound: NDArray[np.int64]
    """(n, 2): each point's first sample in its window, and the one after its last."""
    clip: NDArray[np.int64]
    """(n,): which clip each point is, or was cut from."""
    rows: tuple[dict[str, Any], ...]
    """Every clip of the data: path, label, split, group, columns."""
    labels: tuple[str, ...]
    """The data's labels, sorted."""
    sample_rate: int
    """Hz."""
    window: NDArray[np.int64] = field(default_factory=lambda: np.arange(0))
    """(n,): which of ``samples`` each point lies in; left out: each in its own."""
    task: str = "classes"
    """What the labels are, a row of ``tasks.TASKS``."""
    tokens: str = "characters"
    """What a transcript is cut into, where the task is one of those."""

    def __post_init__(self) -> None:
        """Without another word, the points are the windows."""
        if not len(self.window):
            object.__setattr__(self, "window", np.arange(len(self.samples)))

    @property
    def window_samples(self) -> int:
        """Length of a window in samples."""
        return int(self.samples.shape[1])

    def column(self, name: str) -> list[str]:
        """Return one labelling of the points: ``label``, ``group`` or a column of the manifest."""
        rows = [self.rows[index] for index in self.clip]
        if name in ("label", "group", "split"):
            return [str(row[name]) for row in rows]
        return [str(row["columns"].get(name, "")) for row in rows]

    def targets(self, labels: Sequence[str]) -> NDArray[np.int64]:
        """Return each point's class as an index into a model's labels."""
        index = {label: i for i, label in enumerate(labels)}
        return np.array([index[label] for label in self.column("label")], dtype=np.int64)

    def where(self, split: str) -> NDArray[np.int64]:
        """Return which points stand in a split."""
        chosen = np.array([row["split"] == split for row in self.rows], dtype=bool)[self.clip]
        return np.flatnonzero(chosen)

    def split(self, name: str) -> Windows:
        """Return the points of one split, in their windows."""
        return self.take(self.where(name))

    def only(self, index: NDArray[np.int64]) -> Windows:
        """Return some of the points; no sample is read."""
        return replace(self, sound=self.sound[index], clip=self.clip[index],
                       window=self.window[index])  # fmt: skip

    def heard(self, points: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """Read the windows that some points lie in: (points, window_samples)."""
        return np.array(self.samples[self.window[points]])

    def take(self, index: NDArray[np.int64]) -> Windows:
        """Return some of the points; the samples of the windows they lie in are read."""
        used = self.window[index]
        window = np.arange(len(used))
        if not np.array_equal(self.window, np.arange(len(self.samples))):  # points share windows
            used, window = np.unique(used, return_inverse=True)
        return replace(self, samples=self.samples[used], sound=self.sound[index],
                       clip=self.clip[index], window=window)  # fmt: skip


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
    in_files = settings.context == "file"
    dataset = read_data(
        data, settings.label, settings.group or None, stretches=in_files, task=settings.task,
        tokens=settings.tokens,
    )  # fmt: skip
    dataset, bad = check_audio(dataset, ui.track, whole_files=in_files)
    for line in bad:
        ui.say(f"left out: {line}")
    for name in dataset.crossing:
        ui.say(f"  note: a {name} stands in more than one split of the data, so accuracy is for "
               f"a {name} heard before")  # fmt: skip
    parts = _parts(dataset, settings, in_files)
    labels = dataset.labels
    if settings.task == "ctc":
        parts, long = fitting(parts, settings, rate, ui)
        labels, bad = known_tokens(dataset, parts["train"], ui), [*bad, *long]
    ordered = [clip for name in SPLITS for clip in parts[name]]
    fixed = family_of(config.model_type).window
    own = int(getattr(config, fixed, 0)) if fixed else 0
    pieces = pieces_of(ordered, in_files)
    window = window_samples(settings, own, rate, [piece for piece, _ in pieces])
    check_window(config, window)
    progress = ui.track(pieces, "reading files" if in_files else "reading clips", len(pieces))
    cut = cut_files if in_files else cut_clips
    points = write_windows(out / "samples.npy", window, cut(progress, ordered, rate, window))
    described = {
        "task": settings.task, "tokens": settings.tokens,
        "sample_rate": rate, "window_samples": window, "labels": list(labels),
        "label_column": settings.label, "group_column": dataset.group_column, "left_out": bad,
        "digest": digest, "source": str(data),
        "rows": [_row(clip, name) for name in SPLITS for clip in parts[name]],
        "points": points, "unit": "stretches" if in_files else "clips",
    }  # fmt: skip
    (out / "clips.json").write_text(json.dumps(described, ensure_ascii=False), "utf-8")
    counts = ", ".join(f"{name} {len(parts[name])}" for name in SPLITS)
    found = f"stretches of {len(pieces)} files" if in_files else f"clips ({counts})"
    ui.say(f"  {len(ordered)} {found}, {len(labels)} labels, "
           f"windows of {window / rate:g} s at {rate} Hz")  # fmt: skip


def _parts(dataset: Dataset, settings: Clips, in_files: bool) -> dict[str, tuple[Clip, ...]]:
    if in_files:  # nothing is trained on stretches, so there is nothing to keep apart
        return {"train": (), "valid": dataset.clips, "test": ()}
    return split_clips(
        dataset, settings.split_seed, settings.fractions, settings.test_fold or None
    )  # fmt: skip


def known_tokens(dataset: Dataset, trained: Sequence[Clip], ui: Ui) -> tuple[str, ...]:
    """Return the vocabulary of the training clips' transcripts, and say what it lacks."""
    labels = vocabulary([clip.label for clip in trained], dataset.tokens)
    if unheard := sorted(set(dataset.labels) - set(labels)):
        ui.say(f"  note: {len(unheard)} tokens stand in no training clip and count as errors: "
               + " ".join(unheard[:8]))  # fmt: skip
    return labels


def fitting(
    parts: Mapping[str, tuple[Clip, ...]], settings: Clips, rate: int, ui: Ui
) -> tuple[dict[str, tuple[Clip, ...]], list[str]]:
    """Leave out transcribed clips that are longer than the window: a transcript cannot be cut.

    Returns
    -------
    parts : dict
        Split to its clips.
    long : list of str
        One sentence for each clip left out.

    Raises
    ------
    EdgepruneError
        They are more than 1 % of the clips.

    """
    if not settings.window_seconds:
        return dict(parts), []
    ordered = [clip for name in SPLITS for clip in parts[name]]
    window = round(settings.window_seconds * rate)
    seconds = {id(c): seconds_of(c.path, c.start_seconds, c.end_seconds) for c in ordered}
    fits = {key: math.floor(length * rate + 0.5) <= window for key, length in seconds.items()}
    long = [f"{clip.path} lasts {seconds[id(clip)]:.2f} s, longer than the window"
            for clip in ordered if not fits[id(clip)]]  # fmt: skip
    if len(long) > MOST_BAD * len(ordered):
        raise EdgepruneError(
            f"{len(long)} of {len(ordered)} transcribed clips are longer than the window, "
            f"{settings.window_seconds:g} s, more than {100 * MOST_BAD:g} %; the longest lasts "
            f"{max(seconds.values()):.2f} s.",
            "Leave --window out (the longest clip's length is taken), or cut the clips.",
        )
    for line in long:
        ui.say(f"left out: {line}")
    kept = {part: tuple(c for c in clips if fits[id(c)]) for part, clips in parts.items()}
    if empty := [part for part, clips in kept.items() if not clips]:
        raise EdgepruneError(f"No clip of the {empty[0]} split fits the window.", "Widen --window.")
    return kept, long


def _row(clip: Clip, split: str) -> dict[str, Any]:
    return {"path": str(clip.path), "label": clip.label, "split": split,
            "group": clip.group or "", "columns": dict(clip.columns),
            "start": clip.start_seconds, "end": clip.end_seconds}  # fmt: skip


def load_windows(folder: Path) -> Windows:
    """Load what the ``clips`` stage wrote; samples are mapped, not read."""
    described = json.loads((folder / "clips.json").read_text("utf-8"))
    table = np.array(described["points"], dtype=np.int64).reshape(-1, 4)
    return Windows(
        samples=np.load(folder / "samples.npy", mmap_mode="r", allow_pickle=False),
        sound=table[:, 1:3], clip=table[:, 0], window=table[:, 3], rows=tuple(described["rows"]),
        labels=tuple(described["labels"]), sample_rate=described["sample_rate"],
        task=described["task"], tokens=described["tokens"],
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
