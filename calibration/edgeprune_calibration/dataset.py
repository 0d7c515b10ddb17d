"""Labelled clips as a data set: checked as a whole, grouped, and decoded.

See ``manifest`` for the columns of a row.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune_calibration.labels import LABEL_FORMATS, LabelFormat
from edgeprune_calibration.manifest import Clip, clips_of_folders, clips_of_manifest
from edgeprune_device.audio.sound_files import file_digest, read_clip, seconds_of
from edgeprune_device.errors import EdgepruneError

USUAL_GROUPS = ("speaker", "individual", "recording", "site", "group")
MOST_BAD = 0.01  # largest share of clips that may be left out
NO_GROUP = "none"
Track = Callable[[Iterable[Any], str, int], Iterator[Any]]
"""Yields items and shows progress: (items, description, total)."""


def untracked(items: Iterable[Any], _label: str, _total: int) -> Iterator[Any]:
    """Yield the items without showing progress."""
    return iter(items)


@dataclass(frozen=True)
class Dataset:
    """Clips with one label column."""

    source: Path
    clips: tuple[Clip, ...]
    label_column: str
    group_column: str
    """Group column; empty if the clips have no groups."""
    task: str = "classes"
    """Task of the label column, a row of ``labels.LABEL_FORMATS``."""
    tokens: str = "characters"
    """Tokens of a transcript: ``characters`` or ``words``."""

    @property
    def labelling(self) -> LabelFormat:
        """How the label cells are read."""
        return LABEL_FORMATS[self.task]

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, sorted: classes, tags, or the tokens of the transcripts."""
        read = self.labelling.labels_of
        return tuple(sorted({x for clip in self.clips for x in read(clip.label, self.tokens)}))

    @property
    def crossing(self) -> tuple[str, ...]:
        """Columns that look like a group and have values in more than one given split."""
        return tuple(
            name for name in USUAL_GROUPS
            if name not in (self.group_column, self.label_column)
            and all(clip.columns.get(name) for clip in self.clips) and _crossing(self.clips, name)
        )  # fmt: skip

    def digest(self, track: Track = untracked) -> str:
        """SHA-256 over all rows and the content of all files, independent of the folder's path."""
        total = hashlib.sha256()
        files = list(dict.fromkeys(clip.path for clip in self.clips))
        contents = {path: _content(path) for path in track(files, "checking files", len(files))}
        base = self.source if self.source.is_dir() else self.source.parent
        for clip in self.clips:
            row = [clip.path.relative_to(base).as_posix() if clip.path.is_relative_to(base)
                   else clip.path.as_posix(), clip.label, clip.group, clip.split,
                   clip.start_seconds, clip.end_seconds, contents[clip.path],
                   dict(clip.columns)]  # fmt: skip
            total.update(json.dumps(row, sort_keys=True).encode())
        return total.hexdigest()


def read_data(
    source: Path, label: str = "label", group: str | None = None, *, segments: bool = False,
    task: str = "classes", tokens: str = "characters",
) -> Dataset:  # fmt: skip
    """Read a data set's rows; of the sound files, at most the headers.

    Parameters
    ----------
    source : Path
        Folder of class folders, or manifest.
    label : str
        Label column.
    group : str or None
        Column whose values must not be in two splits. None: the first usual one (speaker,
        individual, recording, site) that has no empty cell and fits the given splits; ``none``: no
        groups.
    segments : bool
        Whether rows are segments that are scored only, so that one segment per label suffices.
    task : str
        Task of the label column: ``classes``, ``tags`` or ``ctc``, see ``labels``.
    tokens : str
        Tokens of a transcript: ``characters`` or ``words``.

    Raises
    ------
    EdgepruneError
        There is no such data or column, an entry is invalid, a label has a single clip, or a group
        is in two splits.

    """
    if not source.exists():
        raise EdgepruneError(f"There is no data at {source}.")
    if source.is_dir():
        clips = clips_of_folders(source, label)
    else:
        clips = clips_of_manifest(source, label, may_be_empty=LABEL_FORMATS[task].may_be_empty)
    if not clips:
        raise EdgepruneError(f"{source} has no clips.")
    _check_labels(Dataset(source, tuple(clips), label, "", task, tokens), 1 if segments else 2)
    _check_splits(source, clips)
    chosen = _choose_group(source, clips, label, group)
    if chosen:
        clips = [dataclasses.replace(clip, group=clip.columns[chosen]) for clip in clips]
    return Dataset(source.resolve(), tuple(clips), label, chosen, task, tokens)


def check_audio(
    dataset: Dataset, track: Track = untracked, most_bad: float = MOST_BAD, *,
    whole_files: bool = False,
) -> tuple[Dataset, list[str]]:  # fmt: skip
    """Decode every clip once and leave out those that cannot be read.

    Parameters
    ----------
    dataset : Dataset
        The clips.
    track : callable
        Shows progress.
    most_bad : float
        Largest share of the clips that may be left out.
    whole_files : bool
        Whether clips are segments in the context of their files: each file is then decoded once,
        whole, and must contain its clips.

    Returns
    -------
    dataset : Dataset
        The readable clips.
    bad : list of str
        One sentence for each clip left out.

    Raises
    ------
    EdgepruneError
        More than ``most_bad`` of the clips are left out, or a label then has a single clip.

    """
    good, bad = [], []
    fault = functools.cache(_fault)  # files that several rows share are decoded once
    for clip in track(dataset.clips, "checking clips", len(dataset.clips)):
        part = (clip.start_seconds, clip.end_seconds)
        if whole_files:
            found = fault(read_clip, clip.path, None) or fault(seconds_of, clip.path, *part)
        else:
            found = fault(read_clip, clip.path, None, *part)
        if found:
            bad.append(found)
        else:
            good.append(clip)
    if len(bad) > most_bad * len(dataset.clips):
        raise EdgepruneError(
            f"{len(bad)} of {len(dataset.clips)} clips of {dataset.source} cannot be used "
            f"(allowed: at most {100 * most_bad:g} %); the first: {bad[0]}",
            "Repair them or remove them from the data.",
        )
    left = dataclasses.replace(dataset, clips=tuple(good))
    _check_labels(left, 1 if whole_files else 2)
    return left, bad


def _fault(read: Callable[..., Any], *where: Any) -> str:
    """Return the error of a clip or a file as a sentence; empty if it can be read."""
    try:
        read(*where)
    except EdgepruneError as error:
        return str(error)
    return ""


def _content(path: Path) -> str:
    """Return a file's SHA-256; that of no bytes if it cannot be read, see ``check_audio``."""
    try:
        return file_digest(path)
    except OSError:
        return hashlib.sha256().hexdigest()


def _check_labels(dataset: Dataset, least: int) -> None:
    """Raise if there are too few labels, or too few clips of one.

    Not applied to the tokens of transcripts.
    """
    source, read = dataset.source, dataset.labelling
    counts = Counter(
        label for clip in dataset.clips for label in {*read.labels_of(clip.label, dataset.tokens)}
    )
    if len(counts) < read.least_labels:
        found = f"has the single label {next(iter(counts))!r}" if counts else "has no label"
        raise EdgepruneError(
            f"{source} {found} in column {dataset.label_column!r}.",
            f"At least {'two are' if read.least_labels == 2 else 'one is'} needed.",
        )
    if dataset.task == "ctc":
        return
    if single := sorted(label for label, count in counts.items() if count < least):
        others = ", and so have other labels: " + ", ".join(map(repr, single[1:6])) + "."
        raise EdgepruneError(
            f"The label {single[0]!r} of {source} has a single clip"
            + (others if len(single) > 1 else "."),
            "Add clips, or remove the label.",
        )


def _check_splits(source: Path, clips: list[Clip]) -> None:
    without = sum(clip.split is None for clip in clips)
    if 0 < without < len(clips):
        raise EdgepruneError(
            f"{without} of {len(clips)} rows of {source} have no split.",
            "Fill the column, or remove it to have the clips split automatically.",
        )
    folded = sum((clip.split or "").startswith("fold") for clip in clips)
    if 0 < folded < len(clips):
        raise EdgepruneError(f"{source} mixes folds with train, valid and test.")


def _choose_group(source: Path, clips: list[Clip], label: str, group: str | None) -> str:
    if group == NO_GROUP:
        return ""
    if group is None:
        for name in USUAL_GROUPS:
            full = all(clip.columns.get(name) for clip in clips)
            if name != label and full and not _crossing(clips, name):
                return name
        return ""
    if group not in clips[0].columns:
        raise EdgepruneError(
            f"{source} has no group column {group!r}.",
            f"Its columns: {', '.join(clips[0].columns)}.",
        )
    if empty := sum(not clip.columns[group] for clip in clips):
        raise EdgepruneError(f"{empty} of {len(clips)} rows of {source} have no {group}.")
    if crossing := _crossing(clips, group):
        name, splits = crossing
        raise EdgepruneError(
            f"The {group} {name!r} of {source} is in two splits: {' and '.join(splits[:2])}.",
            "Correct the split column, or remove it to have the groups split automatically.",
        )
    return group


def _crossing(clips: Sequence[Clip], column: str) -> tuple[str, list[str]] | None:
    """Return the first group that is in more than one split, and its splits."""
    splits: dict[str, set[str]] = {}
    for clip in clips:
        splits.setdefault(clip.columns[column], set()).add(clip.split or "")
    return next(((g, sorted(s)) for g, s in sorted(splits.items()) if len(s) > 1), None)
