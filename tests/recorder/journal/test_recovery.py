"""What is put right when a journal is opened: a lost database, a malformed one, an unclean exit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from journal_rows import ROBIN, ask, events, journal, lines, rows

from edgeprune_device.detection.events import Detection


@pytest.mark.parametrize("damage", ["header", "middle", "missing"])
def test_a_malformed_database_is_kept_and_a_new_one_filled_from_the_lines(
    tmp_path: Path, damage: str
) -> None:
    folder, file = tmp_path / "j", tmp_path / "j" / "journal.sqlite"
    with journal(folder, live=True) as book:
        for index in range(120):
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
            ][:120] == [{k: r[k] for k in columns} for r in before]  # fmt: skip
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
