"""A journal as an earlier version wrote it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

OLD = """
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY, started_utc TEXT NOT NULL, ended_utc TEXT, bundle TEXT NOT NULL,
    bundle_digest TEXT NOT NULL, source TEXT NOT NULL, stats TEXT);
CREATE TABLE detections (
    id TEXT PRIMARY KEY, session INTEGER NOT NULL REFERENCES sessions(id), utc TEXT,
    start_seconds REAL NOT NULL, end_seconds REAL NOT NULL, label TEXT NOT NULL,
    score REAL NOT NULL);
CREATE INDEX detections_by_label ON detections (label, utc);
INSERT INTO sessions VALUES (1, '2026-04-01T00:00:00+00:00', '2026-04-01T01:00:00+00:00',
                             'birds', 'd', 'microphone', '{}');
INSERT INTO sessions VALUES (2, '2026-04-02T00:00:00+00:00', NULL, 'birds', 'd', 'microphone', NULL);
INSERT INTO detections VALUES ('b', 1, NULL, 1.0, 2.0, 'wren', 0.5);
INSERT INTO detections VALUES ('a', 2, '2026-04-02T00:00:07.000+00:00', 7.0, 8.0, 'robin', 0.75);
"""
OLD_LINES = (
    '{"id": "b", "start_seconds": 1.0, "end_seconds": 2.0, "label": "wren", "score": 0.5}\n'
    '{"id": "a", "start_seconds": 7.0, "end_seconds": 8.0, "label": "robin", "score": 0.75, '
    '"utc": "2026-04-02T00:00:07.000+00:00"}\n'
)


def old_journal(folder: Path) -> Path:
    folder.mkdir()
    with closing(sqlite3.connect(folder / "journal.sqlite")) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.executescript(OLD)
    (folder / "detections.jsonl").write_text(OLD_LINES, "utf-8")
    return folder
