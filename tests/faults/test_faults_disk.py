"""F1 and F2: clips and retention on a disk that is full, and under SIGKILL; on real file systems."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from faults_table import Tally
from full_disk import KINDS, fill, free, small_disk

from edgeprune_device.clips.clip_files import find_clips, read_tags, set_lock, write_clip
from edgeprune_device.clips.clip_recorder import ClipInProgress, ClipRecorder
from edgeprune_device.clips.retention import ClipRetention
from edgeprune_device.recorder import listen as listen_module
from edgeprune_device.recorder.listen import listen
from edgeprune_device.settings import Clips as ClipSettings
from edgeprune_device.settings import Retention as RetentionSettings
from edgeprune_device.settings import Settings
from edgeprune_device.stream import Block, Notice

RATE = 16_000
NOON = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
KEPT = RetentionSettings(free_megabytes=1.0, keep_per_label=2, ballast_megabytes=0.5)
SAVED = ClipSettings(save=True, before_seconds=0.25, after_seconds=0.25)
RESERVE = 100_000
EVENT = RATE // 2  # samples; a clip has twice as many, and of noise takes 32 kB


@pytest.fixture(params=KINDS)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path, request.param, 6) as place:
        yield place


class Recorder:
    """What the loop does with clips and retention, on a clock that is set by hand."""

    def __init__(self, folder: Path) -> None:
        self.now = self.longest = 0.0
        self.clips = ClipRecorder(SAVED, folder, RATE, clock=self.clock, delay_seconds=1.0,
                                  reserve_bytes=RESERVE)  # fmt: skip
        self.retention = ClipRetention(
            KEPT, folder, clock=self.clock, now=lambda: NOON.timestamp() + self.now
        )
        self.written: list[ClipInProgress] = []
        self.deleted: set[str] = set()
        self.notices: list[Notice] = []
        self.position = self.events = 0
        self.noise = np.random.default_rng(0)

    def clock(self) -> float:
        return self.now

    def second(self) -> None:
        """Hear a second of noise with an event in it."""
        began = time.perf_counter()
        first, self.position = self.position, self.position + RATE
        self.clips.push(first, self.noise.uniform(-1, 1, RATE).astype(np.float32))
        self.events += 1
        self.clips.want(f"{self.events:06d}", ("owl", "robin")[self.events % 2], first + 4000,
                        first + 4000 + EVENT, utc=NOON + timedelta(seconds=self.now))  # fmt: skip
        done = self.clips.ready(None, self.position)
        self.written += done
        self.retention.wrote(done)
        self.notices += self.clips.notices()
        self.notices += self.retention.step(urgent=self.clips.waiting > 0)
        self.deleted |= set(self.retention.deleted())
        self.now += 1.0
        self.longest = max(self.longest, time.perf_counter() - began)

    def kinds(self) -> list[tuple[str, Any]]:
        return [(notice.kind, notice.details.get("raised", notice.details.get("what")))
                for notice in self.notices if notice.kind != "clips-deleted"]  # fmt: skip


def whole(folder: Path) -> set[str]:
    """Return the clips there; each has all the samples its tags promise."""
    paths = {found.path for found in find_clips(folder)}
    for path in paths:
        samples, _ = soundfile.read(folder / path)
        assert len(samples) == read_tags(folder / path)["samples"] == 2 * EVENT
    return paths


@pytest.mark.fault("F2")
def test_clips_go_on_for_ever_on_a_disk_that_they_would_fill(disk: Path, tally: Tally) -> None:
    """600 clips, four times what the disk holds: all are written, each older one makes room."""
    recorder = Recorder(disk)
    for _ in range(600):
        recorder.second()
    assert len(recorder.written) == 600
    assert recorder.clips.counts["lost"] == 0
    left = whole(disk)
    assert left == {clip.path for clip in recorder.written} - recorder.deleted
    assert recorder.written[-1].path in left
    assert sum(clip.bytes for clip in recorder.written) > 3 * (6 << 20)
    tally(600, 0, f"{len(recorder.deleted)} older clips made room for 600")


@pytest.mark.fault("F2")
def test_a_disk_that_another_program_fills_loses_clips_by_number_and_is_used_again(
    disk: Path, tally: Tally
) -> None:
    """Once: 40 clips, 100 % full for 100 s, room again for 60 s; what was lost is counted."""
    recorder = Recorder(disk)
    for _ in range(40):
        recorder.second()
    locked = recorder.written[3].path
    set_lock(disk, locked, True)
    other = fill(disk)
    assert free(disk) == 0
    for _ in range(100):
        recorder.second()
        fill(disk)  # it takes what is freed, too
    lost = recorder.clips.counts["lost"]
    assert lost > 50
    assert locked in whole(disk)
    newest = {clip.path for clip in recorder.written[-4:]}
    assert newest | {locked} == whole(disk), "two of each label and the locked one"
    for alarm in (("ballast", "given up"), ("disk-full", True), ("clips-lost", None)):
        assert alarm in recorder.kinds()
    other.unlink()
    before = len(recorder.written)
    recorder.notices.clear()
    for _ in range(60):
        recorder.second()
    assert len(recorder.written) >= before + 60
    for alarm in (("ballast", "made"), ("disk-full", False), ("clips-back", None)):
        assert alarm in recorder.kinds()
    assert recorder.clips.counts["lost"] == lost
    assert recorder.clips.counts["wanted"] == len(recorder.written) + lost
    assert whole(disk) == {clip.path for clip in recorder.written} - recorder.deleted
    assert recorder.longest < 5.0, "the loop is never held up"
    tally(1, 0, f"{lost} of 200 clips given up while 100 % full, each counted")


@pytest.mark.fault("F2")
@pytest.mark.parametrize("ballast", [True, False])
def test_retention_frees_a_disk_on_which_the_database_cannot_delete(
    disk: Path, ballast: bool, tally: Tally
) -> None:
    """Once on each file system, with and without ballast: DELETE fails, a step later it works."""
    database = sqlite3.connect(disk / "journal.sqlite", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA wal_autocheckpoint=0")
    database.execute("CREATE TABLE clips (path TEXT PRIMARY KEY)")
    settings = RetentionSettings(free_megabytes=1.0, ballast_megabytes=0.5 if ballast else 0.0)
    retention = ClipRetention(settings, disk, now=NOON.timestamp)
    assert bool(retention.step()) == ballast
    for number in range(50):
        path = f"clips/2026-04-01/owl/12{number:04d}_a{number}.flac"
        write_clip(disk, path, os.urandom(32_000))
        database.execute("INSERT INTO clips VALUES (?)", (path,))
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    fill(disk)
    with pytest.raises(sqlite3.OperationalError, match="full"):
        database.execute("DELETE FROM clips")
    steps = 0
    while free(disk) < 1_000_000:
        retention.step(urgent=True)
        steps += 1
        assert steps < 5
    for path in retention.deleted():
        database.execute("DELETE FROM clips WHERE path = ?", (path,))
    left = {path for (path,) in database.execute("SELECT path FROM clips")}
    assert left == {found.path for found in find_clips(disk)}
    database.close()
    tally(1, 0)


@pytest.mark.fault("F2")
def test_a_clip_is_whole_or_not_there_whatever_room_is_left(disk: Path, tally: Tally) -> None:
    """40 fillings, from no free block to 64 kB free: a clip of 32 kB is written whole or refused."""
    written = refused = 0
    for number, leave in enumerate(range(1, 65_000, 1625)):
        other = fill(disk, leave=leave)
        path = f"clips/2026-05-01/owl/120000_{number}.flac"
        data = os.urandom(32_000)
        try:
            write_clip(disk, path, data)
            assert (disk / path).read_bytes() == data
            (disk / path).unlink()
            written += 1
        except OSError:
            assert not (disk / path).exists()
            refused += 1
        assert not list(disk.rglob("*.part"))
        other.unlink()
    assert written > 5
    assert refused > 5
    tally(40, 0, f"{refused} refused, {written} written, none half")


@pytest.mark.fault("F2")
def test_a_clip_can_be_locked_on_a_full_disk(disk: Path, tally: Tally) -> None:
    """Once on each file system."""
    path = "clips/2026-05-01/owl/120000_a.flac"
    write_clip(disk, path, b"x" * 5000)
    fill(disk)
    set_lock(disk, path, True)
    assert [found.locked for found in find_clips(disk)] == [True]
    tally(1, 0)


WRITER = """
import json, os, random, select, signal, sys, time
from datetime import UTC, datetime
from pathlib import Path
import numpy as np
from edgeprune_device.clips.clip_recorder import ClipRecorder
from edgeprune_device.settings import Clips as Settings
folder, kills = Path(sys.argv[1]), int(sys.argv[2])
dice, settings = random.Random(0), Settings(save=True, before_seconds=0.1, after_seconds=0.1)
noise = np.random.default_rng(0).uniform(-1, 1, 8000).astype(np.float32)
for life in range(kills):
    readable, writable = os.pipe()
    child = os.fork()
    if not child:
        clips = ClipRecorder(settings, folder, 16000, reserve_bytes=0)
        for number in range(10_000):
            clips.push(8000 * number, noise)
            clips.want(f"{life}-{number}", "owl", 8000 * number + 2000, 8000 * number + 6000,
                       utc=datetime.now(UTC))
            for clip in clips.ready(None, 8000 * (number + 1)):
                os.write(writable, (clip.path + "\\n").encode())
    if life % 3:  # every third is killed at any moment, the others after their first clip
        select.select([readable], [], [], 20)
    time.sleep(dice.uniform(0, 0.03))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(writable)
    with os.fdopen(readable) as said:
        print(json.dumps([line.strip() for line in said]), flush=True)
"""


@pytest.mark.fault("F1")
def test_a_recorder_that_is_killed_leaves_no_half_clip(tmp_path: Path, tally: Tally) -> None:
    """150 lives, two of three until after the first clip: all acknowledged are there, all are whole."""
    kills = 150
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(tmp_path), str(kills)], check=True, text=True,
        capture_output=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    acknowledged = {path for line in done.stdout.splitlines() for path in json.loads(line)}
    found = {clip.path for clip in find_clips(tmp_path)}
    assert len(acknowledged) > kills / 2
    assert acknowledged <= found
    for path in found:
        samples, _ = soundfile.read(tmp_path / path)
        assert len(samples) == read_tags(tmp_path / path)["samples"]
    ClipRecorder(SAVED, tmp_path, RATE).push(0, np.zeros(1, dtype=np.float32))
    assert not list(tmp_path.rglob("*.part"))
    tally(kills, 0, f"{len(found):,} clips, all whole")


@pytest.mark.fault("F2")
def test_a_recorder_that_starts_on_a_full_disk_makes_room_and_listens(
    disk: Path, tiny_bundle: Path, tally: Tally
) -> None:
    """Its own clips fill the disk to the last block, once on each kind; then it is started."""
    journal = disk / "journal"
    settings = Settings(
        clips=ClipSettings(save=True),
        retention=RetentionSettings(free_megabytes=1, ballast_megabytes=0.5),
    )
    noise = np.random.default_rng(0).normal(0, 0.1, 2 * RATE).astype(np.float32)

    def source(*_: Any, **__: Any) -> Iterator[Block]:
        yield Block(noise)

    def hear() -> dict[str, Any]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(listen_module, "open_source", source)
            return listen(tiny_bundle, journal, settings, source="stdin", say=lambda _: None)

    hear()
    place = journal / "clips" / "2026-01-01" / "owl"
    place.mkdir(parents=True)
    for index in range(400):
        try:
            (place / f"{index:06d}_{index:016x}.flac").write_bytes(b"fLaC" * 25_000)
        except OSError:
            break
    fill(disk)
    assert free(disk) == 0
    before = len(list(place.iterdir()))
    assert hear()["reason"] == "end of file"
    assert 0 < len(list(place.iterdir())) < before
    tally(1, 0, "a start on a full disk makes room first")
