"""What field.md calls F1, F2, F3, F18 and F23, done to the journal: nothing acknowledged is lost."""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from faults_table import Tally
from journal_faults import immutable, tick_until
from repository import ROOT

from edgeprune_device.detection.events import Detection
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.journal.journal import Journal, Total
from edgeprune_device.stream import Notice

KILLS = ROOT / "tests/support/kills.py"
EXT4_SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
"""The ioctl with which file systems are tested for power cuts, and its hardest mode."""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


def recorder(folder: Path, **options: Any) -> Journal:
    return Journal(folder, "b", "d", "microphone", live=True, rate=16000,
                   clock=lambda: datetime.now(UTC), **options)  # fmt: skip


def hear(book: Journal, index: int) -> str:
    return book.add(Detection(f"bird {index % 7}", 0.9, index, index + 1.0), index * 16000)


def check(folder: Path, acknowledged: list[str]) -> list[str]:
    """Assert that a journal nobody has open is whole and holds these; return its ids in order."""
    with closing(sqlite3.connect(folder / "journal.sqlite")) as database:
        assert database.execute("PRAGMA quick_check").fetchall() == [("ok",)]
        rows = [name for (name,) in database.execute("SELECT id FROM detections ORDER BY seq")]
    lines = (folder / "detections.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["id"] for line in lines] == rows
    assert len(set(rows)) == len(rows)
    assert set(acknowledged) <= set(rows)
    return rows


def kinds(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "journal.sqlite")) as database:
        return [kind for (kind,) in database.execute("SELECT kind FROM events ORDER BY seq")]


@contextmanager
def mounted(folder: Path, *how: str) -> Iterator[Path]:
    """Mount something on a folder; skip where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", *how, folder], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mount {' '.join(how)}: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=False)


def fill(folder: Path) -> Path:
    """Take the last byte of a file system."""
    path = folder / "ballast"
    with path.open("ab", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return path


@pytest.mark.slow
@pytest.mark.fault("F1")
def test_what_a_killed_recorder_acknowledged_is_in_its_journal(
    tmp_path: Path, tally: Tally
) -> None:
    """100 kills (SIGKILL) at moments drawn by chance, in one journal. Lost: nothing acknowledged.

    The process writes detections, events and coverage as fast as it can, up to a quarter of a
    second; some are killed before the journal is open. It says an id after the commit.
    """
    done = subprocess.run(
        [sys.executable, KILLS, tmp_path / "j", "100", "1"], capture_output=True, text=True,
        check=True, timeout=300, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    lives = [json.loads(line) for line in done.stdout.splitlines()]
    acknowledged = [name for life in lives for name in life]
    assert len(lives) == 100
    assert len(acknowledged) > 200
    began = time.monotonic()
    recorder(tmp_path / "j").close({})
    assert time.monotonic() - began < 5  # the start after the last of them
    rows = check(tmp_path / "j", acknowledged)
    assert [name for name in rows if name in set(acknowledged)] == acknowledged
    assert len(rows) - len(acknowledged) <= 100  # committed, and killed before it was said
    with closing(sqlite3.connect(tmp_path / "j" / "journal.sqlite")) as database:
        ends = [clean for (clean,) in database.execute("SELECT clean FROM sessions ORDER BY id")]
    assert ends == [0] * (len(ends) - 1) + [1]
    assert kinds(tmp_path / "j").count("unclean-exit") == len(ends) - 1 >= 20
    tally(100, 0, f"{len(acknowledged):,} acknowledged rows in 100 kills, all there")


@pytest.mark.slow
@needs_root
@pytest.mark.fault("F2")
def test_a_full_disk_holds_rows_up_and_loses_none(tmp_path: Path, tally: Tally) -> None:
    """20 times: a 2 MB tmpfs is filled to the last byte, 30 detections come, space returns.

    Lost: none of 600. Each adds no more than a moment's wait.
    """
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=2m", "none") as disk:
        book = recorder(disk / "j")
        names, longest = [], 0.0
        for turn in range(20):
            ballast = fill(disk)
            for index in range(30):
                began = time.monotonic()
                names.append(hear(book, 100 * turn + index))
                longest = max(longest, time.monotonic() - began)
            assert book.pending >= 30
            assert book.lost == 0
            assert "cannot be written" in book.failure
            ballast.unlink()
            tick_until(book, lambda: not book.pending)
            assert book.failure == ""
        book.close({})
        assert check(disk / "j", names) == names
        assert kinds(disk / "j").count("journal-recovered") == 20
    assert longest < 0.6
    tally(20, 0, f"{len(names)} rows waited and were written; longest add {longest:.2f} s")


@needs_root
@pytest.mark.fault("F2")
def test_more_than_may_wait_on_a_full_disk_is_counted_and_told(
    tmp_path: Path, tally: Tally
) -> None:
    """Once: 100 detections on a full disk where 40 rows may wait. Lost: the rest, to the row."""
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=2m", "none") as disk:
        book = recorder(disk / "j", spool_rows=40)
        ballast = fill(disk)
        names = [hear(book, index) for index in range(100)]
        assert book.lost == 60
        ballast.unlink()
        tick_until(book, lambda: not book.pending)
        book.close({})
        assert check(disk / "j", []) == names[:40]
        with closing(sqlite3.connect(disk / "j" / "journal.sqlite")) as database:
            (details,) = database.execute(
                "SELECT details FROM events WHERE kind = 'rows-lost'"
            ).fetchone()
    assert json.loads(details) == {"rows": 60}
    tally(1, 0, "60 of 100 rows beyond the bound: counted and told")


@pytest.mark.fault("F2")
def test_lines_that_cannot_be_written_hold_their_rows_back_too(
    tmp_path: Path, tally: Tally
) -> None:
    """Once: detections.jsonl is /dev/full; 10 detections wait on the disk for the next start.

    Lost: none.
    """
    (tmp_path / "j").mkdir()
    (tmp_path / "j" / "detections.jsonl").symlink_to("/dev/full")
    (tmp_path / "j" / "spool.jsonl").touch()
    book = recorder(tmp_path / "j")
    names = [hear(book, index) for index in range(10)]
    assert "No space left" in book.failure
    book.close({"windows": 10})
    (tmp_path / "j" / "detections.jsonl").unlink()
    recorder(tmp_path / "j").close({})
    assert check(tmp_path / "j", names) == names
    with closing(sqlite3.connect(tmp_path / "j" / "journal.sqlite")) as database:
        assert database.execute("SELECT clean FROM sessions").fetchall() == [(1,), (1,)]
    tally(1, 0)


@pytest.mark.fault("F1")
def test_what_waited_when_the_recorder_was_killed_is_taken_in_once(
    tmp_path: Path, tally: Tally
) -> None:
    """10 kills while another program holds the database; 20 rows wait each time. Lost: none."""
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\n"
        "from test_faults_journal import hear, recorder\n"
        "book = recorder(Path(sys.argv[1]))\n"
        "print('open', flush=True); sys.stdin.readline()\n"
        "print(*[hear(book, index) for index in range(20)], flush=True); time.sleep(60)\n"
    )
    names = []
    for _ in range(10):
        child = subprocess.Popen(
            [sys.executable, "-c", script, tmp_path / "j", Path(__file__).parent], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        with child:
            assert child.stdout is not None
            assert child.stdin is not None
            assert child.stdout.readline() == "open\n"
            with closing(sqlite3.connect(tmp_path / "j" / "journal.sqlite")) as other:
                other.execute("BEGIN EXCLUSIVE")
                child.stdin.write("go\n")
                child.stdin.flush()
                names += child.stdout.readline().split()
                child.kill()
                child.wait()
    recorder(tmp_path / "j").close({})
    assert check(tmp_path / "j", names) == names
    recorder(tmp_path / "j").close({})
    assert check(tmp_path / "j", names) == names
    assert len(names) == 200
    tally(10, 0, "200 waiting rows taken in once after 10 kills")


@needs_root
@pytest.mark.fault("F3")
def test_a_read_only_folder_is_one_sentence_at_the_start(tmp_path: Path, tally: Tally) -> None:
    """Twice (a new journal, one that exists), on a read-only bind mount. Lost: nothing."""
    recorder(tmp_path / "disk" / "old").close({})
    with mounted(tmp_path / "disk", "--bind", str(tmp_path / "disk")) as disk:
        subprocess.run(["mount", "-o", "remount,bind,ro", disk], check=True)
        for name in ("old", "new"):
            with pytest.raises(EdgepruneError, match="cannot be written") as caught:
                recorder(disk / name)
            assert caught.value.status == 2
            assert "\n" not in str(caught.value)
    tally(2, 0, "one sentence at the start, status 2")


@needs_root
@pytest.mark.fault("F3")
def test_a_folder_that_becomes_read_only_is_waited_out(tmp_path: Path, tally: Tally) -> None:
    """5 times: every file of the journal becomes immutable, 10 detections come, then no longer.

    Lost: none of 50.
    """
    book = recorder(tmp_path / "j")
    names = []
    for turn in range(5):
        with immutable(tmp_path / "j"):
            names += [hear(book, 100 * turn + index) for index in range(10)]
            assert "cannot be written" in book.failure
            assert "in memory only" in book.failure
        tick_until(book, lambda: not book.pending)
    book.close({})
    assert check(tmp_path / "j", names) == names
    tally(5, 0, f"{len(names)} rows waited in memory and were written")


def locked_for(seconds: float, folder: Path, tally: Tally) -> None:
    book = recorder(folder)
    names = [hear(book, 0)]
    other = subprocess.Popen(
        [sys.executable, "-c", "import sqlite3, sys, time\n"
         "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
         "db.execute('BEGIN EXCLUSIVE'); print('held', flush=True)\n"
         f"time.sleep({seconds}); db.execute('COMMIT')\n", folder / "journal.sqlite"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    with other:
        assert other.stdout is not None
        other.stdout.readline()
        longest, index = 0.0, 0
        while other.poll() is None:
            index += 1
            began = time.monotonic()
            names.append(hear(book, index))
            book.event(Notice("sang", "It sang."), index)
            book.coverage([Total("2026-05-01T12", "analysed", "", index)])
            book.tick(time.monotonic())
            longest = max(longest, time.monotonic() - began)
            time.sleep(0.02)
    assert index > 10
    assert longest < 0.6
    tick_until(book, lambda: not book.pending, 20)
    book.close({})
    assert check(folder, names) == names
    with closing(sqlite3.connect(folder / "journal.sqlite")) as database:
        sung = database.execute("SELECT sample FROM events WHERE kind = 'sang' ORDER BY seq")
        assert [sample for (sample,) in sung] == list(range(1, index + 1))
        assert database.execute("SELECT samples FROM coverage").fetchall() == [(index,)]
    tally(
        1, 0, f"{seconds:g} s: {len(names)} rows, once and in order; longest wait {longest:.2f} s"
    )


@pytest.mark.fault("F18")
def test_another_programs_lock_holds_rows_up_and_they_are_written_once_in_order(
    tmp_path: Path,
    tally: Tally,
) -> None:
    """3 times 2 seconds of BEGIN EXCLUSIVE by another process. Lost: none; longest wait 0.6 s."""
    for turn in range(3):
        locked_for(2.0, tmp_path / str(turn), tally)


@pytest.mark.slow
@pytest.mark.fault("F18")
def test_a_minutes_lock_is_waited_out(tmp_path: Path, tally: Tally) -> None:
    """Once 60 seconds of BEGIN EXCLUSIVE by another process. Lost: none; longest wait 0.6 s."""
    locked_for(60.0, tmp_path / "j", tally)


@contextmanager
def writer(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], list[str]]]:
    """Run a recorder that writes for ever; gives it and the ids it has acknowledged so far."""
    script = (
        "import os, sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\nfrom kills import live\nlive(Path(sys.argv[1]), 1)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, folder, KILLS.parent], stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    said: list[str] = []
    with child:
        try:
            assert child.stdout is not None
            said.append(child.stdout.readline().decode().strip())
            os.set_blocking(child.stdout.fileno(), False)
            yield child, said
        finally:
            child.kill()


def acknowledged_by(child: subprocess.Popen[bytes], said: list[str]) -> list[str]:
    """Read what a recorder has said by now; a last line that is torn counts next time."""
    assert child.stdout is not None
    said[-1:] = (said[-1] + "\n" if len(said[-1]) == 16 else said[-1]).encode().decode().split("\n")
    try:
        while data := os.read(child.stdout.fileno(), 1 << 20):
            parts = data.decode().split("\n")
            said[-1] += parts[0]
            said.extend(parts[1:])
    except BlockingIOError:
        pass
    return [name for name in said if len(name) == 16]


@pytest.mark.fault("F23")
def test_a_copy_of_the_folder_at_any_instant_opens_and_holds_what_was_acknowledged(
    tmp_path: Path,
    tally: Tally,
) -> None:
    """40 copies at moments drawn by chance, the process stopped meanwhile (SIGSTOP).

    Every second one without SQLite's shared memory, which no power cut leaves behind. Lost:
    nothing acknowledged before the copy.
    """
    chance = random.Random(0)
    with writer(tmp_path / "j") as (child, said):
        for turn in range(40):
            time.sleep(chance.uniform(0.005, 0.05))
            child.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
            acknowledged = acknowledged_by(child, said)
            leave = shutil.ignore_patterns("*-shm") if turn % 2 else None
            shutil.copytree(tmp_path / "j", tmp_path / str(turn), ignore=leave)
            child.send_signal(signal.SIGCONT)
            recorder(tmp_path / str(turn)).close({})
            check(tmp_path / str(turn), acknowledged)
            shutil.rmtree(tmp_path / str(turn))
    assert len(acknowledged) > 30
    tally(40, 0, "40 copies at random instants open, quick_check ok")


@pytest.mark.slow
@needs_root
@pytest.mark.fault("F23")
def test_what_was_acknowledged_outlives_a_cut_of_the_file_system_under_it(
    tmp_path: Path, tally: Tally
) -> None:
    """12 cuts of an ext4 file system while a recorder writes to it: all that was not synced goes.

    The ioctl drops the page cache and the file system's own log, as a power cut does; then it is
    mounted again. Lost: nothing acknowledged.
    """
    image, chance = tmp_path / "image", random.Random(0)
    with image.open("wb") as file:
        file.truncate(32 << 20)
    made = subprocess.run(["mkfs.ext4", "-q", image], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("no mkfs.ext4")
    names: list[str] = []
    for _ in range(12):
        with (
            mounted(tmp_path / "disk", "-o", "loop", str(image)) as disk,
            writer(disk / "j") as (child, said),
        ):
            time.sleep(chance.uniform(0.05, 0.4))
            handle = os.open(disk, os.O_RDONLY)
            names += acknowledged_by(child, said)  # before the power goes
            try:
                fcntl.ioctl(handle, EXT4_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
            except OSError as error:
                pytest.skip(f"no shutdown of this file system: {error}")
            finally:
                os.close(handle)
            time.sleep(0.1)
            assert child.poll() is None  # it goes on without a disk
    with mounted(tmp_path / "disk", "-o", "loop", str(image)) as disk:
        recorder(disk / "j").close({})
        rows = check(disk / "j", names)
    assert len(names) > 30
    assert [name for name in rows if name in set(names)] == names
    tally(12, 0, f"{len(names):,} acknowledged rows outlived 12 cuts of an ext4 file system")
