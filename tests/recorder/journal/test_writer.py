"""The writer: all of a commit or nothing, rows that wait in order, and a sign of life."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from journal_rows import ROBIN, ask, events, journal, lines, rows

from edgeprune_device.detection.events import Detection
from edgeprune_device.journal import writer
from edgeprune_device.journal.journal import Total


def test_a_row_no_database_would_take_is_counted_and_holds_nobody_up(tmp_path: Path) -> None:
    with journal(tmp_path / "j", live=True) as book:
        book.add(Detection("robin", float("nan"), 1.0, 2.0), 1)
        book.add(Detection("wren \ud800", 0.5, 3.0, 4.0), 3)
        assert (book.pending, book.lost, book.failure) == (0, 1, "")
        book.close({})
    assert [line["label"] for line in lines(tmp_path / "j")] == ["wren ?"]
    assert events(tmp_path / "j") == ["rows-lost"]


def test_a_journal_without_news_gives_a_sign_of_life(tmp_path: Path) -> None:
    now = [0.0]
    with journal(tmp_path / "j", live=True, monotonic=lambda: now[0]) as book:
        for second in range(0, 200, 10):
            now[0] = second
            book.tick(now[0])
        assert book.committed_at == 180.0


def failing(tries: list[float], now: list[float]) -> Callable[[Path], None]:
    """Return what stands for a full disk, and notes when it was tried."""

    def full(_: Path) -> None:
        tries.append(now[0])
        raise OSError(28, "No space left on device")

    return full


def test_tries_grow_apart_up_to_ten_seconds_and_rows_are_written_once_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, tries = [0.0], list[float]()
    with journal(tmp_path / "j", live=True, monotonic=lambda: now[0]) as book:
        with monkeypatch.context() as patch:
            patch.setattr(writer, "check_index", failing(tries, now))
            for index in range(3):
                book.add(Detection(f"bird {index}", 0.5, index, index + 1.0), index)
            while now[0] < 40.0:
                now[0] += 0.25
                book.tick(now[0])
            assert tries == [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 25.5, 35.5]
            assert "No space left on device" in book.failure
            assert "4 rows wait in memory and on the disk" in book.failure  # with the event of it
        now[0] = 46.0
        book.tick(now[0])
        assert (book.pending, book.failure, book.lost) == (0, "", 0)
        book.close({})
    assert [line["label"] for line in lines(tmp_path / "j")] == ["bird 0", "bird 1", "bird 2"]
    assert events(tmp_path / "j") == ["journal-trouble", "journal-recovered"]
    (told,) = ask(tmp_path / "j", "SELECT details FROM events WHERE kind = 'journal-recovered'")
    assert json.loads(told["details"])["seconds"] == 46.0


def test_a_commit_that_fails_after_its_lines_leaves_neither_lines_nor_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    now = [0.0]
    with journal(tmp_path / "j", live=True, monotonic=lambda: now[0]) as book:
        book.add(ROBIN, 48000)
        with monkeypatch.context() as patch:
            patch.setattr(writer, "note_length", full)  # comes after the lines
            book.add(Detection("wren", 0.8, 9.0, 10.0), 144000)
            assert [line["label"] for line in lines(tmp_path / "j")] == ["robin"]
            assert [row["label"] for row in rows(tmp_path / "j")] == ["robin"]
        now[0] = 1.0
        book.tick(now[0])
        book.close({})
    assert [line["label"] for line in lines(tmp_path / "j")] == ["robin", "wren"]
    assert [row["label"] for row in rows(tmp_path / "j")] == ["robin", "wren"]


def test_more_rows_than_may_wait_are_lost_and_told_and_totals_always_find_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    with journal(tmp_path / "j", live=True, spool_rows=10, rate=16000,
                 monotonic=lambda: now[0]) as book:  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(writer, "check_index", failing([], now))
            for index in range(15):
                book.add(Detection("wren", 0.5, index, index + 1.0), index)
            book.coverage([Total("2026-05-01T12", "analysed", "", 7)])
        now[0] = 1.0
        book.tick(now[0])
        assert (book.lost, book.pending) == (5, 0)
        book.close({})
    assert [row["first_sample"] for row in rows(tmp_path / "j")] == list(range(10))
    assert ask(tmp_path / "j", "SELECT samples FROM coverage") == [{"samples": 7}]
    assert {"spool-full", "rows-lost"} < set(events(tmp_path / "j"))
    (told,) = ask(tmp_path / "j", "SELECT details FROM events WHERE kind = 'rows-lost'")
    assert json.loads(told["details"]) == {"rows": 5}


def test_times_are_written_in_utc_to_the_millisecond() -> None:
    there = datetime(2026, 5, 1, 14, 0, 0, 123_456, tzinfo=timezone(timedelta(hours=2)))
    assert writer.text_of(there) == "2026-05-01T12:00:00.123+00:00"
