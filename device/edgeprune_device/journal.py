"""Where detections go: SQLite in WAL mode and JSON lines, the same rows in both.

A detection's id follows from the bundle, the source, its first sample and its label, so that the
same file heard twice gives the same rows.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable
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

    Raises
    ------
    EdgepruneError
        The folder holds something else or cannot be written.

    """

    def __init__(
        self, folder: Path, bundle: str, digest: str, source: str, *, live: bool, clock: Clock
    ) -> None:
        self.folder = folder
        self._clock = clock
        self._live = live
        self._started = clock()
        self._key = f"{digest} {source}" + (f" {self._started.isoformat()}" if live else "")
        if folder.exists() and not (folder / DATABASE).is_file():
            if not folder.is_dir():
                raise EdgepruneError(f"{folder} is a file, not a folder for a journal.")
            if any(folder.iterdir()):
                raise EdgepruneError(
                    f"{folder} is not empty and holds no journal.", "Name another folder with -o."
                )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lines = (folder / LINES).open("a", encoding="utf-8")
            self._database = sqlite3.connect(folder / DATABASE, isolation_level=None)
            for setting in ("journal_mode=WAL", "synchronous=FULL",
                            f"busy_timeout={BUSY_MILLISECONDS}", "foreign_keys=ON"):  # fmt: skip
                self._database.execute(f"PRAGMA {setting}")
            self._database.executescript(SCHEMA)
            entry = self._database.execute(
                "INSERT INTO sessions (started_utc, bundle, bundle_digest, source) VALUES (?,?,?,?)",
                (_text(self._started), bundle, digest, source),
            )
        except (OSError, sqlite3.Error) as error:
            raise EdgepruneError(
                f"The journal {folder} cannot be written: {error}.", "Is the disk full?"
            ) from error
        self._session = entry.lastrowid

    def add(self, detection: Detection, first_sample: int) -> None:
        """Write a detection to both; it is on the disk when this returns.

        Raises
        ------
        EdgepruneError
            It could not be written.

        """
        name = f"{self._key} {first_sample} {detection.label}"
        row: dict[str, Any] = {
            "id": hashlib.sha256(name.encode()).hexdigest()[:16],
            "start_seconds": round(detection.start_seconds, 4),
            "end_seconds": round(detection.end_seconds, 4),
            "label": detection.label, "score": round(detection.score, 4),
        }  # fmt: skip
        utc = None
        if self._live:
            utc = _text(self._started + timedelta(seconds=detection.start_seconds))
            row = {**row, "utc": utc}
        try:
            written = self._database.execute(
                "INSERT OR IGNORE INTO detections VALUES (?,?,?,?,?,?,?)",
                (row["id"], self._session, utc, row["start_seconds"], row["end_seconds"],
                 row["label"], row["score"]),
            )  # fmt: skip
            if written.rowcount == 1:  # the same file heard again adds nothing
                self._lines.write(json.dumps(row, ensure_ascii=False) + "\n")
                self._lines.flush()
        except (OSError, sqlite3.Error) as error:
            raise EdgepruneError(
                f"A detection could not be written to {self.folder}: {error}.", "Is the disk full?"
            ) from error

    def close(self, stats: dict[str, Any]) -> None:
        """End the session: its figures go to the database and, whole, to ``stats.json``."""
        text = json.dumps(stats, indent=1, ensure_ascii=False)
        self._database.execute(
            "UPDATE sessions SET ended_utc = ?, stats = ? WHERE id = ?",
            (_text(self._clock()), text, self._session),
        )
        self._database.close()
        self._lines.close()
        partial = self.folder / (STATS + ".partial")
        partial.write_text(text + "\n", "utf-8")
        partial.replace(self.folder / STATS)

    def __enter__(self) -> Journal:
        """Open for one session."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        """Let go of the files, whatever happened."""
        self._database.close()
        self._lines.close()


def _text(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds")
