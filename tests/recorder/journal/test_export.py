"""Export: what leaves a journal is what is in it, whole, and no formula."""

from __future__ import annotations

import csv
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from command_line import exit_status
from hypothesis import given
from hypothesis import strategies as st
from journal_rows import NOON, RATE, clocked
from old_journal import old_journal

from edgeprune_device.detection.events import Detection
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.journal import export as journal_export
from edgeprune_device.journal.coverage_report import coverage
from edgeprune_device.journal.export import DetectionFilter, export, safe_cell
from edgeprune_device.journal.stream_time import TimeFacts


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    book, _ = clocked(tmp_path / "j", NOON)
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
    exit_status("export", str(folder), "-o", str(out), *options)
    with out.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


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
    assert exit_status("export", str(filled), "-o", str(tmp_path / "out.jsonl")) == 0
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
        (("missing", "-o", "out.csv"), "There is no journal in missing"),
        (("j", "-o", "out.txt"), "out.txt is neither .csv nor .jsonl"),
        (("j", "-o", "nowhere/out.csv"), "There is no folder"),
        (("j", "-o", "out.csv", "--since", "yesterday"), "'yesterday' is not a date or time"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence_and_no_file(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...],
    sentence: str, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert exit_status("export", *arguments) == 2
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
        export(filled, tmp_path / "out.csv", DetectionFilter())
    assert (tmp_path / "out.csv").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["j", "out.csv"]


def test_a_journal_can_be_exported_while_a_recorder_writes_to_it(tmp_path: Path) -> None:
    book, _ = clocked(tmp_path / "j", NOON)
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
