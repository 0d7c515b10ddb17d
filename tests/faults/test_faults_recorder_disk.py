"""The recorder's disk and clock, through ``edgeprune listen``: read-only, full, locked, set."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from faults_table import Tally
from full_disk import fill, small_disk
from listener_fixture import Listen, Listener, locked
from pulse_fixture import Pulse

from edgeprune_device.journal.coverage_report import coverage

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a disk needs root")
LINE = re.compile(r"^[\d:.]+  (low|middle|high)  [\d.]+$", re.MULTILINE)
HOUR, DAY = 3600.0, 86_400.0


def said(listener: Listener) -> list[str]:
    """Return the labels that it said, in order."""
    return LINE.findall(listener.said)


def kept(listener: Listener) -> list[str]:
    return [label for (label,) in listener.rows("SELECT label FROM detections ORDER BY seq")]


def in_order(listener: Listener) -> None:
    """What was said is in the journal, once and in order."""
    assert kept(listener) == said(listener)
    samples = [row[0] for row in listener.rows("SELECT first_sample FROM detections ORDER BY seq")]
    assert samples == sorted(set(samples))


@needs_root
@pytest.mark.fault("F3")
@pytest.mark.parametrize("source", ["microphone", "wav"])
def test_a_read_only_disk_is_one_sentence_at_the_start(
    source: str, pulse: Pulse, song_file: Path, listen_to: Listen, tmp_path: Path, tally: Tally
) -> None:
    """Once each, on a disk that is mounted read-only: status 2, nothing begun; lost: nothing."""
    arguments = ["--from-wav", str(song_file)] if source == "wav" else []
    with small_disk(tmp_path, "tmpfs", 4) as disk:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        listener = listen_to(*arguments, environment=pulse.environment, journal=disk / "j")
        listener.wait(status=2)
    lines = listener.said.splitlines()
    assert lines == [
        f"error: The journal {disk}/j cannot be written: Read-only file system.",
        "hint: Is the disk full, or does the folder belong to another user?",
    ]
    assert not pulse.capture_processes()
    tally(1, 0, f"listen to a {source}: status 2")


@needs_root
@pytest.mark.fault("F2")
def test_on_a_full_disk_it_listens_on_and_writes_later(
    pulse: Pulse, song_file: Path, listen_to: Listen, tmp_path: Path, tally: Tally
) -> None:
    """Once: another program fills the disk for 4 s; lost: no detection."""
    with small_disk(tmp_path, "tmpfs", 4) as disk:
        listener = listen_to(environment=pulse.environment, journal=disk / "j",
                             settings="[retention]\nballast_megabytes = 0\n")  # fmt: skip
        pulse.play(song_file)
        listener.until(listener.more(1))
        filler = fill(disk)
        full = len(said(listener))
        listener.until(lambda: len(said(listener)) >= full + 4)
        waited = len(said(listener)) - listener.count()
        filler.unlink()
        recovered = listener.until(listener.noted("journal-recovered"))
        listener.until(listener.more(1))
        listener.end()
        stats = listener.balanced()
        in_order(listener)
    assert waited >= 3
    assert stats["journal_lost"] == 0
    assert stats["lost_seconds"] == 0
    tally(waited, 0, f"listen: {waited} rows waited, written {recovered:.1f} s after")


@pytest.mark.fault("F18")
def test_while_another_program_holds_the_journal_it_listens_on_and_writes_later(
    pulse: Pulse, song_file: Path, listen_to: Listen, tally: Tally
) -> None:
    """Once: a lock of 4 s; lost: no detection."""
    listener = listen_to(environment=pulse.environment)
    pulse.play(song_file)
    listener.until(listener.more(1))
    with locked(listener.journal):
        full = len(said(listener))
        listener.until(lambda: len(said(listener)) >= full + 4)
        waited = len(said(listener)) - listener.count()
    recovered = listener.until(listener.noted("journal-recovered"))
    listener.until(listener.more(1))
    listener.end()
    stats = listener.balanced()
    in_order(listener)
    assert waited >= 3
    assert stats["journal_lost"] == 0
    assert stats["lost_seconds"] == 0
    tally(waited, 0, f"listen: {waited} rows waited, written {recovered:.1f} s after")


@pytest.mark.fault("F17")
def test_a_clock_that_jumps_changes_no_order_and_no_length(
    pulse: Pulse, song_file: Path, listen_to: Listen, tally: Tally
) -> None:
    """Four jumps, of an hour and a day, forward and back; lost: nothing."""
    listener = listen_to(environment={**pulse.environment, "SCREW_CLOCK": "1"}, stub=True)
    pulse.play(song_file)
    listener.until(listener.more(1))
    for number, seconds in enumerate((HOUR, 0.0, -DAY, 0.0), 1):
        (listener.folder / "clock-seconds").write_text(str(seconds))
        listener.until(listener.noted("clock-jumped", number))
        listener.until(listener.more(1))
    listener.end()
    stats = listener.balanced()
    in_order(listener)
    details = listener.rows("SELECT details FROM events WHERE kind = 'clock-jumped' ORDER BY seq")
    jumps = [json.loads(row[0])["seconds"] for row in details]
    assert jumps == pytest.approx([HOUR, -HOUR, -DAY, DAY], abs=0.1)
    starts = [row[0] for row in listener.rows("SELECT start_seconds FROM detections ORDER BY seq")]
    steps = [after - before for before, after in itertools.pairwise(starts)]
    assert steps == pytest.approx([1.0] * len(steps), abs=0.2)
    assert {row[0] for row in listener.rows("SELECT DISTINCT clock FROM detections")} <= {
        "synchronised", "unsynchronised", "unknown",
    }  # fmt: skip
    assert stats["lost_seconds"] == 0
    tally(4, 0, "jumps of an hour and a day: order and lengths unchanged")


@pytest.mark.fault("F17")
def test_a_clock_that_begins_in_1970_says_so_and_is_believed_once_it_is_set(
    pulse: Pulse, song_file: Path, listen_to: Listen, tally: Tally
) -> None:
    """Once; lost: nothing. The years between are no hours in which it did not run."""
    epoch = datetime(1970, 1, 1, 0, 0, 30, tzinfo=UTC)
    off = (epoch - datetime.now(UTC)).total_seconds()
    folder = pulse.folder.parent / "run"
    folder.mkdir()
    (folder / "clock-seconds").write_text(str(off))
    listener = listen_to(environment={**pulse.environment, "SCREW_CLOCK": "1"}, stub=True)
    pulse.play(song_file)
    listener.until(listener.more(2))
    (folder / "clock-seconds").write_text("0")
    listener.until(listener.noted("clock-jumped"))
    listener.until(listener.more(2))
    listener.end()
    listener.balanced()
    in_order(listener)
    rows = listener.rows("SELECT utc, clock FROM detections ORDER BY seq")
    early = [clock for utc, clock in rows if utc.startswith("1970")]
    assert len(early) >= 2
    assert set(early) == {"unsynchronised"}
    last = datetime.fromisoformat(rows[-1][0])
    assert abs(datetime.now(UTC) - last) < timedelta(seconds=10)
    told = coverage(listener.journal)
    assert 2 <= len(told["hours"]) <= 3  # 1970, and this hour, which may just have begun
    assert told["hours"][0]["hour"] == "1970-01-01T00"
    assert told["total"]["not_running"] < 60
    tally(1, 0, "1970 at the start: each detection says that the clock is not set")
