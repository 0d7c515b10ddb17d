"""The detections of the journal that a sink has not sent yet: those after its cursor, in order.

The journal is read through a separate read-only connection. The cursor, the last sent detection, is
kept in ``deliveries.sqlite`` beside it, per sink and target: a message may be sent twice (its id
shows that), and none is left out. A sink without a cursor begins at the end of the journal, not
with months of history.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from edgeprune_device.journal.jsonl import KEYS
from edgeprune_device.journal.schema import (
    DATABASE,
    check_index,
    close_database,
    is_intact,
    rename_malformed,
)

DELIVERIES = "deliveries.sqlite"
BUSY_MILLISECONDS = 5000
CURSORS = """
CREATE TABLE IF NOT EXISTS deliveries (
    sink TEXT NOT NULL, target TEXT NOT NULL, seq INTEGER NOT NULL, id TEXT NOT NULL,
    PRIMARY KEY (sink, target)) WITHOUT ROWID;
"""
KEEP = ("INSERT INTO deliveries VALUES (?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET seq = excluded.seq, id = excluded.id")  # fmt: skip
LAST = "SELECT seq, id FROM detections ORDER BY seq DESC LIMIT 1"


class Outbox:
    """One sink's cursor in a journal; used by one thread at a time.

    Attributes
    ----------
    unkept : str
        Why the cursor on disk is behind; empty if it is not.

    """

    def __init__(self, folder: Path, sink: str, target: str) -> None:
        self._folder, self._owner = folder, (sink, target)
        self._journal: sqlite3.Connection | None = None
        self._cursors: sqlite3.Connection | None = None
        self._seq = 0
        self.unkept = ""

    def begin(self) -> str:
        """Find the cursor; return a sentence if there was a problem, otherwise empty.

        Raises
        ------
        OSError, sqlite3.Error
            The journal or the cursors cannot be read now.

        """
        self.close()
        for name in (DATABASE, DELIVERIES):
            check_index(self._folder / name)
        self._journal = _read_only(self._folder / DATABASE)
        self._cursors = sqlite3.connect(
            self._folder / DELIVERIES, isolation_level=None, check_same_thread=False
        )
        for setting in (f"busy_timeout={BUSY_MILLISECONDS}", "journal_mode=WAL",
                        "synchronous=NORMAL"):  # fmt: skip
            self._cursors.execute(f"PRAGMA {setting}")
        self._cursors.executescript(CURSORS)
        kept = self._cursors.execute(
            "SELECT seq, id FROM deliveries WHERE sink = ? AND target = ?", self._owner
        ).fetchone()
        last = self._journal.execute(LAST).fetchone() or (0, "")
        seq, trouble = _place(self._journal, kept, last)
        self._seq = seq
        if kept is None or trouble:
            self._cursors.execute(KEEP, (*self._owner, *last))
        return trouble

    def waiting(self) -> int:
        """Return the number of waiting detections."""
        return int(self._read("SELECT count(*) FROM detections WHERE seq > ?", self._seq)[0][0])

    def next(self, number: int) -> list[tuple[int, dict[str, Any]]]:
        """Return the oldest waiting detections as (seq, columns), as in their lines."""
        rows = self._read(
            f"SELECT seq, {', '.join(KEYS)} FROM detections WHERE seq > ? ORDER BY seq LIMIT ?",
            self._seq, number,
        )  # fmt: skip
        return [
            (row[0], {k: v for k, v in zip(KEYS, row[1:], strict=True) if v is not None})
            for row in rows
        ]

    def skip(self, number: int) -> None:
        """Skip the oldest ``number`` detections."""
        found = self._read("SELECT seq, id FROM detections WHERE seq > ? ORDER BY seq LIMIT 1 "
                           "OFFSET ?", self._seq, number - 1)  # fmt: skip
        self.done(*found[0])

    def done(self, seq: int, name: str) -> None:
        """Advance the cursor; in memory even if it cannot be saved to disk."""
        self._seq = seq
        if self._cursors is not None:
            try:
                check_index(self._folder / DELIVERIES)
                self._cursors.execute(KEEP, (*self._owner, seq, name))
                self.unkept = ""
            except (OSError, sqlite3.Error) as error:  # a full disk is not a reason to send nothing
                self.unkept = str(error)

    def close(self) -> None:
        """Close the files."""
        for connection, name in ((self._journal, DATABASE), (self._cursors, DELIVERIES)):
            if connection is not None:
                close_database(connection, self._folder / name)
        self._journal = self._cursors = None

    def _read(self, question: str, *values: int) -> list[Any]:
        if self._journal is None:
            raise sqlite3.OperationalError("the journal is not open")
        check_index(self._folder / DATABASE)
        return self._journal.execute(question, values).fetchall()


def check_cursors(folder: Path, now: datetime) -> str:
    """Rename malformed cursors; return a sentence if there were any, otherwise empty.

    Raises
    ------
    OSError, sqlite3.Error
        The folder cannot be read.

    """
    if is_intact(folder / DELIVERIES):
        return ""
    kept = rename_malformed(folder / DELIVERIES, now)
    return (f"Unknown which detections were sent: {DELIVERIES} was malformed and is kept as {kept.name}. "
            "The sinks begin at the end of the journal.")  # fmt: skip


def _place(
    journal: sqlite3.Connection, kept: tuple[int, str] | None, last: tuple[int, str]
) -> tuple[int, str]:
    """Return the cursor, and a sentence if it had to be guessed (the journal was replaced)."""
    if kept is None:
        return last[0], ""
    seq, name = kept
    there = journal.execute("SELECT id FROM detections WHERE seq = ?", (seq,)).fetchone()
    if seq == 0 or (there is not None and there[0] == name):
        return seq, ""
    moved = journal.execute("SELECT seq FROM detections WHERE id = ?", (name,)).fetchone()
    if moved is not None:  # the journal was created again and refilled
        return int(moved[0]), ""
    if there is None and seq <= last[0]:  # its row was deleted; no number is used twice
        return seq, ""
    return last[0], "The last sent detection is not in the journal; sending begins at its end."


def _read_only(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(file.absolute()))}?mode=ro", uri=True, isolation_level=None,
        check_same_thread=False,
    )  # fmt: skip
    connection.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")
    return connection
