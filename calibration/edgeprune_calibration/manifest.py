"""Labelled clips: a folder of class folders, or a CSV/TSV manifest, read and checked.

Columns: ``path`` (relative to the manifest), ``label``, and if wanted a group (``speaker``,
``individual``, ``recording``, ``site``), ``split`` (train, valid, test, or foldN), ``start`` and
``end`` in seconds. Any other column can be the labelling or a second one to score by.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeprune_device.errors import EdgepruneError
from edgeprune_device.sound import file_digest, read_clip

SOUND_SUFFIXES = frozenset(
    (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64", ".rf64")
)
DELIMITERS = {".csv": ",", ".tsv": "\t"}
USUAL_GROUPS = ("speaker", "individual", "recording", "site", "group")
SPLIT_NAMES = {"train": "train", "training": "train", "valid": "valid", "validation": "valid",
               "val": "valid", "dev": "valid", "test": "test", "testing": "test"}  # fmt: skip
FOLD = re.compile(r"fold[0-9]+")
MOST_BAD = 0.01  # share of clips that may be left out
NO_GROUP = "none"
Track = Callable[[Iterable[Any], str, int], Iterator[Any]]
"""Passes items on and shows progress: (items, what is done, how many)."""


def untracked(items: Iterable[Any], _label: str, _total: int) -> Iterator[Any]:
    """Pass items on, showing nothing."""
    return iter(items)


@dataclass(frozen=True)
class Clip:
    """One labelled piece of sound."""

    path: Path
    label: str
    group: str | None = None
    """Speaker, individual, recording or site; None where the data names none."""
    split: str | None = None
    """``train``, ``valid``, ``test`` or ``foldN``; None where the data gives none."""
    start_seconds: float | None = None
    end_seconds: float | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    """Every column of the manifest as it stands."""


@dataclass(frozen=True)
class Dataset:
    """Clips under one labelling."""

    source: Path
    clips: tuple[Clip, ...]
    label_column: str
    group_column: str
    """Empty where the clips have no group."""

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, sorted."""
        return tuple(sorted({clip.label for clip in self.clips}))

    @property
    def crossing(self) -> tuple[str, ...]:
        """Columns that look like a group and stand in more than one of the splits given."""
        return tuple(
            name for name in USUAL_GROUPS
            if name not in (self.group_column, self.label_column)
            and all(clip.columns.get(name) for clip in self.clips) and _crossing(self.clips, name)
        )  # fmt: skip

    def digest(self, track: Track = untracked) -> str:
        """SHA-256 over every row and every file's content; the folder's place does not count."""
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


def read_data(source: Path, label: str = "label", group: str | None = None) -> Dataset:
    """Read a data set's rows; the sound itself is not opened.

    Parameters
    ----------
    source : Path
        A folder of class folders, or a manifest.
    label : str
        The column with the classes.
    group : str or None
        The column that must not stand in two splits. None: the first usual one (speaker,
        individual, recording, site) that is filled and keeps to the splits given; ``none``: none.

    Raises
    ------
    EdgepruneError
        No such data, no such column, an entry that makes no sense, a label with a single clip, a
        group in two splits.

    """
    if not source.exists():
        raise EdgepruneError(f"There is no data at {source}.")
    clips = _from_folders(source, label) if source.is_dir() else _from_manifest(source, label)
    if not clips:
        raise EdgepruneError(f"{source} names no clip.")
    _check_labels(source, clips, label)
    _check_splits(source, clips)
    chosen = _choose_group(source, clips, label, group)
    if chosen:
        clips = [dataclasses.replace(clip, group=clip.columns[chosen]) for clip in clips]
    return Dataset(source.resolve(), tuple(clips), label, chosen)


def check_audio(
    dataset: Dataset, track: Track = untracked, most_bad: float = MOST_BAD
) -> tuple[Dataset, list[str]]:
    """Decode every clip once and leave out those that cannot be read.

    Parameters
    ----------
    dataset : Dataset
    track : callable
        Shows progress.
    most_bad : float
        Share of the clips that may be left out.

    Returns
    -------
    dataset : Dataset
        With the readable clips.
    bad : list of str
        One sentence for each clip left out.

    Raises
    ------
    EdgepruneError
        More than ``most_bad`` of the clips are left out, or a label then has a single clip.

    """
    good, bad = [], []
    for clip in track(dataset.clips, "checking clips", len(dataset.clips)):
        try:
            read_clip(clip.path, None, clip.start_seconds, clip.end_seconds)
        except EdgepruneError as error:
            bad.append(str(error))
        else:
            good.append(clip)
    if len(bad) > most_bad * len(dataset.clips):
        raise EdgepruneError(
            f"{len(bad)} of {len(dataset.clips)} clips of {dataset.source} cannot be used, more "
            f"than {100 * most_bad:g} %; the first: {bad[0]}",
            "Repair them or take them out of the data.",
        )
    _check_labels(dataset.source, good, dataset.label_column)
    return dataclasses.replace(dataset, clips=tuple(good)), bad


def _content(path: Path) -> str:
    """Return a file's SHA-256; that of nothing if it cannot be read (``check_audio`` names it)."""
    try:
        return file_digest(path)
    except OSError:
        return hashlib.sha256().hexdigest()


def _from_folders(source: Path, label: str) -> list[Clip]:
    if label != "label":
        raise EdgepruneError(
            f"{source} is a folder of class folders; it has no column {label!r}.",
            "Write a manifest (CSV with path, label and other columns) and name that.",
        )
    clips = [
        Clip(path.resolve(), folder.name, columns={"label": folder.name})
        for folder in sorted(p for p in source.iterdir() if p.is_dir() and p.name[0] != ".")
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SOUND_SUFFIXES and path.name[0] != "."
    ]
    if not clips:
        raise EdgepruneError(
            f"{source} holds no class folders with sound files.",
            "Expected: FOLDER/<label>/<clip>.wav, or name a manifest (labels.csv).",
        )
    return clips


def _from_manifest(source: Path, label: str) -> list[Clip]:
    delimiter = DELIMITERS.get(source.suffix.lower())
    if delimiter is None:
        raise EdgepruneError(
            f"{source} is neither a folder nor a manifest in CSV or TSV.",
            "A manifest's name ends in .csv or .tsv.",
        )
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=delimiter, strict=True)
            names = list(reader.fieldnames or [])
            _check_columns(source, names, label)
            return [_row(source, row, label, reader.line_num) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EdgepruneError(f"The manifest {source} cannot be read: {error}.") from None


def _check_columns(source: Path, names: list[str], label: str) -> None:
    for name, hint in (("path", "One row a clip: path,label,..."), (label, "Choose one: --label")):
        if name not in names:
            raise EdgepruneError(
                f"The manifest {source} has no column {name!r}.",
                f"It has: {', '.join(names) or 'no column at all'}. {hint}",
            )


def _row(source: Path, row: dict[str | None, str | None], label: str, line: int) -> Clip:
    columns = {key: value.strip() for key, value in row.items() if key and value is not None}
    if None in row or None in row.values():
        raise EdgepruneError(f"Line {line} of {source} has another number of columns than line 1.")
    for name in ("path", label):
        if not columns[name]:
            raise EdgepruneError(f"Line {line} of {source} has no {name}.")
    start, end = (_seconds(columns.get(name, ""), name, source, line) for name in ("start", "end"))
    if start is not None and end is not None and end <= start:
        raise EdgepruneError(f"Line {line} of {source} ends ({end:g} s) before it starts.")
    split = columns.get("split", "").lower()
    if split and split not in SPLIT_NAMES and not FOLD.fullmatch(split):
        raise EdgepruneError(
            f"Line {line} of {source} has the split {columns['split']!r}.",
            "Known: train, valid, test, or fold1, fold2, ...",
        )
    kept = {k: v for k, v in columns.items() if k not in ("path", "split", "start", "end")}
    return Clip((source.parent / columns["path"]).resolve(), columns[label], None,
                SPLIT_NAMES.get(split, split) or None, start, end, kept)  # fmt: skip


def _seconds(text: str, name: str, source: Path, line: int) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise EdgepruneError(f"Line {line} of {source} has the {name} {text!r}, not seconds.")
    return value


def _check_labels(source: Path, clips: list[Clip], column: str) -> None:
    counts = Counter(clip.label for clip in clips)
    if len(counts) < 2:
        raise EdgepruneError(
            f"{source} has the single label {next(iter(counts))!r} in column {column!r}.",
            "At least two are needed.",
        )
    if single := sorted(label for label, count in counts.items() if count == 1):
        others = ", and so have others: " + ", ".join(map(repr, single[1:6])) + "."
        raise EdgepruneError(
            f"The label {single[0]!r} of {source} has a single clip"
            + (others if len(single) > 1 else "."),
            "Add clips, or leave the label out.",
        )


def _check_splits(source: Path, clips: list[Clip]) -> None:
    without = sum(clip.split is None for clip in clips)
    if 0 < without < len(clips):
        raise EdgepruneError(
            f"{without} of {len(clips)} rows of {source} have no split.",
            "Fill the column, or leave it out and a split is made.",
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
            f"{source} has no column {group!r} to group by.",
            f"It has: {', '.join(clips[0].columns)}.",
        )
    if empty := sum(not clip.columns[group] for clip in clips):
        raise EdgepruneError(f"{empty} of {len(clips)} rows of {source} have no {group}.")
    if crossing := _crossing(clips, group):
        name, splits = crossing
        raise EdgepruneError(
            f"The {group} {name!r} of {source} stands in two splits: {' and '.join(splits[:2])}.",
            "Correct the split column, or leave it out and a grouped split is made.",
        )
    return group


def _crossing(clips: Sequence[Clip], column: str) -> tuple[str, list[str]] | None:
    """Return the first group that stands in more than one split, and which."""
    splits: dict[str, set[str]] = {}
    for clip in clips:
        splits.setdefault(clip.columns[column], set()).add(clip.split or "")
    return next(((g, sorted(s)) for g, s in sorted(splits.items()) if len(s) > 1), None)
