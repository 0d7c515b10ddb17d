"""Repairs a journal when it is opened: a malformed or missing database, an unclean exit.

    malformed  -> renamed; a new database is created and filled from detections.jsonl
    missing    -> the same, if there are lines
    unclean    -> a session without an end whose recorder is dead is marked, with an event

Nothing is deleted: a file with unreadable lines is kept under a dated name, too.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from typing import Any

from edgeprune_device.errors import EdgepruneError
from edgeprune_device.journal.jsonl import KEYS, LINES
from edgeprune_device.journal.schema import DATABASE, is_intact, open_database, rename_malformed
from edgeprune_device.stream import Notice

SOURCE = "unknown (its entry was lost)"
ADOPT = (f"INSERT INTO detections ({', '.join(KEYS)}, session) VALUES "
         f"({', '.join('?' * len(KEYS))}, ?) ON CONFLICT DO NOTHING")  # fmt: skip
STAND_IN = ("INSERT INTO sessions (id, started_utc, bundle, bundle_digest, source, clean) "
            "VALUES (?, '', '', '', ?, 0) ON CONFLICT DO NOTHING")  # fmt: skip


def open_intact(
    folder: Path, now: datetime, busy: Collection[str]
) -> tuple[sqlite3.Connection, list[Notice]]:
    """Open a folder's database; a malformed one is renamed and replaced by a new one.

    Parameters
    ----------
    folder : Path
        Folder of the journal; exists.
    now : datetime
        Current time, UTC.
    busy : collection of str
        Spools of recorders that have the journal open: a database in use must not be renamed.

    Returns
    -------
    database : sqlite3.Connection
    notices : list of Notice
        What was repaired.

    Raises
    ------
    EdgepruneError
        The database is malformed while another recorder has it open, or is of a later version.
    OSError, sqlite3.Error
        The database cannot be opened or written.

    """
    notices = []
    if not is_intact(folder / DATABASE):
        if busy:
            raise EdgepruneError(
                f"The database in {folder} is malformed and in use by another recorder.",
                "Stop the other recorder and start this one again.",
            )
        kept = rename_malformed(folder / DATABASE, now)
        text = f"The database was malformed; it is kept as {kept.name}, and a new one was created."
        notices.append(Notice("journal-malformed", text, {"kept": kept.name}))
    database = open_database(folder / DATABASE)
    try:
        notices += _fill(database, folder, now)
    except BaseException:
        database.close()
        raise
    return database, notices


def _fill(database: sqlite3.Connection, folder: Path, now: datetime) -> list[Notice]:
    """Copy the lines into a database without sessions."""
    path = folder / LINES
    empty = database.execute("SELECT 1 FROM sessions LIMIT 1").fetchone() is None
    if not empty or not path.exists() or not path.stat().st_size:
        return []
    taken = bad = 0
    database.execute("BEGIN IMMEDIATE")
    try:
        session = database.execute(STAND_IN, (None, SOURCE)).lastrowid
        with path.open("rb") as file:
            for line in file:
                row = _row_of(line)
                if row is None:
                    bad += 1
                else:
                    taken += database.execute(ADOPT, (*row, session)).rowcount
        kept = path.with_name(f"{path.stem}-malformed-{now:%Y%m%dT%H%M%S%f}Z{path.suffix}")
        if bad:
            path.rename(kept)
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
    text = f"{taken} detections were copied from {LINES} into a new database."
    if bad:
        text += f" {bad} lines could not be read; the file is kept as {kept.name}."
    return [Notice("journal-rebuilt", text, {"detections": taken, "unreadable": bad})]


def _row_of(line: bytes) -> tuple[Any, ...] | None:
    """Return a line's columns; None if it is not a detection."""
    try:
        row = json.loads(line)
        found = tuple(row.get(key) for key in KEYS)
    except (ValueError, AttributeError):
        return None
    return None if any(value is None for value in found[:5]) else found


def mark_unclean(database: sqlite3.Connection, session: int, busy: Collection[str]) -> list[Notice]:
    """Mark the sessions that were not stopped properly, and report when each was last alive."""
    rows = database.execute(
        "SELECT id, started_utc, coalesce(last_alive, (SELECT max(utc) FROM detections WHERE "
        "session = sessions.id)), spool FROM sessions WHERE clean IS NULL AND id <> ?", (session,)
    ).fetchall()  # fmt: skip
    notices = []
    for number, started, alive, spool in rows:
        if spool in busy:
            continue
        database.execute("UPDATE sessions SET clean = 0 WHERE id = ?", (number,))
        last = f"its last sign of life was at {alive}" if alive else "it left no sign of life"
        text = f"Session {number}, started at {started}, was not stopped properly; {last}."
        notices.append(Notice("unclean-exit", text, {"session": number, "last_alive": alive}))
    return notices
