"""A journal with a clock that stands still, and what is in its two files."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgeprune_device.detection.events import Detection
from edgeprune_device.journal.journal import Journal

NOON = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
ROBIN = Detection("robin", 0.91234567, 3.0, 4.0)
RATE = 16000


def journal(folder: Path, *, live: bool = False, hour: int = 12, **options: Any) -> Journal:
    """Open a journal of the bundle ``birds`` at an hour of the first of May."""
    return Journal(
        folder, "birds", "d" * 64, "forest.wav", live=live, clock=lambda: NOON.replace(hour=hour),
        **options,
    )  # fmt: skip


def clocked(folder: Path, start: datetime, *, live: bool = True) -> tuple[Journal, list[datetime]]:
    """Open a journal of 16 kHz with a clock that stands still until told: the list's only entry."""
    now = [start]
    book = Journal(folder, "birds", "d" * 64, "forest.wav", live=live, rate=RATE,
                   clock=lambda: now[0])  # fmt: skip
    return book, now


def ask(folder: Path, question: str) -> list[dict[str, Any]]:
    """Ask a journal's database, as another program does."""
    with closing(sqlite3.connect(folder / "journal.sqlite")) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute(question)]


def rows(folder: Path) -> list[dict[str, Any]]:
    """Return the detections by their place in the stream."""
    return ask(folder, "SELECT * FROM detections ORDER BY start_seconds")


def events(folder: Path) -> list[str]:
    """Return the kinds of its events, in order."""
    return [row["kind"] for row in ask(folder, "SELECT kind FROM events ORDER BY seq")]


def lines(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of ``detections.jsonl``."""
    text = (folder / "detections.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]
