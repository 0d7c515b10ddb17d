"""What a live recorder's sessions left in its journal, and how much sound the fixture ``sound`` gives."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

BLOCKS = 30


def events(journal: Path) -> list[tuple[int, str]]:
    with closing(sqlite3.connect(journal / "journal.sqlite")) as database:
        return database.execute("SELECT session, kind FROM events ORDER BY seq").fetchall()


def ends(journal: Path) -> list[tuple[int, int]]:
    with closing(sqlite3.connect(journal / "journal.sqlite")) as database:
        return database.execute("SELECT id, clean FROM sessions ORDER BY id").fetchall()
