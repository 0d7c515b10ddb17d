"""detections.jsonl: one line a row, mended where it differs, and read only then."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from journal_rows import ROBIN, journal, lines

from edgeprune_device.detection.events import Detection
from edgeprune_device.journal import jsonl as lines_module
from edgeprune_device.journal.jsonl import KEYS, Lines, line_of


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


def test_a_line_holds_what_is_known_and_no_number_that_json_cannot_hold() -> None:
    known = dict.fromkeys(KEYS, None) | {"id": "a", "label": "Bébé", "score": 0.5}
    assert line_of(known.values()) == '{"id": "a", "label": "Bébé", "score": 0.5}\n'.encode()
    with pytest.raises(ValueError, match="not JSON compliant"):
        line_of((known | {"score": float("nan")}).values())


def test_a_line_that_was_written_in_part_is_cut_off_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills up takes a part, and for a while lets nobody shorten the file, either."""
    with closing(Lines(tmp_path)) as file:
        file.append(b"first\n")
        size, real = file.size(), file._file
        half = SimpleNamespace(write=lambda data: real.write(data[: len(data) // 2]))
        monkeypatch.setattr(file, "_file", half)
        with pytest.raises(OSError, match="No space left"):
            file.append(b"second\n")
        monkeypatch.setattr(file, "_file", SimpleNamespace(fileno=real.fileno, truncate=full))
        with pytest.raises(OSError, match="No space left"):
            file.cut(size)
        monkeypatch.setattr(file, "_file", real)
        assert file.size() == len("first\n")
        file.append(b"third\n")
    assert (tmp_path / "detections.jsonl").read_bytes() == b"first\nthird\n"


def full(_: int) -> None:
    raise OSError(28, "No space left on device")
