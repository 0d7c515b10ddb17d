"""The journal's database: how it is opened, brought up to date, found unsound and set aside."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from journal_rows import NOON, ROBIN, ask, journal, rows
from old_journal import OLD_LINES, old_journal

from edgeprune_device.errors import EdgepruneError
from edgeprune_device.journal import schema
from edgeprune_device.journal.schema import check_index, is_intact, open_database, rename_malformed


def test_the_database_is_in_wal_mode_and_sound(tmp_path: Path) -> None:
    with journal(tmp_path / "j") as book:
        book.add(ROBIN, 48000)
        book.close({"windows": 7})
    with sqlite3.connect(tmp_path / "j" / "journal.sqlite") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("PRAGMA quick_check").fetchone() == ("ok",)
        (stats,) = database.execute("SELECT stats FROM sessions").fetchone()
    assert json.loads(stats) == json.loads((tmp_path / "j" / "stats.json").read_text("utf-8"))


def test_a_journal_of_the_first_kind_is_brought_up_to_date_row_for_row(tmp_path: Path) -> None:
    with journal(old_journal(tmp_path / "j")) as book:
        book.add(ROBIN, 48000)
        book.close({})
    assert (tmp_path / "j" / "detections.jsonl").read_text("utf-8").startswith(OLD_LINES)
    found = ask(tmp_path / "j", "SELECT seq, id, session, label FROM detections ORDER BY seq")
    assert [tuple(row.values()) for row in found[:2]] == [(1, "b", 1, "wren"), (2, "a", 2, "robin")]
    assert [row["clean"] for row in ask(tmp_path / "j", "SELECT clean FROM sessions")] == [1, 0, 1]
    (event,) = ask(tmp_path / "j", "SELECT * FROM events")
    assert "last sign of life was at 2026-04-02T00:00:07" in event["text"]
    assert event["session"] == 3
    with journal(tmp_path / "j") as book:
        book.close({})
    assert len(rows(tmp_path / "j")) == 3


def test_a_journal_of_a_later_kind_is_refused(tmp_path: Path) -> None:
    journal(tmp_path / "j").close({})
    with closing(sqlite3.connect(tmp_path / "j" / "journal.sqlite")) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(EdgepruneError, match="written by a later version of edgeprune"):
        journal(tmp_path / "j")


def test_a_database_that_is_not_there_is_sound_and_one_that_is_none_is_not(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    assert is_intact(file)
    open_database(file).close()
    assert is_intact(file)
    file.write_bytes(b"no database" * 100)
    assert not is_intact(file)


def test_a_database_that_another_holds_is_not_taken_for_unsound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "START_MILLISECONDS", 10)
    file = tmp_path / "journal.sqlite"
    with closing(open_database(file)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            is_intact(file)


def test_a_database_is_set_aside_with_its_log_and_nothing_is_deleted(tmp_path: Path) -> None:
    held = {"": b"rows", "-wal": b"log", "-shm": b"index"}
    for ending, data in held.items():
        (tmp_path / f"journal.sqlite{ending}").write_bytes(data)
    kept = rename_malformed(tmp_path / "journal.sqlite", NOON)
    assert kept.name == "journal-malformed-20260501T120000000000Z.sqlite"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        f"{kept.name}{ending}": data for ending, data in held.items()
    }


def test_an_update_that_fails_leaves_the_older_journal_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = old_journal(tmp_path / "j")
    before = ask(folder, "SELECT name, sql FROM sqlite_master"), rows(folder)
    monkeypatch.setattr(schema, "FROM_FIRST", (*schema.FROM_FIRST[:-1], "NONSENSE"))
    with pytest.raises(sqlite3.OperationalError, match="NONSENSE"):
        open_database(folder / "journal.sqlite")
    assert (ask(folder, "SELECT name, sql FROM sqlite_master"), rows(folder)) == before


def test_an_index_that_cannot_be_written_is_an_error_and_no_signal(tmp_path: Path) -> None:
    """A link to itself stands for a disk that fails: asking for it is an OSError."""
    file = tmp_path / "journal.sqlite"
    check_index(file)  # nobody has it open
    (tmp_path / "journal.sqlite-shm").symlink_to("journal.sqlite-shm")
    with pytest.raises(OSError, match="symbolic links"):
        check_index(file)
