"""Reading labelled clips from a folder of class folders or a CSV/TSV manifest, with checks.

Columns: ``path`` (relative to the manifest), ``label`` (see ``labels``), and optionally a group
(``speaker``, ``individual``, ``recording``, ``site``), ``split`` (train, valid, test, or fold1,
fold2, ...), ``start`` and ``end`` in seconds, or ``start_sample`` and ``end_sample`` at the file's
own rate. Any other column can be used as label column, or as an additional one to score by.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgeprune_device.audio.sound_files import rate_of
from edgeprune_device.errors import EdgepruneError

SOUND_SUFFIXES = frozenset(
    (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64", ".rf64")
)
DELIMITERS = {".csv": ",", ".tsv": "\t"}
SPLIT_NAMES = {"train": "train", "training": "train", "valid": "valid", "validation": "valid",
               "val": "valid", "dev": "valid", "test": "test", "testing": "test"}  # fmt: skip
FOLD = re.compile(r"fold[0-9]+")
IN_SECONDS = ("start", "end")
IN_SAMPLES = ("start_sample", "end_sample")
NOT_KEPT = {"path", "split", *IN_SECONDS, *IN_SAMPLES}  # of a row's columns


@dataclass(frozen=True)
class Clip:
    """One labelled segment of sound."""

    path: Path
    label: str
    """Content of the label cell: a class, tags, or a transcript."""
    group: str | None = None
    """Speaker, individual, recording or site; None if the data has no groups."""
    split: str | None = None
    """``train``, ``valid``, ``test``, ``fold1``, ``fold2``, ...; None if the data has no splits."""
    start_seconds: float | None = None
    end_seconds: float | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    """All other columns of the manifest."""


def clips_of_folders(source: Path, label: str) -> list[Clip]:
    """Return a clip for each sound file in the class folders of a folder.

    Raises
    ------
    EdgepruneError
        Another label column than the folders was requested, or there are no sound files.

    """
    if label != "label":
        raise EdgepruneError(
            f"{source} is a folder of class folders; it has no column {label!r}.",
            "Write a manifest (CSV with path, label and other columns) and use that.",
        )
    clips = [
        Clip(path.resolve(), folder.name, columns={"label": folder.name})
        for folder in sorted(p for p in source.iterdir() if p.is_dir() and p.name[0] != ".")
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SOUND_SUFFIXES and path.name[0] != "."
    ]
    if not clips:
        raise EdgepruneError(
            f"{source} has no class folders with sound files.",
            "Expected: FOLDER/<label>/<clip>.wav; or use a manifest (labels.csv).",
        )
    return clips


def clips_of_manifest(source: Path, label: str, *, may_be_empty: bool = False) -> list[Clip]:
    """Return a clip for each row; of the sound files, at most the headers are read.

    Parameters
    ----------
    source : Path
        The manifest.
    label : str
        Label column.
    may_be_empty : bool
        Whether a row may have an empty label (no tags).

    Raises
    ------
    EdgepruneError
        The file is not a manifest, has no such column, or has an invalid row (the line is named).

    """
    delimiter = DELIMITERS.get(source.suffix.lower())
    if delimiter is None:
        raise EdgepruneError(
            f"{source} is neither a folder nor a manifest in CSV or TSV.",
            "The name of a manifest ends in .csv or .tsv.",
        )
    rate = functools.cache(_rate)
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=delimiter, strict=True)
            _check_columns(source, list(reader.fieldnames or []), label)
            needed = ("path",) if may_be_empty else ("path", label)
            return [_clip(source, row, label, needed, reader.line_num, rate) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EdgepruneError(f"The manifest {source} cannot be read: {error}.") from None


def _check_columns(source: Path, names: list[str], label: str) -> None:
    for name, hint in (("path", "One row a clip: path,label,..."), (label, "Choose one: --label")):
        if name not in names:
            raise EdgepruneError(
                f"The manifest {source} has no column {name!r}.",
                f"Its columns: {', '.join(names) or 'none'}. {hint}",
            )
    seconds, samples = (sorted({*kind} & {*names}) for kind in (IN_SECONDS, IN_SAMPLES))
    if seconds and samples:
        raise EdgepruneError(
            f"The manifest {source} has times in seconds ({', '.join(seconds)}) and in samples "
            f"({', '.join(samples)}).",
            "Remove one kind.",
        )


def _clip(
    source: Path, row: dict[str | None, str | None], label: str, needed: Sequence[str], line: int,
    rate: Callable[[Path], int | None],
) -> Clip:  # fmt: skip
    columns = {key: value.strip() for key, value in row.items() if key and value is not None}
    where = f"Line {line} of {source}"
    if None in row or None in row.values():
        raise EdgepruneError(f"{where} has another number of columns than line 1.")
    for name in needed:
        if not columns[name]:
            raise EdgepruneError(f"{where} has no {name}.")
    path = (source.parent / columns["path"]).resolve()
    split = columns.get("split", "").lower()
    if split and split not in SPLIT_NAMES and not FOLD.fullmatch(split):
        raise EdgepruneError(
            f"{where} has the split {columns['split']!r}.",
            "Known: train, valid, test, or fold1, fold2, ...",
        )
    start, end = _times(columns, functools.partial(rate, path), where)
    kept = {name: value for name, value in columns.items() if name not in NOT_KEPT}
    return Clip(path, columns[label], None, SPLIT_NAMES.get(split, split) or None, start, end, kept)


def _times(
    columns: dict[str, str], rate: Callable[[], int | None], where: str
) -> tuple[float | None, float | None]:
    """Return a row's start and end in seconds; None where there is none.

    Also None for samples of a file without a readable header, which ``check_audio`` reports.
    """
    in_samples = any(name in columns for name in IN_SAMPLES)
    names, unit = (IN_SAMPLES, "samples") if in_samples else (IN_SECONDS, "seconds")
    start, end = (_number(columns.get(name, ""), name, unit, where) for name in names)
    if start is not None and end is not None and end <= start:
        ends = f"{end:.0f} samples" if in_samples else f"{end:g} s"
        raise EdgepruneError(f"{where} ends ({ends}) before it starts.")
    if in_samples:
        hertz = rate()
        start, end = (n / hertz if n is not None and hertz else None for n in (start, end))
    return start, end


def _number(text: str, name: str, unit: str, where: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf") or (unit == "samples" and not value.is_integer()):
        raise EdgepruneError(f"{where}: {name} = {text!r} is not a number of {unit}.")
    return value


def _rate(path: Path) -> int | None:
    """Return a file's sample rate in Hz, None if its header cannot be read."""
    try:
        return rate_of(path)
    except EdgepruneError:
        return None
