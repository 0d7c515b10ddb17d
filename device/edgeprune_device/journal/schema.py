"""The journal's database: its tables, updates of older versions, and when it is renamed.

    meta        key -> value (length of detections.jsonl at the last commit)
    sessions    each start of the recorder; clean is NULL while it runs, 0 after an unclean exit
    detections  detected events; seq increases with every row and is never used twice
    events      what happened to the recorder
    coverage    samples of each hour by kind and reason (totals)
    clips       saved audio clips

A database that SQLite finds malformed is renamed and stays in the folder; nothing is deleted.

SQLite maps the index of its write-ahead log (``-shm``) into memory. On a disk that has become
read-only, as a dying SD card does, a write to that map is not an error but the signal SIGBUS, which
ends the process. So ``check_index`` checks the disk before every use of a database.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path

from edgeprune_device.errors import EdgepruneError

DATABASE = "journal.sqlite"
VERSION = 2
"""``user_version`` of a database written by this program; the first version had 0."""
START_MILLISECONDS = 5000
"""Longest wait for another writer while the journal is opened."""
LARGEST_WAL_BYTES = 4_000_000
TABLES = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL)",
    "CREATE TABLE sessions (id INTEGER PRIMARY KEY AUTOINCREMENT, started_utc TEXT NOT NULL,"
    " ended_utc TEXT, bundle TEXT NOT NULL, bundle_digest TEXT NOT NULL, source TEXT NOT NULL,"
    " stats TEXT, last_alive TEXT, clean INTEGER, rate INTEGER, live INTEGER, spool TEXT)",
    "CREATE TABLE detections (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,"
    " session INTEGER NOT NULL REFERENCES sessions(id), utc TEXT, clock TEXT,"
    " offset_bound_seconds REAL, throttled INTEGER, start_seconds REAL NOT NULL,"
    " end_seconds REAL NOT NULL, first_sample INTEGER, last_sample INTEGER, label TEXT NOT NULL,"
    " score REAL NOT NULL, bundle_digest TEXT)",
    "CREATE INDEX detections_by_label ON detections (label, utc)",
    "CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,"
    " session INTEGER NOT NULL REFERENCES sessions(id), utc TEXT, sample INTEGER,"
    " kind TEXT NOT NULL, text TEXT NOT NULL, details TEXT)",
    "CREATE TABLE coverage (session INTEGER NOT NULL REFERENCES sessions(id), hour TEXT NOT NULL,"
    " kind TEXT NOT NULL, reason TEXT NOT NULL, samples INTEGER NOT NULL,"
    " PRIMARY KEY (session, hour, kind, reason)) WITHOUT ROWID",
    "CREATE TABLE clips (path TEXT PRIMARY KEY, detection TEXT NOT NULL,"
    " session INTEGER NOT NULL REFERENCES sessions(id), utc TEXT, first_sample INTEGER NOT NULL,"
    " samples INTEGER NOT NULL, bytes INTEGER NOT NULL, locked INTEGER NOT NULL DEFAULT 0)",
)
FROM_FIRST = (  # copies the first version's rows into the tables above
    "ALTER TABLE sessions RENAME TO old_sessions",
    "ALTER TABLE detections RENAME TO old_detections",
    "DROP INDEX IF EXISTS detections_by_label",
    *TABLES,
    "INSERT INTO sessions (id, started_utc, ended_utc, bundle, bundle_digest, source, stats, clean)"
    " SELECT id, started_utc, ended_utc, bundle, bundle_digest, source, stats,"
    " CASE WHEN ended_utc IS NULL THEN NULL ELSE 1 END FROM old_sessions ORDER BY id",
    "INSERT INTO detections (id, session, utc, start_seconds, end_seconds, label, score)"
    " SELECT id, session, utc, start_seconds, end_seconds, label, score"
    " FROM old_detections ORDER BY rowid",
    "DROP TABLE old_detections",
    "DROP TABLE old_sessions",
)


def open_database(file: Path) -> sqlite3.Connection:
    """Open a journal's database; create or update it if necessary.

    In WAL mode with a full sync at every commit: a committed row survives a power cut.

    Raises
    ------
    sqlite3.Error
        It cannot be opened or written.
    EdgepruneError
        It was written by a later version of edgeprune.

    """
    database = sqlite3.connect(file, isolation_level=None)
    try:
        for setting in (f"busy_timeout={START_MILLISECONDS}", "journal_mode=WAL",
                        "synchronous=FULL", f"journal_size_limit={LARGEST_WAL_BYTES}"):  # fmt: skip
            database.execute(f"PRAGMA {setting}")
        _bring_up_to_date(database, file)
        database.execute("PRAGMA foreign_keys=ON")
    except BaseException:
        database.close()
        raise
    return database


def check_index(file: Path) -> None:
    """Raise if a database's index cannot be written now (see the module's docstring).

    Raises
    ------
    OSError
        The disk is read-only or fails.

    """
    try:
        os.utime(file.with_name(file.name + "-shm"))
    except FileNotFoundError:  # nobody has the database open
        return


def close_database(database: sqlite3.Connection, file: Path) -> None:
    """Close a database; if its index cannot be written, leave that to the end of the process."""
    try:
        check_index(file)
    except OSError:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(database))  # closing would write to the index
    else:
        database.close()


def is_intact(file: Path) -> bool:
    """Return whether SQLite finds a database intact; a missing one counts as intact.

    Raises
    ------
    sqlite3.Error
        It cannot be checked for another reason, such as a lock.

    """
    if not file.exists():
        return True
    try:
        with closing(sqlite3.connect(file)) as database:
            database.execute(f"PRAGMA busy_timeout={START_MILLISECONDS}")
            found = database.execute("PRAGMA quick_check(1)").fetchone()
            return found is not None and found[0] == "ok"
    except sqlite3.OperationalError:  # locked, no permission, an I/O error: unknown
        raise
    except sqlite3.DatabaseError:  # malformed, or not a database
        return False


def rename_malformed(file: Path, now: datetime) -> Path:
    """Rename a database and its write-ahead log to dated names; return the database's new path."""
    stamp = f"{now:%Y%m%dT%H%M%S%f}Z"
    target = file.with_name(f"{file.stem}-malformed-{stamp}{file.suffix}")
    for ending in ("-wal", "-shm", ""):
        part = file.with_name(file.name + ending)
        if part.exists():
            part.rename(target.with_name(target.name + ending))
    return target


def _bring_up_to_date(database: sqlite3.Connection, file: Path) -> None:
    """Create the tables, or update those of an older version, in one transaction."""
    database.execute("BEGIN IMMEDIATE")
    try:
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise EdgepruneError(
                f"{file} was written by a later version of edgeprune (journal version {version}; this "
                f"one reads up to {VERSION}).", "Install that version, or name another folder with -o.",
            )  # fmt: skip
        if version < VERSION:
            old = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'sessions'").fetchone()
            for statement in FROM_FIRST if old else TABLES:
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {VERSION}")
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
