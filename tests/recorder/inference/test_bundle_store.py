"""Installing and taking back: whatever happens, the current bundle is a whole one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from faults_table import Tally
from full_disk import fill, small_disk
from tiny_bundle import make_bundle

from edgeprune_device.bundle.reader import Bundle, read_bundle
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.bundle_store import Installed, install, resolve, rollback


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return [make_bundle(folder / name, seed=n) for n, name in enumerate(("one", "two", "three"))]


def fine(_path: Path, _digest: str) -> float:
    return 0.0


def digest(path: Path) -> str:
    return read_bundle(resolve(path)).digest


def entries(store: Path) -> set[str]:
    return {entry.name for entry in store.iterdir()} - {".lock"}


def test_a_bundle_is_installed_proved_and_current(bundles: list[Path], tmp_path: Path) -> None:
    store = tmp_path / "store"
    done = install(bundles[0], store)
    assert done.changed
    assert done.previous == ""
    assert 0 <= done.golden_difference <= 1e-4
    assert done.name == f"one-{done.digest[:12]}"
    assert digest(store / "current") == digest(store) == digest(bundles[0])
    assert entries(store) == {done.name, "current"}


def test_a_zip_is_unpacked(bundles: list[Path], tmp_path: Path) -> None:
    packed = tmp_path / "one.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for path in bundles[0].rglob("*"):
            if path.is_file():
                file.write(path, path.relative_to(bundles[0]).as_posix())
    install(packed, tmp_path / "store", prove=fine)
    assert digest(tmp_path / "store") == digest(bundles[0])


def test_the_one_before_is_kept_older_ones_go_and_rollback_goes_back_and_forth(
    bundles: list[Path], tmp_path: Path
) -> None:
    names = [install(path, tmp_path, prove=fine).name for path in bundles]
    assert entries(tmp_path) == {names[1], names[2], "current", "previous"}
    assert rollback(tmp_path, prove=fine).name == names[1]
    assert digest(tmp_path) == digest(bundles[1])
    assert rollback(tmp_path, prove=fine).name == names[2]
    assert digest(tmp_path) == digest(bundles[2])


def test_installing_the_current_one_again_changes_nothing(
    bundles: list[Path], tmp_path: Path
) -> None:
    for path in bundles[:2]:
        install(path, tmp_path, prove=fine)
    done = install(bundles[1], tmp_path, prove=fine)
    assert not done.changed
    assert done.previous.startswith("one-")


def test_without_a_previous_one_there_is_no_way_back(bundles: list[Path], tmp_path: Path) -> None:
    with pytest.raises(EdgepruneError, match="is not a bundle store"):
        rollback(tmp_path)
    install(bundles[0], tmp_path / "store", prove=fine)
    with pytest.raises(EdgepruneError, match="no bundle before one-"):
        rollback(tmp_path / "store", prove=fine)


def spoiled(bundle: Path, folder: Path) -> Path:
    shutil.copytree(bundle, folder)
    with (folder / "model.onnx").open("r+b") as file:
        file.seek(100)
        file.write(b"\xff")
    return folder


def test_a_bundle_that_is_refused_leaves_the_current_one(
    bundles: list[Path], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    install(bundles[0], store, prove=fine)
    before = entries(store)
    with pytest.raises(EdgepruneError, match="SHA-256 differs"):
        install(spoiled(bundles[1], tmp_path / "bad"), store, prove=fine)

    def differs(_path: Path, _digest: str) -> float:
        raise EdgepruneError("has other scores", "", 1)

    with pytest.raises(EdgepruneError, match="has other scores"):
        install(bundles[1], store, prove=differs)
    assert entries(store) == before
    assert digest(store) == digest(bundles[0])


def test_a_bundle_that_changes_while_it_is_copied_is_refused(
    bundles: list[Path], tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(bundles[0], source)
    calls = []

    def read(path: Path) -> Bundle:
        found = read_bundle(path)
        calls.append(path)
        if len(calls) == 1:
            shutil.rmtree(source)
            shutil.copytree(bundles[1], source)
        return found

    with pytest.raises(EdgepruneError, match=r"SHA-256 differs|changed while|does not list"):
        install(source, tmp_path / "store", read=read, prove=fine)
    assert not entries(tmp_path / "store")


def test_a_model_that_kills_its_process_kills_only_the_child(
    bundles: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashing = tmp_path / "crash" / "sitecustomize.py"
    crashing.parent.mkdir()
    crashing.write_text("import os; os.abort()")
    monkeypatch.setenv("PYTHONPATH", str(crashing.parent))
    with pytest.raises(EdgepruneError, match="SIGABRT"):
        install(bundles[0], tmp_path / "store")
    assert not entries(tmp_path / "store")


def test_a_damaged_bundle_in_the_store_is_replaced(bundles: list[Path], tmp_path: Path) -> None:
    names = [install(path, tmp_path, prove=fine).name for path in bundles[:2]]
    (tmp_path / names[0] / "model.onnx").write_bytes(b"")
    with pytest.raises(EdgepruneError, match="SHA-256 differs"):
        rollback(tmp_path, prove=fine)
    assert digest(tmp_path) == digest(bundles[1])
    install(bundles[0], tmp_path, prove=fine)
    assert digest(tmp_path) == digest(bundles[0])


def test_a_folder_that_contains_something_else_is_left_alone(
    bundles: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(EdgepruneError, match=r"contains thesis\.txt and is not a bundle store"):
        install(bundles[0], tmp_path, prove=fine)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_two_commands_do_not_meet_in_a_store(bundles: list[Path], tmp_path: Path) -> None:
    def meanwhile(_path: Path, _digest: str) -> float:
        with pytest.raises(EdgepruneError, match="Another edgeprune process is using"):
            install(bundles[1], tmp_path, prove=fine)
        return 0.0

    install(bundles[0], tmp_path, prove=meanwhile)
    assert digest(tmp_path) == digest(bundles[0])


def test_a_recorder_hears_of_a_swap_once(bundles: list[Path], tmp_path: Path) -> None:
    names = [install(path, tmp_path, prove=fine).name for path in bundles[:1]]
    for path in (tmp_path, tmp_path / "current"):
        watch = Installed(path)
        assert watch.folder.name == names[0]
        assert watch.changed() is None
        install(bundles[1], tmp_path, prove=fine)
        assert (found := watch.changed()) is not None
        assert digest(found) == digest(bundles[1])
        assert watch.changed() is None
        rollback(tmp_path, prove=fine)
        assert (found := watch.changed()) is not None
        assert digest(found) == digest(bundles[0])
    (tmp_path / "current").unlink()
    assert watch.changed() is None


def test_a_bundle_that_is_no_link_never_changes(bundles: list[Path]) -> None:
    watch = Installed(bundles[0])
    assert watch.folder == bundles[0]
    assert watch.changed() is None


def test_a_link_that_leads_nowhere_is_said(tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to("gone-0123456789ab")
    with pytest.raises(EdgepruneError, match="which does not exist"):
        resolve(tmp_path / "current")


@pytest.mark.fault("F2")
def test_a_full_disk_leaves_the_current_bundle(
    bundles: list[Path], tmp_path: Path, tally: Tally
) -> None:
    """20 fillings of a tmpfs, from no room to more than enough: refused, or installed whole."""
    installed = 0
    with small_disk(tmp_path, "tmpfs", 8) as disk:
        store = disk / "store"
        install(bundles[0], store, prove=fine)
        for number in range(20):
            other = fill(disk, leave=1 + number * 100_000)
            try:
                new = install(bundles[1], store, prove=fine)
                assert digest(store) == digest(bundles[1])
                rollback(store, prove=fine)
                shutil.rmtree(store / new.name)
                installed += 1
            except EdgepruneError as error:
                problem = str(error)
            assert digest(store) == digest(bundles[0])
            other.unlink()
    assert "No space left" in problem
    assert 3 <= installed <= 17
    tally(20, 0, f"{20 - installed} installations refused, {installed} whole")


KILLER = """
import json, os, signal, shutil, sys
from pathlib import Path
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.inference.bundle_store import install, resolve, rollback
old, new, base, way = *map(Path, sys.argv[1:4]), sys.argv[4]
digests = {read_bundle(path).digest for path in (old, new)}
start, seen, point = base / "start", {}, 0
fine = lambda path, digest: 0.0
install(new, start, prove=fine)
install(old, start, prove=fine)
if way == "install":
    (start / "previous").unlink()
    [shutil.rmtree(p) for p in start.glob("two-*")]
while True:
    store = base / f"store-{point}"
    shutil.copytree(start, store, symlinks=True)
    child = os.fork()
    if not child:
        calls = 0
        def hook(event, arguments):
            global calls
            if event.split(".")[0] in ("open", "os", "shutil", "fcntl"):
                calls += 1
                if calls == point + 1:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        (install(new, store, prove=fine) if way == "install" else rollback(store, prove=fine))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    found = read_bundle(resolve(store / "current")).digest
    assert found in digests, point
    seen[found] = seen.get(found, 0) + 1
    install(new, store, prove=fine)  # and what was interrupted is done at the next try
    assert read_bundle(resolve(store)).digest == read_bundle(new).digest
    left = {p.name for p in store.iterdir()} - {"current", "previous", ".lock"}
    assert len(left) <= 2 and all((store / name / "bundle.json").is_file() for name in left), left
    shutil.rmtree(store)
    point += 1
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0, point
        break
print(json.dumps([point, seen]))
"""


@pytest.mark.fault("F1")
@pytest.mark.parametrize("way", ["install", "rollback"])
def test_killed_before_any_of_its_calls_there_is_a_whole_current_bundle(
    bundles: list[Path], tmp_path: Path, way: str, tally: Tally
) -> None:
    """SIGKILL before every file operation of the command in turn, each in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(bundles[0]), str(bundles[1]), str(tmp_path), way],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    points, seen = json.loads(done.stdout)
    assert points > 15
    assert len(seen) == 2, "killed before the swap, and after it"
    tally(points, 0, f"{way}: a whole bundle at all {points} points")
