"""JSON records: written whole or not at all, and read back as they were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeprune.core.files import read_json, write_json

RECORD = {"name": "Möwe 🐦", "cells": [1, 2.5, None, True], "deep": {"of": ["\n", "\u2028"]}}


@pytest.mark.parametrize("indent", [1, None])
def test_a_record_is_read_back_as_it_was_written(tmp_path: Path, indent: int | None) -> None:
    write_json(tmp_path / "record.json", RECORD, indent=indent)
    assert read_json(tmp_path / "record.json") == RECORD


def test_other_programs_read_it_as_utf_8_that_ends_with_a_line(tmp_path: Path) -> None:
    write_json(tmp_path / "record.json", RECORD)
    text = (tmp_path / "record.json").read_bytes().decode("utf-8")
    assert "Möwe 🐦" in text
    assert text.endswith("}\n")
    write_json(tmp_path / "record.json", RECORD, indent=None)
    assert (tmp_path / "record.json").read_text("utf-8").count("\n") == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_json_does_not_have_leaves_what_was_there(
    tmp_path: Path, value: float
) -> None:
    path = tmp_path / "record.json"
    write_json(path, RECORD)
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"score": value})
    assert json.loads(path.read_bytes()) == RECORD
    assert [x.name for x in tmp_path.iterdir()] == ["record.json"]


def test_a_disk_that_takes_no_more_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "record.json"
    write_json(path, RECORD)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_json(path, {"other": 1})
    assert read_json(path) == RECORD
    assert [x.name for x in tmp_path.iterdir()] == ["record.json"]


def test_what_is_missing_is_an_os_error_and_what_is_no_json_a_value_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "nothing.json")
    (tmp_path / "half.json").write_text('{"a": 1', "utf-8")
    with pytest.raises(ValueError, match="delimiter"):
        read_json(tmp_path / "half.json")
    with pytest.raises(FileNotFoundError):
        write_json(tmp_path / "no" / "folder.json", 1)
