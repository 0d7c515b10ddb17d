"""The journal: the same rows in SQLite and JSON lines, sessions side by side, nothing overwritten."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from old_journal import OLD_LINES, old_journal

from edgeprune_device.detection.events import Detection
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.journal import jsonl as lines_module
from edgeprune_device.journal.journal import Journal, Total
from edgeprune_device.journal.stream_time import TimeFacts
from edgeprune_device.stream import Notice

NOON = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
ROBIN = Detection("robin", 0.91234567, 3.0, 4.0)


def journal(folder: Path, *, live: bool = False, hour: int = 12, **options: Any) -> Journal:
    return Journal(
        folder, "birds", "d" * 64, "forest.wav", live=live, clock=lambda: NOON.replace(hour=hour),
        **options,
    )  # fmt: skip


def ask(folder: Path, question: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(folder / "journal.sqlite")) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute(question)]


def rows(folder: Path) -> list[dict[str, Any]]:
    return ask(folder, "SELECT * FROM detections ORDER BY start_seconds")


def events(folder: Path) -> list[str]:
    return [row["kind"] for row in ask(folder, "SELECT kind FROM events ORDER BY seq")]


def lines(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "detections.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


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


def test_what_a_power_cut_leaves_apart_is_put_right_when_the_journal_is_opened_again(
    tmp_path: Path,
) -> None:
    with journal(tmp_path / "j") as book:
        book.add(ROBIN, 48000)
        book.add(Detection("wren", 0.8, 9.0, 10.0), 144000)
        book.close({})
    file = tmp_path / "j" / "detections.jsonl"
    whole = file.read_bytes()
    first = whole.index(b"\n") + 1
    for torn in (whole[:-20], whole[:first], b"", whole + b'{"id": "of no row"}\n'):
        file.write_bytes(torn)
        with journal(tmp_path / "j") as book:
            assert file.read_bytes() == whole
            book.close({})


def test_two_listeners_may_write_to_one_journal(tmp_path: Path) -> None:
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
from edgeprune_device.journal.journal import Journal
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
    with pytest.raises(EdgepruneError, match="written by a later edgeprune"):
        journal(tmp_path / "j")


@pytest.mark.parametrize("damage", ["header", "middle", "missing"])
def test_a_malformed_database_is_kept_and_a_new_one_filled_from_the_lines(
    tmp_path: Path, damage: str
) -> None:
    folder, file = tmp_path / "j", tmp_path / "j" / "journal.sqlite"
    with journal(folder, live=True) as book:
        for index in range(300):
            book.add(Detection(f"bird {index}", 0.5, index, index + 1.0), index)
        book.close({})
    before, text = rows(folder), (folder / "detections.jsonl").read_bytes()
    data = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    else:
        start = 0 if damage == "header" else 4096
        data[start : start + 12000] = b"\xa5" * 12000
        file.write_bytes(data)
    with journal(folder, live=True, hour=13) as book:
        book.add(ROBIN, 48000)
        book.close({})
    columns = set(before[0]) - {"session", "seq"}
    assert [{k: r[k] for k in columns} for r in ask(folder, "SELECT * FROM detections ORDER BY seq")
            ][:300] == [{k: r[k] for k in columns} for r in before]  # fmt: skip
    assert (folder / "detections.jsonl").read_bytes().startswith(text)
    kept = list(folder.glob("journal-malformed-*.sqlite"))
    assert [path.read_bytes() for path in kept] == [bytes(data)] * (damage != "missing")
    told = ["journal-rebuilt"] if damage == "missing" else ["journal-malformed", "journal-rebuilt"]
    assert events(folder) == told


def test_lines_that_say_nothing_are_kept_when_the_database_is_lost(tmp_path: Path) -> None:
    with journal(tmp_path / "j") as book:
        book.add(ROBIN, 48000)
        book.close({})
    (tmp_path / "j" / "journal.sqlite").write_bytes(b"no database" * 100)
    file = tmp_path / "j" / "detections.jsonl"
    spoiled = b'{"id": 3}\n' + file.read_bytes() + b"[1]\n\x00\x00\n"
    file.write_bytes(spoiled)
    journal(tmp_path / "j").close({})
    (kept,) = (tmp_path / "j").glob("detections-malformed-*.jsonl")
    assert kept.read_bytes() == spoiled
    assert [line["label"] for line in lines(tmp_path / "j")] == ["robin"]


def test_an_exit_without_an_end_is_told_at_the_next_start_with_the_last_sign_of_life(
    tmp_path: Path,
) -> None:
    with journal(tmp_path / "j", live=True, hour=9) as book:
        book.add(ROBIN, 48000)
    journal(tmp_path / "j", live=True, hour=10).close({})
    journal(tmp_path / "j", live=True, hour=11).close({})
    (event,) = ask(tmp_path / "j", "SELECT * FROM events")
    assert event["kind"] == "unclean-exit"
    assert json.loads(event["details"])["last_alive"] == "2026-05-01T09:00:00.000+00:00"
    assert [row["clean"] for row in ask(tmp_path / "j", "SELECT clean FROM sessions")] == [0, 1, 1]


def test_a_second_recorder_does_not_take_the_first_for_dead(tmp_path: Path) -> None:
    with journal(tmp_path / "j", live=True, hour=9) as early:
        with journal(tmp_path / "j", live=True, hour=10) as late:
            late.add(ROBIN, 48000)
            late.close({})
        early.close({})
    assert events(tmp_path / "j") == []
    assert [row["clean"] for row in ask(tmp_path / "j", "SELECT clean FROM sessions")] == [1, 1]


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


def test_a_row_no_database_would_take_is_counted_and_holds_nobody_up(tmp_path: Path) -> None:
    with journal(tmp_path / "j", live=True) as book:
        book.add(Detection("robin", float("nan"), 1.0, 2.0), 1)
        book.add(Detection("wren \ud800", 0.5, 3.0, 4.0), 3)
        assert (book.pending, book.lost, book.trouble) == (0, 1, "")
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


def test_months_of_lines_are_not_read_at_a_start_that_finds_nothing_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with journal(tmp_path / "j") as book:
        for index in range(20):
            book.add(Detection("robin", 0.5, index, index + 1.0), index)
        book.close({})

    def read(*_: object) -> None:
        raise AssertionError("the lines were read")

    with (tmp_path / "j" / "detections.jsonl").open("ab") as file:
        file.write(b'{"id": "torn')  # a cut in the middle of a line needs no reading, either
    monkeypatch.setattr(lines_module.Lines, "_rewrite_from_first_difference", read)
    journal(tmp_path / "j").close({})
    assert len(lines(tmp_path / "j")) == 20
