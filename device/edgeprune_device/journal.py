"""Where detections go: SQLite in WAL mode and JSON lines, the same rows in both.

A line is written inside its row's transaction. What a power cut leaves apart is put right when the
journal is opened again: the database is what counts.

A detection's id follows from the bundle, the source, its first sample and its label, so that the
same file heard twice gives the same rows.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

from edgeprune_device.decide import Detection
from edgeprune_device.errors import EdgepruneError

DATABASE, LINES, STATS = "journal.sqlite", "detections.jsonl", "stats.json"
BUSY_MILLISECONDS = 5000
SCHEMA = """
CREATE TABLE IF NOT EXISTS sessions (
    id INTEGER PRIMARY KEY, started_utc TEXT NOT NULL, ended_utc TEXT, bundle TEXT NOT NULL,
    bundle_digest TEXT NOT NULL, source TEXT NOT NULL, stats TEXT);
CREATE TABLE IF NOT EXISTS detections (
    id TEXT PRIMARY KEY, session INTEGER NOT NULL REFERENCES sessions(id), utc TEXT,
    start_seconds REAL NOT NULL, end_seconds REAL NOT NULL, label TEXT NOT NULL,
    score REAL NOT NULL);
CREATE INDEX IF NOT EXISTS detections_by_label ON detections (label, utc);
"""
KEYS = ("id", "start_seconds", "end_seconds", "label", "score", "utc")
"""Of a line, and columns of a row."""
Clock = Callable[[], datetime]
"""Gives the time in UTC."""


class Journal:
    """One session's entry in a journal folder; an earlier session's entries stay.

    Parameters
    ----------
    folder : Path
        Made if missing; must be a journal or empty otherwise.
    bundle, digest : str
        Name and digest of the bundle that listens.
    source : str
        What is listened to.
    live : bool
        Detections carry the time of day; those of a file do not.
    clock : callable
        The time in UTC.
    source_digest : str
        Of a file's bytes: recorders give different files the same name.

    Raises
    ------
    EdgepruneError
        The folder holds something else or cannot be written.

    """

    def __init__(
        self, folder: Path, bundle: str, digest: str, source: str, *, live: bool, clock: Clock,
        source_digest: str = "",
    ) -> None:  # fmt: skip
        self.folder = folder
        self._clock = clock
        self._live = live
        self._started = clock()
        moment = self._started.isoformat() if live else source_digest
        self._key = f"{digest} {source} {moment}"
        self._held = ExitStack()
        try:
            _make_folder(folder)
            self._database = self._held.enter_context(
                closing(sqlite3.connect(folder / DATABASE, isolation_level=None))
            )
            for setting in ("journal_mode=WAL", "synchronous=FULL",
                            f"busy_timeout={BUSY_MILLISECONDS}", "foreign_keys=ON"):  # fmt: skip
                self._database.execute(f"PRAGMA {setting}")
            self._database.executescript(SCHEMA)
            # Unbuffered: a line is written, or has failed, when its call returns.
            self._lines = self._held.enter_context((folder / LINES).open("ab", buffering=0))
            self._mend()
            entry = self._database.execute(
                "INSERT INTO sessions (started_utc, bundle, bundle_digest, source) VALUES (?,?,?,?)",
                (_text(self._started), bundle, digest, source),
            )
        except (OSError, sqlite3.Error) as error:
            self._held.close()
            raise EdgepruneError(
                f"The journal {folder} cannot be written: {error}.",
                "Is the disk full, or the folder another user's?",
            ) from error
        self._session = entry.lastrowid

    def add(self, detection: Detection, first_sample: int) -> None:
        """Write a detection to both; its row is on the disk when this returns.

        Raises
        ------
        EdgepruneError
            It could not be written.

        """
        name = f"{self._key} {first_sample} {detection.label}"
        utc = None
        if self._live:
            utc = _text(self._started + timedelta(seconds=detection.start_seconds))
        row = (
            hashlib.sha256(name.encode()).hexdigest()[:16], round(detection.start_seconds, 4),
            round(detection.end_seconds, 4), detection.label, round(detection.score, 4), utc,
        )  # fmt: skip
        try:
            with self._transaction():
                written = self._database.execute(
                    f"INSERT OR IGNORE INTO detections ({', '.join(KEYS)}, session) "
                    "VALUES (?,?,?,?,?,?,?)", (*row, self._session),
                )  # fmt: skip
                if written.rowcount == 1:  # the same file heard again adds nothing
                    self._write(_line(row))
        except (OSError, sqlite3.Error) as error:
            raise EdgepruneError(
                f"A detection could not be written to {self.folder}: {error}.", "Is the disk full?"
            ) from error

    def close(self, stats: dict[str, Any]) -> None:
        """End the session: its figures go to the database and, whole, to ``stats.json``.

        Raises
        ------
        EdgepruneError
            They could not be written.

        """
        text = json.dumps(stats, indent=1, ensure_ascii=False)
        partial = self.folder / (STATS + ".partial")
        try:
            self._database.execute(
                "UPDATE sessions SET ended_utc = ?, stats = ? WHERE id = ?",
                (_text(self._clock()), text, self._session),
            )
            self._held.close()
            partial.write_text(text + "\n", "utf-8")
            partial.replace(self.folder / STATS)
        except (OSError, sqlite3.Error) as error:
            raise EdgepruneError(
                f"The session's figures could not be written to {self.folder}: {error}.",
                "Is the disk full?",
            ) from error

    def __enter__(self) -> Journal:
        """Open for one session."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        """Let go of the files, whatever happened."""
        self._held.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of it or nothing, and no other listener writes to the journal meanwhile."""
        self._database.execute("BEGIN IMMEDIATE")
        size = os.fstat(self._lines.fileno()).st_size
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:  # SQLite may have rolled back by itself
                self._database.execute("ROLLBACK")
            if os.fstat(self._lines.fileno()).st_size > size:
                self._lines.truncate(size)
            raise

    def _mend(self) -> None:
        """Make the lines what the rows are: a cut may have left a torn line or one too many."""
        with self._transaction():
            rows = self._database.execute(
                f"SELECT {', '.join(KEYS)} FROM detections ORDER BY rowid"
            )
            whole = b"".join(map(_line, rows))
            if (self.folder / LINES).read_bytes() != whole:
                self._lines.truncate(0)
                self._write(whole)

    def _write(self, data: bytes) -> None:
        if self._lines.write(data) != len(data):  # a disk that fills up takes a part, in silence
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _make_folder(folder: Path) -> None:
    """Make the folder; leave alone one that holds something else."""
    if folder.exists() and not (folder / DATABASE).is_file():
        if not folder.is_dir():
            raise EdgepruneError(f"{folder} is a file, not a folder for a journal.")
        if any(folder.iterdir()):
            raise EdgepruneError(
                f"{folder} is not empty and holds no journal.", "Name another folder with -o."
            )
    folder.mkdir(parents=True, exist_ok=True)


def _line(row: tuple[Any, ...]) -> bytes:
    """Return a row (its columns as ``KEYS``) as a line; what is not known is left out."""
    shown = {key: value for key, value in zip(KEYS, row, strict=True) if value is not None}
    return (json.dumps(shown, ensure_ascii=False) + "\n").encode()


def _text(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds")
