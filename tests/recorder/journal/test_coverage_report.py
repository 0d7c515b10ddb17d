"""Coverage: every hour adds up, and what was off is not the same as quiet."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from command_line import exit_status
from journal_rows import NOON, RATE, clocked

from edgeprune_device.errors import EdgepruneError
from edgeprune_device.journal.coverage import CoverageLedger, by_hour
from edgeprune_device.journal.coverage_report import coverage
from edgeprune_device.journal.journal import Journal, Total
from edgeprune_device.stream import Notice


def test_every_hour_adds_up_and_off_is_not_the_same_as_quiet(tmp_path: Path) -> None:
    """From 12:30 to 13:15, then off, then from 14:50 until a crash at 15:10."""
    book, now = clocked(tmp_path / "j", NOON + timedelta(minutes=30))
    with book:
        book.coverage([
            Total("2026-05-01T12", "analysed", "", 1700 * RATE),
            Total("2026-05-01T12", "dropped", "backlog", 60 * RATE),
            Total("2026-05-01T12", "invalid", "silent", 40 * RATE),
            Total("2026-05-01T13", "analysed", "", 800 * RATE + 1),
            Total("2026-05-01T13", "not captured", "microphone lost", 100 * RATE - 1),
        ])  # fmt: skip
        now[0] = NOON + timedelta(minutes=75)
        book.close({})
    book, now = clocked(tmp_path / "j", NOON + timedelta(hours=2, minutes=50))
    with book:
        now[0] = NOON + timedelta(hours=3, minutes=10)
        book.coverage([Total("2026-05-01T14", "analysed", "", 600 * RATE),
                       Total("2026-05-01T15", "analysed", "", 590 * RATE)])  # fmt: skip
    done = coverage(tmp_path / "j")
    found = {row["hour"][-2:]: row for row in done["hours"]}
    assert list(found) == ["12", "13", "14", "15"]
    assert [row["seconds"] for row in found.values()] == [1800, 3600, 3600, 600]
    assert [row["not_running"] for row in found.values()] == [0, 2700, 3000, 10]
    assert found["12"]["kinds"] == {"analysed": {"": 1700}, "dropped": {"backlog": 60},
                                    "invalid": {"silent": 40}, "not captured": {}}  # fmt: skip
    for row in (*done["hours"], done["total"]):
        counted = sum(sum(kind.values()) for kind in row["kinds"].values())
        assert counted + row["not_running"] - row["over"] == pytest.approx(row["seconds"], abs=1e-5)
    assert "microphone lost 100.0" in done["text"]


def test_the_ledgers_spans_add_up_to_the_journals_hours(tmp_path: Path) -> None:
    start = NOON + timedelta(minutes=59)
    ledger = CoverageLedger()
    book, now = clocked(tmp_path / "j", start)
    with book:
        for minute in range(3):
            for second in range(60):
                first = (60 * minute + second) * RATE
                if minute == 1:
                    ledger.rejected(first, first + RATE, "invalid", "silent")
                else:
                    ledger.analysed(first, first + RATE)
            ledger.end((minute + 1) * 60 * RATE)
            book.covered(by_hour(ledger.drain(),
                                 lambda sample: start + timedelta(seconds=sample / RATE), RATE))  # fmt: skip
        now[0] = start + timedelta(minutes=3)
        book.close({})
    done = coverage(tmp_path / "j")
    assert [row["hour"] for row in done["hours"]] == ["2026-05-01T12", "2026-05-01T13"]
    assert done["hours"][1]["kinds"]["analysed"] == {"": 60}
    assert done["hours"][1]["kinds"]["invalid"] == {"silent": 60}
    assert done["total"]["not_running"] == done["total"]["over"] == 0


def test_sound_from_before_the_journal_was_opened_belongs_to_its_session(tmp_path: Path) -> None:
    """The first half second is heard, and a model loaded, before there is a journal to write."""
    now = NOON + timedelta(seconds=0.8)
    book = Journal(tmp_path / "j", "birds", "d" * 64, "microphone", live=True, rate=RATE,
                   clock=lambda: now, started=NOON)  # fmt: skip
    with book:
        book.coverage([Total("2026-05-01T12", "analysed", "", 600 * RATE)])
        now = NOON + timedelta(minutes=10, seconds=0.1)
        book.close({})
    (hour,) = coverage(tmp_path / "j")["hours"]
    assert (hour["seconds"], hour["not_running"], hour["over"]) == (600.1, 0.1, 0)


def test_an_hour_that_was_counted_twice_says_so(tmp_path: Path) -> None:
    for _ in range(2):
        book, now = clocked(tmp_path / "j", NOON)
        with book:
            book.coverage([Total("2026-05-01T12", "analysed", "", 600 * RATE)])
            now[0] = NOON + timedelta(minutes=10)
            book.close({})
    (hour,) = coverage(tmp_path / "j")["hours"]
    assert (hour["seconds"], hour["not_running"], hour["over"]) == (600, 0, 600)


def test_a_files_hours_are_those_of_its_stream(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    book, _ = clocked(tmp_path / "j", NOON, live=False)
    with book:
        book.coverage([Total("0", "analysed", "", 3600 * RATE), Total("1", "invalid", "nan", 5)])
        book.close({})
    assert exit_status("coverage", str(tmp_path / "j"), "--json") == 0
    done = json.loads(capsys.readouterr().out)
    assert [row["seconds"] for row in done["hours"]] == [3600, pytest.approx(5 / RATE, abs=1e-6)]
    assert done["total"]["not_running"] == 0
    assert exit_status("coverage", str(tmp_path / "j")) == 0
    assert "forest.wav" in capsys.readouterr().out


def test_a_board_that_starts_in_1970_has_not_been_off_for_the_years_between(tmp_path: Path) -> None:
    """A minute by a clock that shows 1970, then ten by one that was set at noon."""
    book, now = clocked(tmp_path / "j", datetime(1970, 1, 1, 0, 0, 30, tzinfo=UTC))
    with book:
        book.coverage([Total("1970-01-01T00", "analysed", "", 60 * RATE)])
        now[0] = NOON
        book.event(Notice("clock-jumped", "The clock was set."))
        book.coverage([Total("2026-05-01T12", "analysed", "", 600 * RATE)])
        now[0] = NOON + timedelta(minutes=10)
        book.close({})
    done = coverage(tmp_path / "j")
    assert [(row["hour"], row["seconds"]) for row in done["hours"]] == [
        ("1970-01-01T00", 60), ("2026-05-01T12", 600),
    ]  # fmt: skip
    assert (done["total"]["not_running"], done["total"]["over"]) == (0, 0)


def test_the_table_adds_up_as_its_rows_do_and_says_why(tmp_path: Path) -> None:
    book, now = clocked(tmp_path / "j", NOON)
    with book:
        book.coverage([Total("2026-05-01T12", "analysed", "", 1500 * RATE),
                       Total("2026-05-01T12", "dropped", "backlog", 300 * RATE),
                       Total("2026-05-01T13", "analysed", "", 600 * RATE)])  # fmt: skip
        now[0] = NOON + timedelta(hours=1, minutes=10)
        book.close({})
    head, *table, unit = coverage(tmp_path / "j")["text"].splitlines()
    assert head.split() == ["hour", "analysed", "dropped", "invalid", "not", "captured", "not",
                            "running", "reasons"]  # fmt: skip
    assert [line.split() for line in table] == [
        ["2026-05-01T12", "1500.0", "300.0", "0.0", "0.0", "1800.0", "backlog", "300.0"],
        ["2026-05-01T13", "600.0", "0.0", "0.0", "0.0", "0.0"],
        ["all", "2100.0", "300.0", "0.0", "0.0", "1800.0", "backlog", "300.0"],
    ]
    assert unit == "(seconds)"


def test_a_journal_without_coverage_says_so_and_a_folder_without_a_journal_is_one_sentence(
    tmp_path: Path,
) -> None:
    clocked(tmp_path / "j", NOON, live=False)[0].close({})
    done = coverage(tmp_path / "j")
    assert done["hours"] == []
    assert done["text"] == "The journal has no coverage."
    with pytest.raises(EdgepruneError, match="There is no journal in"):
        coverage(tmp_path)
