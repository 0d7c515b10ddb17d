"""Exports the detections of a journal as a CSV or JSON-lines file.

A cell that a spreadsheet would take for a formula gets an apostrophe in front, because labels come
from the author of the bundle. The file is written atomically.
"""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from edgeprune_device.errors import EdgepruneError
from edgeprune_device.journal.schema import DATABASE, VERSION
from edgeprune_device.system.files import written_whole

COLUMNS = ("id", "session", "source", "bundle", "utc", "clock", "offset_bound_seconds", "throttled",
           "start_seconds", "end_seconds", "first_sample", "last_sample", "label",
           "score")  # fmt: skip
OLD = ("clock", "offset_bound_seconds", "throttled", "first_sample", "last_sample")
"""Columns that the first version of the journal did not have."""
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")


@dataclass(frozen=True)
class DetectionFilter:
    """Filter of detections."""

    labels: tuple[str, ...] = ()
    """Only these labels; empty: all."""
    since: datetime | None = None
    """From this time on; detections of files, which have no time, are then left out."""
    until: datetime | None = None
    """Before this time."""
    least_score: float = 0.0


def export(journal: Path, out: Path, wanted: DetectionFilter) -> int:
    """Write the detections of a journal folder to a file; return how many.

    Parameters
    ----------
    journal : Path
        Folder of the journal; a recorder may be writing to it.
    out : Path
        File ending in ``.csv`` or ``.jsonl``.
    wanted : DetectionFilter
        Which detections.

    Returns
    -------
    int
        Number of detections written.

    Raises
    ------
    EdgepruneError
        There is no journal, the file has another ending, or its folder does not exist.

    """
    if out.suffix not in WRITERS:
        raise EdgepruneError(f"{out} is neither .csv nor .jsonl.", "Name a .csv or .jsonl file.")
    if not out.parent.is_dir():
        raise EdgepruneError(f"There is no folder {out.parent}.")
    with (
        reading(journal) as database,
        written_whole(out, sync=True) as partial,
        partial.open("w", encoding="utf-8", newline="") as file,
    ):
        return WRITERS[out.suffix](file, _rows(database, wanted))


@contextmanager
def reading(journal: Path) -> Iterator[sqlite3.Connection]:
    """Open a journal folder's database for reading, while a recorder may write to it.

    Raises
    ------
    EdgepruneError
        There is no journal, or it cannot be read.

    """
    file = journal / DATABASE
    if not file.is_file():
        raise EdgepruneError(
            f"There is no journal in {journal}.", "Name the folder that edgeprune listen wrote to."
        )
    try:
        address = f"file:{quote(str(file.absolute()))}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=10)) as database:
            database.row_factory = sqlite3.Row
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise EdgepruneError(f"{file} was written by a later version of edgeprune.")
            yield database
    except sqlite3.Error as error:
        raise EdgepruneError(
            f"{file} cannot be read: {error}.",
            "If it is on an SD card mounted read-only, copy the folder to a disk first.",
        ) from error


def moment(text: str, name: str) -> datetime | None:
    """Parse a date or time in ISO 8601 to UTC; UTC if it has no time zone. Empty gives None.

    Raises
    ------
    EdgepruneError
        The text is neither a date nor a time.

    """
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise EdgepruneError(
            f"{name} {text!r} is not a date or time.", "Write 2026-05-01 or 2026-05-01T04:30."
        ) from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def safe_cell(value: Any) -> Any:
    """Return a value safe for spreadsheets: text that looks like a formula gets an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _rows(database: sqlite3.Connection, wanted: DetectionFilter) -> Iterator[dict[str, Any]]:
    has = {row[1] for row in database.execute("PRAGMA table_info(detections)")}
    columns = ", ".join(
        f"sessions.{name}" if name in ("source", "bundle")
        else f"NULL AS {name}" if name in OLD and name not in has
        else f"detections.{name}" for name in COLUMNS
    )  # fmt: skip
    rules, values = ["score >= ?"], [wanted.least_score]  # type: list[str], list[Any]
    if wanted.labels:
        rules.append(f"label IN ({', '.join('?' * len(wanted.labels))})")
        values += wanted.labels
    for rule, time in (("utc >= ?", wanted.since), ("utc < ?", wanted.until)):
        if time is not None:
            rules.append(rule)
            values.append(time.isoformat(timespec="milliseconds"))
    found = database.execute(
        f"SELECT {columns} FROM detections JOIN sessions ON sessions.id = detections.session "
        f"WHERE {' AND '.join(rules)} ORDER BY detections.rowid", values,
    )  # fmt: skip
    for row in found:
        yield dict(row)


def _write_csv(file: io.TextIOBase, rows: Iterator[Mapping[str, Any]]) -> int:
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    number = 0
    for row in rows:
        writer.writerow([safe_cell(row[name]) for name in COLUMNS])
        number += 1
    return number


def _write_lines(file: io.TextIOBase, rows: Iterator[Mapping[str, Any]]) -> int:
    number = 0
    for row in rows:
        shown = {key: value for key, value in row.items() if value is not None}
        file.write(json.dumps(shown, ensure_ascii=False) + "\n")
        number += 1
    return number


WRITERS: Mapping[str, Callable[[Any, Iterator[Mapping[str, Any]]], int]] = {
    ".csv": _write_csv, ".jsonl": _write_lines,
}  # fmt: skip
