"""A bundle's files: out of a folder or a zip the same bytes, and nothing that is no file."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest
from bundle_edits import zipped

from edgeprune_device.bundle import files
from edgeprune_device.bundle.files import opened
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.errors import EdgepruneError


def link(folder: Path) -> None:
    (folder / "model.onnx").rename(folder.parent / "elsewhere.onnx")
    (folder / "model.onnx").symlink_to(folder.parent / "elsewhere.onnx")


def test_a_link_out_of_the_folder_is_not_followed(folder: Path) -> None:
    link(folder)
    with pytest.raises(EdgepruneError, match=r"its file model\.onnx cannot be read"):
        read_bundle(folder)
    (folder / "model.onnx").unlink()
    (folder.parent / "elsewhere.onnx").rename(folder / "model.onnx")
    (folder / "more").symlink_to(folder.parent)
    with pytest.raises(EdgepruneError, match=r"'more', which bundle\.json does not list"):
        read_bundle(folder)


def test_a_zip_gives_the_same_names_folders_and_bytes_as_its_folder(
    folder: Path, tmp_path: Path
) -> None:
    packed = zipped(folder, tmp_path / "b.zip")
    wanted = {path.relative_to(folder).as_posix(): path.read_bytes()
              for path in folder.rglob("*") if path.is_file()}  # fmt: skip
    for place in (folder, packed):
        with opened(place) as held:
            assert held.names() == set(wanted)
            assert held.folders() == ({"golden"} if place == folder else set())  # no entry of it
            assert {name: held.read(name, 1 << 20) for name in wanted} == wanted


def test_a_file_that_is_longer_than_it_may_be_is_not_read_to_its_end(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(bytes(10_000_000))
    tracemalloc.start()
    try:
        with opened(folder) as held:
            assert held.read("model.onnx", 100) == bytes(101)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["nothing", "golden/nothing", "nowhere/0.npy", "model.onnx/x"])
def test_a_file_that_is_not_there_is_named(name: str, folder: Path, tmp_path: Path) -> None:
    for place in (folder, zipped(folder, tmp_path / "b.zip")):
        with opened(place) as held, pytest.raises(EdgepruneError, match=f"it has no file {name}"):
            held.read(name, 100)


def test_what_is_no_file_is_a_name_that_cannot_be_read(folder: Path) -> None:
    """A pipe nobody writes to and a link that leads into the bundle itself."""
    os.mkfifo(folder / "pipe")
    (folder / "alias").symlink_to("model.onnx")
    with opened(folder) as held:
        assert {"pipe", "alias"} <= held.names()
        with pytest.raises(EdgepruneError, match="pipe in it is not a regular file"):
            held.read("pipe", 100)
        with pytest.raises(EdgepruneError, match="its file alias cannot be read"):
            held.read("alias", 100)


def test_a_folder_inside_a_folder_and_too_many_files_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST_ENTRIES", 8)
    (folder / "golden" / "more").mkdir()
    with opened(folder) as held, pytest.raises(EdgepruneError, match="is a folder inside a folder"):
        held.names()
    (folder / "golden" / "more").rmdir()
    for number in range(3):
        (folder / f"{number}").touch()
    with opened(folder) as held, pytest.raises(EdgepruneError, match="it has over 8 files"):
        held.names()


def test_no_file_stays_open_whatever_happens(folder: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with opened(folder) as held:
        held.names()
        held.read("golden/0.input.npy", 10)
        with pytest.raises(EdgepruneError):
            held.read("golden/nothing", 10)
    with pytest.raises(EdgepruneError, match="is a directory"), opened(folder):
        raise IsADirectoryError(21, "is a directory")
    assert os.listdir("/proc/self/fd") == before


def test_what_is_said_of_a_hostile_bundle_is_short() -> None:
    error = files.bad(Path("b"), "x" * 100_000)
    assert len(str(error)) < 500
    assert (error.hint, error.status) == ("Copy it again from the workstation.", 2)
