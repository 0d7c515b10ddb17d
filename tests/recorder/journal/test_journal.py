"""The journal: the same rows in SQLite and JSON lines, sessions side by side, nothing overwritten."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from journal_rows import NOON, ROBIN, ask, journal, lines, rows

from edgeprune_device.detection.events import Detection
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.journal.journal import Total
from edgeprune_device.journal.stream_time import TimeFacts
from edgeprune_device.stream import Notice


def test_both_hold_the_same_rows(tmp_path: Path) -> None:
    with journal(tmp_path / "j") as book:
        book.add(ROBIN, 48000)
        book.add(Detection("wren", 0.8, 9.0, 10.0), 144000)
        book.close({"windows": 3})
    known = [{k: v for k, v in row.items() if v is not None} for row in rows(tmp_path / "j")]
    assert [{k: v for k, v in row.items() if k not in ("seq", "session")} for row in known] == (
        lines(tmp_path / "j")
    )
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


def test_a_folder_that_holds_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"precious")
    with pytest.raises(EdgepruneError, match="is not empty and is not a journal"):
        journal(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["photo.jpg"]
    with pytest.raises(EdgepruneError, match="is a file"):
        journal(tmp_path / "photo.jpg")


def test_two_recorders_may_write_to_one_journal(tmp_path: Path) -> None:
    with journal(tmp_path / "j", live=True, hour=9) as early:
        early.add(ROBIN, 48000)
        with journal(tmp_path / "j", live=True, hour=10) as late:
            late.add(ROBIN, 48000)
            early.add(Detection("wren", 0.8, 9.0, 10.0), 144000)
            late.close({})
        early.close({})
    assert [line["utc"][11:13] for line in lines(tmp_path / "j")] == ["09", "10", "09"]
    assert {line["id"] for line in lines(tmp_path / "j")} == {r["id"] for r in rows(tmp_path / "j")}


FULL_DISK = """
import resource, sys
from datetime import UTC, datetime
from pathlib import Path
from edgeprune_device.detection.events import Detection
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.journal import writer
from edgeprune_device.journal.journal import Journal
writer.CLOSE_SECONDS = 0.2  # it is full and stays so
folder = Path(sys.argv[1])
try:
    with Journal(folder, "b", "d", "s", live=False, clock=lambda: datetime.now(UTC)) as book:
        book.add(Detection("robin", 0.9, 0.0, 1.0), 0)
        largest = max(file.stat().st_size for file in folder.iterdir())
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))  # no file may grow
        ACT
except EdgepruneError as error:
    print(error)
"""
ACTS = {
    "add": 'book.add(Detection("wren", 0.9, 5.0, 6.0), 5); book.close({})',
    "close": 'book.close({"bundle": "b" * 200_000})',
}


def test_a_full_disk_is_one_sentence_when_a_detection_or_the_figures_are_written(
    tmp_path: Path,
) -> None:
    for act, rows_waiting in (("add", 3), ("close", 2)):  # the event of the trouble, the end
        script = FULL_DISK.replace("ACT", ACTS[act])
        done = subprocess.run([sys.executable, "-c", script, str(tmp_path / act)],
                              capture_output=True, text=True, check=True)  # fmt: skip
        assert done.stdout.startswith(f"{rows_waiting} rows could not be written to {tmp_path}")
        assert [line["label"] for line in lines(tmp_path / act)] == ["robin"]


def test_a_folder_of_another_user_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", forbidden)
    with pytest.raises(EdgepruneError, match="cannot be written"):
        journal(tmp_path)


def test_a_detection_says_how_far_its_clock_and_its_board_can_be_trusted(tmp_path: Path) -> None:
    with journal(tmp_path / "j", live=True) as book:
        at = NOON.replace(minute=30)
        book.add(ROBIN, 48000, TimeFacts("synchronised", 0.02, 0x50000, at), 64000)
        book.close({})
    (line,) = lines(tmp_path / "j")
    assert line["clock"] == "synchronised"
    assert line["offset_bound_seconds"] == 0.02
    assert line["throttled"] == 0x50000
    assert line["utc"] == "2026-05-01T12:30:00.000+00:00"
    assert (line["first_sample"], line["last_sample"]) == (48000, 64000)


def test_totals_are_replaced_and_events_carry_their_sample(tmp_path: Path) -> None:
    with journal(tmp_path / "j", live=True, rate=16000) as book:
        for samples in (100, 200):
            book.coverage([Total("2026-05-01T12", "analysed", "", samples),
                           Total("2026-05-01T12", "dropped", "backlog", 7)])  # fmt: skip
        book.event(Notice("microphone-lost", "It is gone.", {"name": "usb"}), 1234)
        book.clip("0123456789abcdef", "clips/a.flac", 5, 16000, 900)
        assert book.pending == 0
        book.close({})
    found = ask(tmp_path / "j", "SELECT hour, kind, reason, samples FROM coverage ORDER BY kind")
    assert [tuple(row.values()) for row in found] == [
        ("2026-05-01T12", "analysed", "", 200), ("2026-05-01T12", "dropped", "backlog", 7),
    ]  # fmt: skip
    (event,) = ask(tmp_path / "j", "SELECT * FROM events")
    assert (event["kind"], event["sample"], event["details"]) == (
        "microphone-lost", 1234, '{"name": "usb"}',
    )  # fmt: skip
    assert ask(tmp_path / "j", "SELECT path, samples, bytes, locked FROM clips") == [
        {"path": "clips/a.flac", "samples": 16000, "bytes": 900, "locked": 0}
    ]
