"""The spool: rows wait in order and bounded, outlive a crash, and each recorder has its own."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune_device.journal import write_queue
from edgeprune_device.journal.write_queue import Entry, Spool


def row(number: int) -> Entry:
    return "detections", {"id": f"{number}", "session": 1}


def left_in(folder: Path) -> list[Entry]:
    """Return what a recorder that starts finds."""
    with closing(Spool(folder, 10)) as spool:
        return [(table, entry) for table, entry in spool.left_behind]


def test_what_was_saved_is_there_for_the_next_recorder_and_only_once(tmp_path: Path) -> None:
    with closing(Spool(tmp_path, 10)) as spool:
        for number in range(3):
            assert spool.put(f"{number}", row(number))
        assert not spool.is_saved
        assert spool.save()
        assert spool.is_saved
        spool.put("3", row(3))  # never saved: the recorder is killed before
    assert left_in(tmp_path) == [row(0), row(1), row(2)]
    with closing(Spool(tmp_path, 10)) as spool:
        spool.adopted()
        assert spool.left_behind == []
    assert left_in(tmp_path) == []


def test_a_row_that_waits_is_replaced_where_it_stands_in_memory_and_on_the_disk(
    tmp_path: Path,
) -> None:
    with closing(Spool(tmp_path, 10)) as spool:
        for key, number in (("a", 1), ("b", 2)):
            spool.put(key, row(number))
        spool.save()
        spool.put("a", row(3))
        assert not spool.is_saved
        spool.save()
        assert spool.first(5) == [("a", row(3)), ("b", row(2))]
    assert left_in(tmp_path) == [row(3), row(2)]


def test_no_more_wait_than_may_but_for_those_that_are_exempt(tmp_path: Path) -> None:
    with closing(Spool(tmp_path, 2)) as spool:
        assert spool.put("total", row(0), exempt=True)
        assert [spool.put(f"{number}", row(number)) for number in range(1, 4)] == [
            True,
            True,
            False,
        ]
        assert spool.put("1", row(9))  # it waits already
        assert spool.put("end", row(4), exempt=True)
        assert len(spool) == 4
        spool.done(["1"])
        assert spool.put("5", row(5))
        assert not spool.put("6", row(6))
        spool.done(["total"])
        assert not spool.put("6", row(6))


def test_the_file_is_emptied_with_the_last_row(tmp_path: Path) -> None:
    file = tmp_path / "spool.jsonl"
    with closing(Spool(tmp_path, 10)) as spool:
        spool.put("a", row(1))
        spool.put("b", row(2))
        spool.save()
        spool.done(["a"])
        assert file.stat().st_size > 0
        spool.done(["b"])
        assert file.stat().st_size == 0
        assert len(spool) == 0


def test_a_second_recorder_takes_another_file_and_leaves_the_firsts_rows_alone(
    tmp_path: Path,
) -> None:
    with closing(Spool(tmp_path, 10)) as first:
        first.put("a", row(1))
        first.save()
        with closing(Spool(tmp_path, 10)) as second:
            assert (second.name, second.busy, second.left_behind) == (
                "spool-2.jsonl", ["spool.jsonl"], [],
            )  # fmt: skip
            second.put("b", row(2))
            second.save()
    with closing(Spool(tmp_path, 10)) as third:  # both are dead
        assert (third.name, third.busy) == ("spool.jsonl", [])
        assert third.left_behind == [row(1), row(2)]
        third.adopted()
    assert left_in(tmp_path) == []


def test_a_line_that_a_crash_tore_is_passed_over(tmp_path: Path) -> None:
    with closing(Spool(tmp_path, 10)) as spool:
        spool.put("a", row(1))
        spool.save()
    with (tmp_path / "spool.jsonl").open("ab") as file:
        file.write(b'["b", "detections", {"id"')
    assert left_in(tmp_path) == [row(1)]


def test_a_disk_that_takes_a_part_of_a_row_is_left_without_half_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write

    def half(handle: int, data: bytes) -> int:
        return real(handle, data[: len(data) // 2])

    def full(handle: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with closing(Spool(tmp_path, 10)) as spool:
        spool.put("a", row(1))
        spool.save()
        spool.put("b", row(2))
        for write in (half, full):
            with monkeypatch.context() as patch:
                patch.setattr(os, "write", write)
                assert not spool.save()
            assert not spool.is_saved
            assert (tmp_path / "spool.jsonl").read_bytes().count(b"\n") == 1
            assert (tmp_path / "spool.jsonl").read_bytes().endswith(b"\n")
        assert spool.save()
    assert left_in(tmp_path) == [row(1), row(2)]


def test_what_comes_on_top_of_a_large_file_waits_in_memory_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_queue, "LARGEST_BYTES", 100)
    with closing(Spool(tmp_path, 1000)) as spool:
        spool.put("a", row(1))
        assert spool.save()
        spool.put("b", ("detections", {"text": "x" * 100}))
        assert not spool.save()
        assert len(spool) == 2
    assert left_in(tmp_path) == [row(1)]


STEPS = st.lists(st.tuples(st.sampled_from("psd"), st.integers(0, 5)), max_size=30)


@given(steps=STEPS)
def test_whatever_is_put_saved_and_done_the_disk_holds_the_newest_of_what_waits(
    steps: list[tuple[str, int]], new_folder: Callable[[], Path]
) -> None:
    """Against a dictionary; a row that is done may still be on the disk, but not the last one."""
    folder, oracle = new_folder(), dict[str, int]()
    with closing(Spool(folder, 100)) as spool:
        for number, (what, place) in enumerate(steps):
            key = f"{place}"
            if what == "p":
                spool.put(key, ("events", {"key": key, "number": number}))
                oracle[key] = number
            elif what == "s":
                assert spool.save()
            elif key in oracle:
                spool.done([key])
                del oracle[key]
        assert [(key, entry["number"]) for key, (_, entry) in spool.first(100)] == [*oracle.items()]
        assert spool.save()
    found = {entry["key"]: entry["number"] for _, entry in left_in(folder)}
    assert {key: found.get(key) for key in oracle} == oracle
    assert bool(oracle) or not found
