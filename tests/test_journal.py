"""The journal: the same rows in SQLite and JSON lines, sessions side by side, nothing overwritten."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from edgeprune_device.decide import Detection
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.journal import Journal

NOON = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
ROBIN = Detection("robin", 0.91234567, 3.0, 4.0)


def journal(folder: Path, *, live: bool = False, hour: int = 12) -> Journal:
    return Journal(
        folder, "birds", "d" * 64, "forest.wav", live=live, clock=lambda: NOON.replace(hour=hour)
    )


def rows(folder: Path) -> list[dict[str, Any]]:
    with sqlite3.connect(folder / "journal.sqlite") as database:
        database.row_factory = sqlite3.Row
        found = database.execute("SELECT * FROM detections ORDER BY start_seconds").fetchall()
    return [dict(row) for row in found]


def lines(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "detections.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_both_hold_the_same_rows(tmp_path: Path) -> None:
    with journal(tmp_path / "j") as book:
        book.add(ROBIN, 48000)
        book.add(Detection("wren", 0.8, 9.0, 10.0), 144000)
        book.close({"windows": 3})
    shared = ("id", "label", "score", "start_seconds", "end_seconds")
    assert [{k: r[k] for k in shared} for r in rows(tmp_path / "j")] == lines(tmp_path / "j")
    assert [line["label"] for line in lines(tmp_path / "j")] == ["robin", "wren"]


def test_a_detection_is_on_the_disk_before_the_next_one(tmp_path: Path) -> None:
    with journal(tmp_path / "j") as book:
        book.add(ROBIN, 48000)
        assert len(rows(tmp_path / "j")) == len(lines(tmp_path / "j")) == 1


def test_the_same_file_heard_again_adds_nothing(tmp_path: Path) -> None:
    for hour in (12, 13):
        with journal(tmp_path / "j", hour=hour) as book:
            book.add(ROBIN, 48000)
            book.close({})
    assert len(rows(tmp_path / "j")) == len(lines(tmp_path / "j")) == 1
    with sqlite3.connect(tmp_path / "j" / "journal.sqlite") as database:
        assert database.execute("SELECT count(*) FROM sessions").fetchone() == (2,)


def test_live_detections_carry_the_time_of_day_and_two_sessions_differ(tmp_path: Path) -> None:
    for hour in (12, 13):
        with journal(tmp_path / "j", live=True, hour=hour) as book:
            book.add(ROBIN, 48000)
            book.close({})
    assert [line["utc"] for line in lines(tmp_path / "j")] == [
        "2026-05-01T12:00:03.000+00:00", "2026-05-01T13:00:03.000+00:00",
    ]  # fmt: skip
    assert len({line["id"] for line in lines(tmp_path / "j")}) == 2


def test_the_database_is_in_wal_mode_and_sound(tmp_path: Path) -> None:
    with journal(tmp_path / "j") as book:
        book.add(ROBIN, 48000)
        book.close({"windows": 7})
    with sqlite3.connect(tmp_path / "j" / "journal.sqlite") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("PRAGMA quick_check").fetchone() == ("ok",)
        (stats,) = database.execute("SELECT stats FROM sessions").fetchone()
    assert json.loads(stats) == json.loads((tmp_path / "j" / "stats.json").read_text("utf-8"))


def test_a_folder_that_holds_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"precious")
    with pytest.raises(EdgepruneError, match="is not empty and holds no journal"):
        journal(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["photo.jpg"]
    with pytest.raises(EdgepruneError, match="is a file"):
        journal(tmp_path / "photo.jpg")
