"""Stages: made once, reused, made again when what they read changed, never half there."""

from __future__ import annotations

import errno
import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeprune.core.console import Silent
from edgeprune.core.settings import LATER
from edgeprune.core.stages import Run, open_run, stage_key
from edgeprune_device.errors import EdgepruneError


@dataclass(frozen=True)
class Size:
    """Settings of the stages below."""

    count: int = 1


MADE: list[str] = []


def first(source: Path, *, out: Path, settings: Size, ui: Any) -> None:
    MADE.append("first")
    (out / "text").write_text(source.read_text() * settings.count)


def second(before: Path, *, out: Path, settings: None, ui: Any) -> None:
    MADE.append("second")
    (out / "text").write_text((before / "text").read_text().upper())


@pytest.fixture
def run(tmp_path: Path) -> Run:
    MADE.clear()
    (tmp_path / "source").write_text("a")
    return open_run(tmp_path / "run", {"command": "test"}, Silent())


def both(run: Run, count: int = 1) -> str:
    source = run.folder.parent / "source"
    before = run.stage(first, Size(count), source, name="first")
    return (run.stage(second, None, before, name="second") / "text").read_text()


def test_what_is_finished_is_reused(run: Run) -> None:
    assert both(run) == both(run) == "A"
    assert MADE == ["first", "second"]


def test_a_changed_setting_makes_the_stage_and_its_readers_again(run: Run) -> None:
    both(run)
    assert both(run, 2) == "AA"
    assert MADE == ["first", "second"] * 2


def test_a_changed_source_makes_its_readers_again(run: Run) -> None:
    both(run)
    (run.folder.parent / "source").write_text("bc")
    assert both(run) == "BC"


def test_a_stage_that_was_made_again_is_another_input(run: Run) -> None:
    both(run)
    run.delete_stage("first")
    both(run)
    assert MADE == ["first", "second"] * 2


def test_nothing_unfinished_bears_a_stages_name(run: Run) -> None:
    def breaks(*, out: Path, settings: None, ui: Any) -> None:
        (out / "half").write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        run.stage(breaks, None, name="x")
    assert not (run.folder / "x").exists()


def test_an_interrupted_stage_finds_its_own_files_again_but_not_anothers(run: Run) -> None:
    def works(*, out: Path, settings: Size, ui: Any) -> None:
        if not (out / "checkpoint").exists():
            (out / "checkpoint").write_text(str(settings.count))
            raise KeyboardInterrupt

    for count in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            run.stage(works, Size(count), name="x")
    folder = run.stage(works, Size(2), name="x")
    assert (folder / "checkpoint").read_text() == "2"


def test_bad_input_found_by_a_stage_leaves_nothing(run: Run) -> None:
    def refuses(*, out: Path, settings: None, ui: Any) -> None:
        (out / "half").write_text("half")
        raise EdgepruneError("No.")

    with pytest.raises(EdgepruneError):
        run.stage(refuses, None, name="x")
    assert [p.name for p in run.folder.iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("number", "sentence"), [(errno.ENOSPC, "The disk is full"), (errno.EROFS, "cannot be written")]
)
def test_what_the_file_system_refuses_is_one_sentence(number: int, sentence: str, run: Run) -> None:
    def writes(*, out: Path, settings: None, ui: Any) -> None:
        raise OSError(number, "no")

    with pytest.raises(EdgepruneError, match=sentence) as error:
        run.stage(writes, None, name="x")
    assert error.value.status == 2


@pytest.mark.parametrize(
    "error", [OSError("9 requested and 3 written"), RuntimeError("unexpected pos")]
)
def test_a_full_disk_is_known_by_its_room_whatever_a_library_calls_it(
    error: Exception, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def writes(*, out: Path, settings: None, ui: Any) -> None:
        raise error

    with pytest.raises(type(error), match=str(error)):  # there is room: it is something else
        run.stage(writes, None, name="x")
    monkeypatch.setattr(
        "edgeprune.core.stages.shutil.disk_usage", lambda _: SimpleNamespace(free=4096)
    )
    with pytest.raises(EdgepruneError, match="The disk is full"):
        run.stage(writes, None, name="x")


def test_what_was_begun_with_other_settings_goes_when_the_old_ones_come_back(run: Run) -> None:
    def works(*, out: Path, settings: Size, ui: Any) -> None:
        if settings.count == 2:
            raise KeyboardInterrupt

    run.stage(works, Size(1), name="x")
    with pytest.raises(KeyboardInterrupt):
        run.stage(works, Size(2), name="x")
    run.stage(works, Size(1), name="x")
    assert sorted(p.name for p in run.folder.iterdir()) == ["run.json", "x"]


def test_a_run_is_abandoned_only_while_nothing_in_it_took_work(run: Run) -> None:
    def works(*, out: Path, settings: None, ui: Any) -> None: ...

    run.stage(works, None, name="clips")
    run.stage(works, None, name="seed-0/teach")
    run.delete_if_unused("clips")
    assert (run.folder / "seed-0" / "teach").is_dir()
    run.delete_stage("seed-0/teach")
    (run.folder / "seed-0").rmdir()
    run.delete_if_unused("clips")
    assert not run.folder.exists()


def test_a_folder_of_another_run_is_refused(run: Run) -> None:
    with pytest.raises(EdgepruneError, match="its command is test, not other"):
        open_run(run.folder, {"command": "other"}, Silent())
    (run.folder.parent / "file").write_text("x")
    with pytest.raises(EdgepruneError, match="is a file, but an output folder is needed"):
        open_run(run.folder.parent / "file", {}, Silent())
    assert json.loads((run.folder / "run.json").read_text()) == {"command": "test"}


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_text("precious")
    with pytest.raises(EdgepruneError, match="is not empty and holds no edgeprune run"):
        open_run(tmp_path, {"command": "test"}, Silent())
    assert [p.name for p in tmp_path.iterdir()] == ["cat.jpg"]


def test_a_damaged_run_record_is_one_sentence(run: Run) -> None:
    for text in ("", "{", "3"):
        (run.folder / "run.json").write_text(text)
        with pytest.raises(EdgepruneError, match=r"run\.json cannot be read, so the run"):
            open_run(run.folder, {"command": "test"}, Silent())


def test_a_full_disk_does_not_cost_a_run_its_record(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a record is not left behind, and the record of an earlier command is not touched."""

    def full(path: Path, *_: object) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, "no")

    new = run.folder.parent / "new"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        open_run(run.folder, {"command": "test"}, Silent())
        with pytest.raises(EdgepruneError, match="The disk is full"):
            open_run(new, {"command": "test"}, Silent())
    for folder in (run.folder, new):
        assert open_run(folder, {"command": "test"}, Silent()).folder == folder


@dataclass(frozen=True)
class Grown(Size):
    """The same settings, with a field that was added later."""

    more: int = field(default=5, metadata={LATER: True})


def test_a_field_added_later_changes_no_key_until_it_is_used(tmp_path: Path) -> None:
    before = stage_key(first, Size(3), (tmp_path,))
    assert stage_key(first, Grown(3), (tmp_path,)) == before
    assert stage_key(first, Grown(3, more=6), (tmp_path,)) != before
    assert stage_key(first, Grown(4), (tmp_path,)) != before
