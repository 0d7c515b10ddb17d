"""Files that are there whole or not at all, and labels as folders' names."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune_device.system import files
from edgeprune_device.system.files import (
    make_folders,
    slug,
    sync_folder,
    write_whole,
    written_whole,
)


@given(st.text(max_size=400))
def test_a_slug_is_a_short_plain_name(label: str) -> None:
    made = slug(label)
    assert 1 <= len(made) <= 47
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert made[0] != "-"


def test_labels_that_look_alike_do_not_share_a_folder() -> None:
    alike = ["owl", "Owl", "OWL", "owl!", "öwl", "owl ", "x" * 300, "x" * 301, "..", "...", "🦉", "🐦",
             "\ud800", "\ud801"]  # fmt: skip
    assert len({slug(label) for label in alike}) == len(alike)


def test_a_label_that_is_a_folders_name_already_stays_as_it_is() -> None:
    assert [slug(x) for x in ("owl", "tawny-owl", "class-2")] == ["owl", "tawny-owl", "class-2"]
    digits = hashlib.sha256("../Größe".encode()).hexdigest()[:6]
    assert slug("../Größe") == f"grosse-{digits}"
    assert slug("🦉").startswith("label-")
    digits = hashlib.sha256(f"{'x' * 39} owl".encode()).hexdigest()[:6]
    assert slug(f"{'x' * 39} owl") == f"{'x' * 39}-{digits}"


@pytest.mark.parametrize("sync", [False, True])
def test_a_file_is_written_whole_bytes_as_they_are_and_text_as_utf8(
    tmp_path: Path, sync: bool
) -> None:
    write_whole(tmp_path / "a", b"\x00\xff", sync=sync)
    write_whole(tmp_path / "b", "Größe\r\n", sync=sync)
    assert (tmp_path / "a").read_bytes() == b"\x00\xff"
    assert (tmp_path / "b").read_bytes() == "Größe\r\n".encode()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_the_name_holds_the_old_content_until_all_of_the_new_is_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with written_whole(tmp_path / "a") as partial:
        partial.write_text("half")
        assert (tmp_path / "a").read_text() == "old"
        assert partial.parent == tmp_path  # the same file system
        partial.write_text("new")
    assert (tmp_path / "a").read_text() == "new"


@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt(), ValueError()])
def test_what_was_begun_is_gone_and_the_old_content_there_when_writing_fails(
    tmp_path: Path, error: BaseException
) -> None:
    def fail() -> None:
        with written_whole(tmp_path / "a") as partial:
            partial.write_text("half")
            raise error

    (tmp_path / "a").write_text("old")
    with pytest.raises(type(error)):
        fail()
    assert (tmp_path / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_disk_that_takes_a_part_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    """A real full disk: no file may grow over 1,000 bytes."""
    program = (
        "import resource, signal, sys\nfrom pathlib import Path\n"
        "from edgeprune_device.system.files import write_whole\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    write_whole(Path(sys.argv[1]), bytes(5000), sync=True)\n"
        "except OSError as error:\n    print(error.strerror)\n"
    )
    (tmp_path / "a").write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "a"], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert done.stdout == "File too large\n"
    assert (tmp_path / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_another_place_to_write_to_is_used_and_cleared(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    with written_whole(tmp_path / "inner" / "a", tmp_path / "aside") as partial:
        assert partial == tmp_path / "aside"
        partial.write_text("new")
        assert list((tmp_path / "inner").iterdir()) == []
    assert (tmp_path / "inner" / "a").read_text() == "new"
    assert not (tmp_path / "aside").exists()


def test_with_sync_the_content_is_on_the_disk_before_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, fsync, replace = list[str](), os.fsync, Path.replace

    def synced(number: int) -> None:
        done.append(f"synced {os.readlink(f'/proc/self/fd/{number}').rpartition('/')[2]}")
        fsync(number)

    def renamed(path: Path, target: Path) -> Path:
        done.append(f"{path.name} becomes {target.name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    write_whole(tmp_path / "a", b"x", sync=True)
    assert done == ["synced a.partial", "a.partial becomes a"]
    done.clear()
    write_whole(tmp_path / "a", b"x")
    assert done == ["a.partial becomes a"]


def test_a_folder_that_is_not_there_is_an_error_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "no" / "a", b"x")
    assert list(tmp_path.iterdir()) == []


def test_each_folder_that_is_made_is_brought_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = list[str]()
    monkeypatch.setattr(files, "sync_folder", lambda folder: synced.append(folder.name))
    make_folders(tmp_path / "a" / "b" / "c")
    make_folders(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    assert synced == [tmp_path.name, "a", "b"]


def test_a_file_in_a_folders_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with pytest.raises(OSError, match=r"File exists|Not a directory"):
        make_folders(tmp_path / "a" / "b")
    sync_folder(tmp_path)
    with pytest.raises(OSError, match="Not a directory"):
        sync_folder(tmp_path / "a")
