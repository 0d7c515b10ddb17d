"""Lists, locks and deletes the clips of a journal.

Deletion removes the files first, which needs no space and no database, and then their rows; on
request also the rows and lines of the detections, whose bytes in the database are overwritten. What
flash memory keeps of a deleted block is beyond a program: encrypt the SD card if that matters.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from edgeprune_device.clips.clip_files import (
    ClipFile,
    delete_clip,
    find_clips,
    read_tags,
    remove_parts,
    set_lock,
)
from edgeprune_device.errors import FAILED_CHECK, EdgepruneError
from edgeprune_device.system.files import slug

DATABASE, LINES, SPOOLS = "journal.sqlite", "detections.jsonl", "spool*.jsonl"
BUSY_MILLISECONDS = 10_000


@dataclass(frozen=True)
class ClipFilter:
    """What to delete: all given conditions must hold."""

    label: str | None = None
    before: datetime | None = None
    """Only clips and detections before this time."""

    def holds(self, clip: ClipFile) -> bool:
        """Return whether a clip matches."""
        return (self.label is None or clip.label == slug(self.label)) and (
            self.before is None or clip.seconds < self.before.timestamp()
        )


def moment_of(text: str) -> datetime:
    """Parse a date or time in ISO 8601; UTC if it has no time zone.

    Raises
    ------
    EdgepruneError
        The text is not a date.

    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise EdgepruneError(
            f"{text!r} is not a date.", "Write 2026-05-01 or 2026-05-01T18:30."
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def list_clips(journal: Path) -> list[dict[str, Any]]:
    """Return the clips, oldest first, as `id`, `label`, `utc`, `score`, `path`, `locked`, `bytes`.

    What the database does not have, or if it cannot be read, is taken from the clip's tags.

    Raises
    ------
    EdgepruneError
        There is no journal.

    """
    _check(journal)
    known = _detections(journal)
    clips = []
    for found in sorted(find_clips(journal), key=lambda clip: (clip.seconds, clip.path)):
        told = known.get(found.id) or read_tags(journal / found.path)
        clips.append({
            "id": found.id, **{key: told.get(key) for key in ("label", "utc", "score")},
            "path": found.path, "locked": found.locked, "bytes": found.bytes,
        })  # fmt: skip
    return clips


def lock(journal: Path, names: list[str], *, locked: bool) -> list[str]:
    """Lock or unlock the clips of these detections; return their paths.

    Raises
    ------
    EdgepruneError
        One of them has no clip (then nothing is locked), or a lock cannot be written.

    """
    _check(journal)
    wanted = set(names)
    paths = {clip.id: clip.path for clip in find_clips(journal) if clip.id in wanted}
    if missing := sorted(wanted - set(paths)):
        raise EdgepruneError(
            f"There is no clip {missing[0]} in {journal}.", f"edgeprune clips {journal} lists them."
        )
    try:
        for path in paths.values():
            set_lock(journal, path, locked)
    except OSError as error:
        raise EdgepruneError(f"{path} cannot be locked: {error.strerror}.") from error
    return sorted(paths.values())


def to_forget(journal: Path, which: ClipFilter) -> list[ClipFile]:
    """Return the clips that `forget` would delete, including locked ones.

    Raises
    ------
    EdgepruneError
        There is no journal.

    """
    _check(journal)
    return [clip for clip in find_clips(journal) if which.holds(clip)]


def forget(journal: Path, which: ClipFilter, *, rows: bool) -> dict[str, Any]:
    """Delete clips, including locked ones, and with ``rows`` the detections themselves.

    Returns
    -------
    dict
        Number of deleted `clips` and `detections`, and `waiting`: rows in a spool that a recorder
        will still write.

    Raises
    ------
    EdgepruneError
        Something could not be deleted (status 1); everything else is.

    """
    gone, problem = [], ""
    for clip in to_forget(journal, which):
        try:
            delete_clip(journal, clip.path)
            gone.append(clip.path)
        except OSError as error:
            problem = f"{clip.path} cannot be deleted: {error.strerror}"
    if which == ClipFilter():
        remove_parts(journal)
    deleted = 0
    try:
        if (journal / DATABASE).is_file():
            deleted = _forget_rows(journal, which, gone, rows=rows)
    except (OSError, sqlite3.Error) as error:
        problem = f"their rows could not be deleted: {error}"
    if problem:
        raise EdgepruneError(
            f"{len(gone)} clips were deleted; {problem}.", "Run the same command again.",
            FAILED_CHECK,
        )  # fmt: skip
    return {"clips": len(gone), "detections": deleted, "waiting": _waiting(journal) if rows else 0}


def _forget_rows(journal: Path, which: ClipFilter, gone: list[str], *, rows: bool) -> int:
    """Delete the rows of deleted clips, and the detections; return the number of detections."""
    with closing(sqlite3.connect(journal / DATABASE, isolation_level=None)) as database:
        database.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")
        database.execute("PRAGMA secure_delete=ON")
        tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master")}
        deleted = 0
        with _transaction(database):
            if "clips" in tables:
                database.executemany("DELETE FROM clips WHERE path = ?", [(p,) for p in gone])
            if rows:
                conditions, values = ["1"], []
                if which.label is not None:
                    conditions.append("label = ?")
                    values.append(which.label)
                if which.before is not None:
                    conditions.append("julianday(utc) < julianday(?)")
                    values.append(which.before.astimezone(UTC).isoformat())
                deleted = database.execute(
                    f"DELETE FROM detections WHERE {' AND '.join(conditions)}", values
                ).rowcount
                _forget_lines(journal, database, keep_length="meta" in tables)
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return deleted


def _forget_lines(journal: Path, database: sqlite3.Connection, *, keep_length: bool) -> None:
    """Keep the lines whose rows remain; the file stays the same, since a recorder appends to it.

    If it is cut short, the lines are rebuilt from the rows when the journal is opened.
    """
    path = journal / LINES
    if not path.is_file():
        return
    ids = {row[0] for row in database.execute("SELECT id FROM detections")}
    left = b"".join(line for line in path.read_bytes().splitlines(True) if _id_of(line) in ids)
    with path.open("r+b") as file:
        file.write(left)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
    if keep_length:  # length of the file known to the journal
        database.execute("UPDATE meta SET value = ? WHERE key = 'lines_bytes'", (len(left),))


def _id_of(line: bytes) -> str:
    try:
        return str(json.loads(line)["id"])
    except (ValueError, KeyError, TypeError):
        return ""


def _waiting(journal: Path) -> int:
    return sum(len(path.read_bytes().splitlines()) for path in journal.glob(SPOOLS))


def _detections(journal: Path) -> dict[str, dict[str, Any]]:
    if not (journal / DATABASE).is_file():
        return {}
    uri = f"file:{quote(str((journal / DATABASE).resolve()))}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as database:
            rows = database.execute("SELECT id, label, utc, score FROM detections")
            return {name: {"label": label, "utc": utc, "score": score}
                    for name, label, utc, score in rows}  # fmt: skip
    except sqlite3.Error:
        return {}


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _check(journal: Path) -> None:
    if not journal.is_dir():
        raise EdgepruneError(f"There is no journal {journal}.")
