"""Export and coverage: what leaves a journal is what is in it, and every hour adds up."""

from __future__ import annotations

import csv
import json
import sqlite3
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from old_journal import old_journal

from edgeprune.cli import app
from edgeprune_device.detection.events import Detection
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.journal import export as journal_export
from edgeprune_device.journal.coverage import CoverageLedger, by_hour
from edgeprune_device.journal.coverage_report import coverage
from edgeprune_device.journal.export import Wanted, export, safe_cell
from edgeprune_device.journal.journal import Journal, Total
from edgeprune_device.journal.stream_time import TimeFacts

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
RATE = 16000


def journal(folder: Path, start: datetime, *, live: bool = True) -> tuple[Journal, list[datetime]]:
    """Open a journal with a clock that stands still until told."""
    now = [start]
    book = Journal(folder, "birds", "d" * 64, "forest.wav", live=live, rate=RATE,
                   clock=lambda: now[0])  # fmt: skip
    return book, now


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    book, _ = journal(tmp_path / "j", NOON)
    with book:
        for hour, (label, score) in enumerate(
            (("robin", 0.9), ("wren", 0.4), ("=HYPERLINK(1)", 0.8), ("robin", 0.5))
        ):
            at = 3600.0 * hour
            book.add(
                Detection(label, score, at, at + 1), round(at * RATE), TimeFacts("synchronised")
            )
        book.close({})
    return tmp_path / "j"


def exported(folder: Path, out: Path, *options: str) -> list[dict[str, str]]:
    """Run the command and read the file."""
    call("export", str(folder), "-o", str(out), *options)
    with out.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def call(*arguments: str) -> int:
    before = sys.argv
    sys.argv = ["edgeprune", *arguments]
    try:
        with pytest.raises(SystemExit) as end:
            app.main()
    finally:
        sys.argv = before
    return int(end.value.code or 0)


def test_a_csv_holds_every_detection_and_no_formula(filled: Path, tmp_path: Path) -> None:
    rows = exported(filled, tmp_path / "out.csv")
    assert [row["label"] for row in rows] == ["robin", "wren", "'=HYPERLINK(1)", "robin"]
    assert [row["utc"] for row in rows] == [
        f"2026-05-01T{hour}:00:00.000+00:00" for hour in (12, 13, 14, 15)
    ]
    assert {row["clock"] for row in rows} == {"synchronised"}
    assert {row["source"] for row in rows} == {"forest.wav"}
    assert not (tmp_path / "out.csv.partial").exists()


@pytest.mark.parametrize(
    ("options", "scores"),
    [
        (("--label", "robin"), [0.9, 0.5]),
        (("--label", "robin", "--label", "wren"), [0.9, 0.4, 0.5]),
        (("--since", "2026-05-01T13:00"), [0.4, 0.8, 0.5]),
        (("--since", "2026-05-01T15:00+02:00", "--until", "2026-05-01T15:00"), [0.4, 0.8]),
        (("--until", "2026-05-01"), []),
        (("--min-score", "0.8"), [0.9, 0.8]),
    ],
)
def test_what_is_asked_for_is_what_comes(
    filled: Path, tmp_path: Path, options: tuple[str, ...], scores: list[float]
) -> None:
    rows = exported(filled, tmp_path / "out.csv", *options)
    assert [float(row["score"]) for row in rows] == scores


def test_lines_hold_the_same_as_the_csv(filled: Path, tmp_path: Path) -> None:
    rows = exported(filled, tmp_path / "out.csv")
    assert call("export", str(filled), "-o", str(tmp_path / "out.jsonl")) == 0
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert [row["id"] for row in rows] == [line["id"] for line in lines]
    assert [line["label"] for line in lines] == ["robin", "wren", "=HYPERLINK(1)", "robin"]


def test_a_journal_of_the_first_kind_is_read_as_it_is(tmp_path: Path) -> None:
    folder = old_journal(tmp_path / "j")
    before = (folder / "journal.sqlite").read_bytes()
    rows = exported(folder, tmp_path / "out.csv")
    assert [(row["id"], row["clock"]) for row in rows] == [("b", ""), ("a", "")]
    assert coverage(folder)["hours"] == []
    assert (folder / "journal.sqlite").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("missing", "-o", "out.csv"), "holds no journal"),
        (("j", "-o", "out.txt"), "ends neither in .csv nor in .jsonl"),
        (("j", "-o", "nowhere/out.csv"), "There is no folder"),
        (("j", "-o", "out.csv", "--since", "yesterday"), "is no time"),
    ],
)
def test_what_makes_no_sense_is_one_sentence_and_no_file(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...],
    sentence: str, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert call("export", *arguments) == 2
    assert sentence in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [filled.name]


def test_an_export_that_fails_leaves_the_last_one(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out.csv").write_text("precious")

    def spoiled(*_: Any) -> int:
        raise sqlite3.DatabaseError("malformed")

    monkeypatch.setattr(journal_export, "WRITERS", {".csv": spoiled})
    with pytest.raises(EdgepruneError, match="cannot be read"):
        export(filled, tmp_path / "out.csv", Wanted())
    assert (tmp_path / "out.csv").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["j", "out.csv"]


def test_a_journal_can_be_exported_while_a_recorder_writes_to_it(tmp_path: Path) -> None:
    book, _ = journal(tmp_path / "j", NOON)
    with book:
        book.add(Detection("robin", 0.9, 0.0, 1.0), 0)
        with closing(sqlite3.connect(tmp_path / "j" / "journal.sqlite")) as other:
            other.execute("BEGIN EXCLUSIVE")
            assert len(exported(tmp_path / "j", tmp_path / "out.csv")) == 1


@given(st.text())
def test_no_cell_begins_as_a_formula_and_the_text_is_still_there(text: str) -> None:
    cell = safe_cell(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert cell.endswith(text)


def test_every_hour_adds_up_and_off_is_not_the_same_as_quiet(tmp_path: Path) -> None:
    """From 12:30 to 13:15, then off, then from 14:50 until a crash at 15:10."""
    book, now = journal(tmp_path / "j", NOON + timedelta(minutes=30))
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
    book, now = journal(tmp_path / "j", NOON + timedelta(hours=2, minutes=50))
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
    book, now = journal(tmp_path / "j", start)
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
        book, now = journal(tmp_path / "j", NOON)
        with book:
            book.coverage([Total("2026-05-01T12", "analysed", "", 600 * RATE)])
            now[0] = NOON + timedelta(minutes=10)
            book.close({})
    (hour,) = coverage(tmp_path / "j")["hours"]
    assert (hour["seconds"], hour["not_running"], hour["over"]) == (600, 0, 600)


def test_a_files_hours_are_those_of_its_stream(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    book, _ = journal(tmp_path / "j", NOON, live=False)
    with book:
        book.coverage([Total("0", "analysed", "", 3600 * RATE), Total("1", "invalid", "nan", 5)])
        book.close({})
    assert call("coverage", str(tmp_path / "j"), "--json") == 0
    done = json.loads(capsys.readouterr().out)
    assert [row["seconds"] for row in done["hours"]] == [3600, pytest.approx(5 / RATE, abs=1e-6)]
    assert done["total"]["not_running"] == 0
    assert call("coverage", str(tmp_path / "j")) == 0
    assert "forest.wav" in capsys.readouterr().out
