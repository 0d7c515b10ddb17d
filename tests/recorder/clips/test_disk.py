"""The disk under a journal: whether it is still the same one, and the ballast that is given up."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from edgeprune_device.clips.disk import Ballast, Disk, free_bytes


def test_a_marker_that_was_deleted_is_made_again_on_the_same_disk(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    (tmp_path / "clips" / ".store").unlink()
    assert disk.same()
    assert (tmp_path / "clips" / ".store").read_text()
    (tmp_path / "clips" / ".store").write_text("another")
    assert not disk.same()


def test_the_ballast_is_really_allocated_given_up_and_made_again(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path, 1.0)
    assert ballast.trim(2_999_999) == ""
    assert ballast.trim(3_000_000) == "made"
    assert (tmp_path / "ballast").stat().st_blocks * 512 >= 1_000_000
    assert ballast.trim(250_000) == ""
    assert ballast.trim(249_999) == "given up"
    assert not (tmp_path / "ballast").exists()
    assert ballast.trim(1_250_000) == "", "its own room does not bring it back"
    assert Ballast(tmp_path, 0).trim(10**12) == ""


def test_another_disk_in_the_folders_place_is_another_even_with_a_marker_of_its_own(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "j"
    folder.mkdir()
    disk = Disk(folder)
    assert disk.same()
    folder.rename(tmp_path / "pulled-out")
    assert not disk.same()
    folder.mkdir()
    assert not disk.same()
    Disk(folder)  # another recorder marks it
    assert not disk.same()
    (tmp_path / "pulled-out").rename(tmp_path / "back")
    assert Disk(tmp_path / "back").same()


def test_a_recorder_that_starts_again_finds_the_same_marker(tmp_path: Path) -> None:
    first = Disk(tmp_path)
    token = (tmp_path / "clips" / ".store").read_text()
    assert len(token) == 16
    assert Disk(tmp_path).same()
    assert (tmp_path / "clips" / ".store").read_text() == token
    assert first.same()


def test_where_no_marker_can_be_written_the_devices_number_decides(tmp_path: Path) -> None:
    folder = tmp_path / "j"
    folder.mkdir()
    (folder / "clips").write_text("a file in its place: as good as a full disk")
    disk = Disk(folder)
    assert disk.same()
    folder.rename(tmp_path / "pulled-out")
    folder.mkdir()
    assert not disk.same()


def test_a_ballast_that_cannot_be_allocated_is_not_there_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    ballast = Ballast(tmp_path, 1.0)
    assert ballast.trim(10**12) == ""
    assert not ballast.there
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_the_ballasts_size_without_blocks_is_none(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path, 1.0)
    with ballast.path.open("wb") as file:
        file.truncate(ballast.size)  # a hole: a full disk would get nothing from it
    assert not ballast.there
    assert ballast.trim(3_000_000) == "made"
    assert ballast.there


def test_free_bytes_are_those_that_df_says(tmp_path: Path) -> None:
    command = ["df", "--output=avail", "-B1", "/"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]
    assert free_bytes(Path("/")) == pytest.approx(int(said), abs=2e9)  # others write, too
    with pytest.raises(OSError, match="No such file"):
        free_bytes(tmp_path / "nothing")
