"""The outbox: where a sink begins and goes on, whatever became of the journal and the cursors."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from receivers import (
    Web,
    hear,
    recorder,
    unique,
    wait_for,
)
from running_sinks import kinds, running, settings

from edgeprune_device.sinks.outbox import Outbox


def test_a_sink_begins_at_the_journals_end_and_goes_on_where_it_was(tmp_path: Path) -> None:
    with Web(lambda *_: 200) as web, recorder(tmp_path / "j") as book:
        chosen = settings(webhook={"url": f"http://127.0.0.1:{web.port}"})
        hear(book, 0, 5)
        with running(chosen, tmp_path / "j") as sinks:
            names = hear(book, 5, 3)
            sinks.notify()
            wait_for(lambda: len(web.took) == 3)
        names += hear(book, 8, 3)  # while no sink runs
        with running(chosen, tmp_path / "j"):
            wait_for(lambda: len(web.took) >= 6)
    assert unique(web.took) == names


def test_what_waited_for_a_sink_is_sent_from_a_database_that_was_rebuilt(tmp_path: Path) -> None:
    with Web(lambda *_: 200) as web:
        chosen = settings(webhook={"url": f"http://127.0.0.1:{web.port}"})
        with recorder(tmp_path / "j") as book:
            hear(book, 0, 4)
            book.close({})
        with running(chosen, tmp_path / "j"), recorder(tmp_path / "j") as book:
            names = hear(book, 4, 2)
            wait_for(lambda: len(web.took) == 2 or not book.pending)
            book.close({})
        with recorder(tmp_path / "j") as book:
            names += hear(book, 6, 2)
            book.close({})
        with running(chosen, tmp_path / "j"):
            wait_for(lambda: len(unique(web.took)) == 4)
        with recorder(tmp_path / "j") as book:
            names += hear(book, 8, 2)
            book.close({})
        (tmp_path / "j" / "journal.sqlite").write_bytes(b"spoiled" * 1000)
        with recorder(tmp_path / "j") as book, running(chosen, tmp_path / "j") as sinks:
            names += hear(book, 10, 1)
            sinks.notify()  # it may have looked before
            wait_for(lambda: len(unique(web.took)) == 7)
    assert unique(web.took) == names


def test_cursors_that_are_malformed_are_kept_and_told(tmp_path: Path) -> None:
    with Web(lambda *_: 200) as web, recorder(tmp_path / "j") as book:
        chosen = settings(webhook={"url": f"http://127.0.0.1:{web.port}"})
        (tmp_path / "j" / "deliveries.sqlite").write_bytes(b"spoiled" * 1000)
        with running(chosen, tmp_path / "j") as sinks:
            (name,) = hear(book, 0, 1)
            sinks.notify()
            wait_for(lambda: web.took == [name])
            assert kinds(sinks.notices()) == ["deliveries-malformed"]
    assert list((tmp_path / "j").glob("deliveries-malformed-*.sqlite"))


def test_a_full_disk_under_the_cursors_stops_no_message(tmp_path: Path) -> None:
    with Web(lambda *_: 200) as web, recorder(tmp_path / "j") as book:
        chosen = settings(webhook={"url": f"http://127.0.0.1:{web.port}"})
        with running(chosen, tmp_path / "j") as sinks:
            with closing(sqlite3.connect(tmp_path / "j" / "deliveries.sqlite")) as other:
                other.execute("DROP TABLE deliveries")  # as good as full: nothing can be kept
            names = hear(book, 0, 3)
            sinks.notify()
            wait_for(lambda: web.took == names)
            wait_for(lambda: "cursor" in sinks.status()["webhook"]["last_error"])


def test_what_waits_is_what_the_lines_say_and_the_cursor_outlives_the_outbox(
    tmp_path: Path,
) -> None:
    with recorder(tmp_path / "j") as book:
        hear(book, 0, 3)
        box = Outbox(tmp_path / "j", "webhook", "target")
        assert box.begin() == ""
        assert (box.waiting(), box.next(10)) == (0, [])
        names = hear(book, 3, 4)
        lines = (tmp_path / "j" / "detections.jsonl").read_text("utf-8").splitlines()
        found = box.next(3)
        assert [message for _, message in found] == [json.loads(line) for line in lines[3:6]]
        box.done(found[1][0], names[1])
        box.close()
        again = Outbox(tmp_path / "j", "webhook", "target")
        again.begin()
        assert [message["id"] for _, message in again.next(10)] == names[2:]
        again.skip(1)
        assert (again.waiting(), again.next(1)[0][1]["id"]) == (1, names[3])
        again.close()


def test_each_sink_and_each_address_has_a_place_of_its_own(tmp_path: Path) -> None:
    with recorder(tmp_path / "j") as book:
        boxes = [Outbox(tmp_path / "j", *owner)
                 for owner in (("webhook", "a"), ("webhook", "b"), ("mqtt", "a"))]  # fmt: skip
        for box in boxes:
            box.begin()
        names = hear(book, 0, 3)
        for number, box in enumerate(boxes, 1):
            box.done(number, names[number - 1])
        for box in boxes:
            box.begin()
        assert [box.waiting() for box in boxes] == [2, 1, 0]
        for box in boxes:
            box.close()


def test_a_place_that_another_journal_does_not_know_is_told_and_begins_at_its_end(
    tmp_path: Path,
) -> None:
    with recorder(tmp_path / "j") as book:
        box = Outbox(tmp_path / "j", "webhook", "target")
        box.begin()
        hear(book, 0, 2)
        box.done(9, "of another one")
        box.close()
        assert box.begin() == (
            "The last sent detection is not in the journal; sending begins at its end."
        )
        assert box.waiting() == 0
        box.close()
        assert box.begin() == ""  # told once
        box.close()


def test_the_journal_is_never_written_by_an_outbox(tmp_path: Path) -> None:
    recorder(tmp_path / "j").close({})
    box = Outbox(tmp_path / "j", "webhook", "target")
    box.begin()
    assert box._journal is not None
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        box._journal.execute("DELETE FROM detections")
    box.close()
