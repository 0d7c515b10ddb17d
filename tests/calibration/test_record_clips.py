"""Taking a calibration set: whole clips at their times, none over a gap, gone on with where it ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from tiny_recordings import RATE

from edgeprune_calibration import record_clips as module
from edgeprune_calibration.dataset import read_data
from edgeprune_calibration.record_clips import Clipper, RecordingPlan, read_rows, record
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.stream import Block

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def ramp(length: int) -> NDArray[np.float32]:
    return (np.arange(length) % 20000 / 32768).astype(np.float32)


@pytest.mark.parametrize(("length", "period"), [(100, 100), (100, 250), (70, 71), (1, 3)])
@pytest.mark.parametrize("block", [1, 7, 100, 1000])
def test_clips_begin_at_every_period_whatever_the_blocks(
    length: int, period: int, block: int
) -> None:
    sound = ramp(1000)
    clipper = Clipper(length, period)
    found = [
        clip for i in range(0, 1000, block) for clip in clipper.push(Block(sound[i : i + block]))
    ]
    assert [first for first, _ in found] == list(range(0, 1000 - length + 1, period))
    for first, clip in found:
        np.testing.assert_array_equal(clip, sound[first : first + length])


def test_a_clip_begins_again_behind_a_gap() -> None:
    sound = ramp(1000)
    clipper = Clipper(100, 300)
    blocks = [Block(sound[:50]), Block(sound[80:400], 30), Block(sound[410:990], 10)]
    found = [clip for block in blocks for clip in clipper.push(block)]
    assert [first for first, _ in found] == [80, 410, 710]
    for first, clip in found:
        np.testing.assert_array_equal(clip, sound[first : first + 100])


def take(out: Path, plan: RecordingPlan, blocks: list[Block | None]) -> dict[str, object]:
    def given() -> Iterator[Block | None]:
        yield from blocks

    return record(out, plan, blocks=given(), say=lambda _: None, now=lambda: NOON)


@pytest.mark.parametrize("kind", ["flac", "wav"])
def test_clips_and_their_rows_are_written_and_read_as_data(kind: str, tmp_path: Path) -> None:
    sound = ramp(5 * RATE)
    blocks: list[Block | None] = [Block(sound[i : i + 1600]) for i in range(0, len(sound), 1600)]
    blocks.insert(7, None)
    done = take(tmp_path / "set", RecordingPlan(3, 0.5, 1.5, RATE, "night", kind), blocks)
    assert (done["clips"], done["taken"], done["reason"]) == (3, 3, "enough")
    rows = read_rows(tmp_path / "set")
    assert [row["first_second"] for row in rows] == ["0.000000", "1.500000", "3.000000"]
    assert {row["utc"] for row in rows} == {"2026-06-01T12:00:00+00:00"}
    for row, first in zip(rows, (0, 24000, 48000), strict=True):
        written, rate = soundfile.read(tmp_path / "set" / row["path"], dtype="float32")
        assert rate == RATE
        np.testing.assert_array_equal(written, sound[first : first + 8000])  # 16 bits hold it
    assert not list(tmp_path.rglob("*.partial"))
    data = read_data(tmp_path / "set" / "manifest.csv", segments=True, task="tags")
    assert [clip.label for clip in data.clips] == ["night"] * 3


def test_a_file_is_gone_on_with_where_the_last_clip_was(tmp_path: Path) -> None:
    sound = ramp(3 * RATE)
    soundfile.write(tmp_path / "long.wav", sound, RATE)
    for wanted, taken, reason in ((2, 2, "enough"), (2, 0, "enough"), (9, 4, "end of file")):
        done = record(tmp_path / "set", RecordingPlan(wanted, 0.5, 0.5, RATE), say=lambda _: None,
                      from_wav=tmp_path / "long.wav")  # fmt: skip
        assert (done["taken"], done["reason"]) == (taken, reason)
    parts = [soundfile.read(tmp_path / "set" / row["path"], dtype="float32")[0]
             for row in read_rows(tmp_path / "set")]  # fmt: skip
    np.testing.assert_array_equal(np.concatenate(parts), sound)


def test_what_a_power_cut_left_is_put_right(tmp_path: Path) -> None:
    out, plan = tmp_path / "set", RecordingPlan(2, 0.1, rate=RATE)
    take(out, plan, [Block(ramp(RATE))])
    with (out / "manifest.csv").open("a") as file:
        file.write("clips/000002.flac,back")
    (out / "clips" / "000002.flac.partial").write_bytes(b"half")
    done = take(out, RecordingPlan(3, 0.1, rate=RATE), [Block(ramp(RATE))])
    assert done["clips"] == 3
    assert [row["path"] for row in read_rows(out)] == [f"clips/00000{i}.flac" for i in range(3)]
    assert not list(out.rglob("*.partial"))


def test_silence_is_counted_and_a_microphone_that_stops_is_an_error_that_keeps_the_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STALL_SECONDS", 0.0)
    silent = Block(np.zeros(RATE, np.float32))
    assert take(tmp_path / "a", RecordingPlan(2, 0.5, rate=RATE), [silent])["silent"] == 2
    with pytest.raises(EdgepruneError, match="No audio has arrived from the microphone") as error:
        take(tmp_path / "b", RecordingPlan(5, 0.5, rate=RATE), [silent, None, None, None])
    assert error.value.status == 1
    assert len(read_rows(tmp_path / "b")) == 2


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [({"clips": 0}, "0 clips"), ({"clip_seconds": 0.0}, "--seconds 0"),
     ({"every_seconds": -1.0}, "--every -1"), ({"every_seconds": 2.0}, "less than the clip length"),
     ({"format": "mp3"}, "'mp3'"), ({"label": " "}, "label of the clips is empty"), ({"rate": 5}, "5 Hz"),
     ({"clip_seconds": float("nan")}, "--seconds nan")],
)  # fmt: skip
def test_a_plan_that_makes_no_sense_is_refused(
    changes: dict[str, object], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(EdgepruneError, match=sentence):
        record(tmp_path / "set", RecordingPlan(**changes), say=lambda _: None)  # type: ignore[arg-type]
    assert not (tmp_path / "set").exists()


def test_another_folder_is_left_alone_and_a_missing_clip_named(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(EdgepruneError, match="holds other files than a calibration set"):
        take(tmp_path, RecordingPlan(rate=RATE), [])
    out = tmp_path / "set"
    take(out, RecordingPlan(1, 0.1, rate=RATE), [Block(ramp(RATE))])
    (out / "clips" / "000000.flac").unlink()
    with pytest.raises(EdgepruneError, match=r"lists clips/000000\.flac, which does not exist"):
        take(out, RecordingPlan(2, 0.1, rate=RATE), [])
    (out / "manifest.csv").write_text("path,label\na.wav,b\n")
    with pytest.raises(EdgepruneError, match="was not written by calibration record"):
        take(out, RecordingPlan(2, 0.1, rate=RATE), [])


SLOW = """
import sys, time
from edgeprune_device.stream import Block
from edgeprune_calibration import record_clips
import numpy as np
def slow(device, rate):
    while True:
        time.sleep(0.02)
        yield Block(np.full(1600, 0.1, np.float32))
record_clips.from_microphone = slow
sys.argv = ["edgeprune", "calibration", "record", "-o", sys.argv[1], "--seconds", "0.2",
            "--clips", "100000", "--json"]
from edgeprune.cli.app import main
main()
"""


def test_ctrl_c_keeps_what_there_is(tmp_path: Path) -> None:
    out = tmp_path / "set"
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 60
        while not ((out / "manifest.csv").exists() and len(read_rows(out)) >= 2):
            assert time.monotonic() < deadline, "nothing was recorded"
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 0
        assert process.stdout is not None
        done = json.loads(process.stdout.read())
    assert done["reason"] == "interrupted"
    assert done["clips"] == len(read_rows(out)) >= 2
