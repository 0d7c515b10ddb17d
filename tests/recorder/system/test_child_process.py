"""A module of ours in a process of its own: found whatever the folder, given nothing to read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import edgeprune_device
from edgeprune_device.system.child_process import run_module

TELL = """
import json, sys
print(json.dumps([sys.argv[1:], sys.executable, sys.path, sys.stdin.read()]))
"""


def test_it_is_this_python_with_the_arguments_as_they_are_and_nothing_on_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tell.py").write_text(TELL)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with typed(b"a secret"):
        done = run_module("tell", ["--a", "b c", "$HOME"], 60)
    arguments, python, places, heard = json.loads(done.stdout)
    assert (arguments, python, heard) == (["--a", "b c", "$HOME"], sys.executable, "")
    ours = Path(edgeprune_device.__file__).resolve().parents[1]
    assert places[:2] == [str(ours), str(tmp_path)]


@contextmanager
def typed(data: bytes) -> Iterator[None]:
    """Have something on this process's standard input."""
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    kept = os.dup(0)
    os.dup2(reader, 0)
    try:
        yield
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(reader)


def test_our_package_is_found_from_any_folder_and_the_folder_itself_is_not_looked_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of the working folder that is called like ours, or like one of Python's, is no danger."""
    (tmp_path / "edgeprune_device.py").write_text("raise SystemExit('the wrong one')")
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    done = run_module("edgeprune_device.inference.self_test", ["--help"], 60)
    assert done.returncode == 0, done.stderr
    assert "digest" in done.stdout


def test_how_it_ended_and_what_it_said_are_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fail.py").write_text(
        "import sys\nsys.stdout.buffer.write(b'caf\\xe9')\nsys.stderr.write('no')\nsys.exit(3)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = run_module("fail", [], 60)
    assert (done.returncode, done.stdout, done.stderr) == (3, "caf\ufffd", "no")


def test_one_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow.py").write_text(
        f"import os, pathlib, time\npathlib.Path({str(tmp_path / 'pid')!r})"
        ".write_text(str(os.getpid()))\ntime.sleep(600)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for patience in (0.5, 2.0, 8.0, 32.0):  # until it has begun: the machine may be busy
        with pytest.raises(subprocess.TimeoutExpired):
            run_module("slow", [], patience)
        if (tmp_path / "pid").exists():
            break
    pid = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
