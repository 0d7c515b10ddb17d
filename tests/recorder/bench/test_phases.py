"""Around an inference: the way to the disk, windows at a microphone's pace, and runs of minutes."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeprune_device.bench import phases
from edgeprune_device.bench.input_sound import (
    loop_of,
)
from edgeprune_device.bench.phases import (
    FEWEST_STEPS,
    Recorder,
    paced,
    sustained,
    time_to_disk,
    windows_of_pace,
)
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.runtime import open_model

Samples = NDArray[np.float32]


def test_every_window_leaves_a_row_on_the_disk(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = read_bundle(tiny_bundle)
    recorder = Recorder(bundle, open_model(bundle), tmp_path)
    blocks = loop_of(bundle, None).blocks(bundle.window_samples, bundle.hop_samples)
    parts = [recorder.step(next(blocks)) for _ in range(6)]
    with sqlite3.connect(tmp_path / "journal" / "journal.sqlite") as database:  # another reader
        rows = database.execute("SELECT id FROM detections").fetchall()
    database.close()
    recorder.close()
    assert len(rows) >= 6
    for one in parts:
        assert min(one.window, one.inference, one.decide, one.write) > 0
        assert one.end_to_end == one.window + one.inference + one.decide + one.write


def test_a_detection_that_the_disk_does_not_take_is_no_measurement(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = read_bundle(tiny_bundle)
    recorder = Recorder(bundle, open_model(bundle), tmp_path)
    monkeypatch.setattr(type(recorder._journal), "pending", 1, raising=False)
    blocks = loop_of(bundle, None).blocks(bundle.window_samples, bundle.hop_samples)
    with pytest.raises(EdgepruneError, match="could not be written"):
        recorder.step(next(blocks))
    recorder.close()


class FakeTime:
    """A clock in ns that a sleep and a step move."""

    def __init__(self) -> None:
        self.ns = 5_000_000_000

    def now(self) -> int:
        return self.ns

    perf_counter_ns = now

    def perf_counter(self) -> float:
        return self.ns / 1e9

    def sleep(self, seconds: float) -> None:
        self.ns += round(seconds * 1e9)


def pace(costs_ms: list[float], hop_seconds: float) -> dict[str, list[float]]:
    clock, turns = FakeTime(), iter(costs_ms)
    silence: Iterator[Samples] = itertools.repeat(np.zeros(1, np.float32))

    def step(_: Samples) -> None:
        clock.sleep(next(turns) / 1000)

    return paced(step, silence, hop_seconds, len(costs_ms), clock.now, clock.sleep)


def test_windows_come_a_hop_apart_and_a_late_one_waits_its_turn() -> None:
    told = pace([10, 250, 10, 10], 0.1)
    assert told["due_ms"] == [100, 200, 300, 400]
    assert told["begun_ms"] == [100, 200, 450, 460]
    assert told["done_ms"] == [110, 450, 460, 470]


@pytest.mark.parametrize(("seconds", "hop", "windows"), [(5, 0.25, 20), (5, 1, 10), (5, 10, 6),
                                                         (5, 120, 1), (100, 10, 10)])  # fmt: skip
def test_a_paced_part_takes_at_least_ten_windows_unless_they_take_too_long(
    seconds: float, hop: float, windows: int
) -> None:
    assert windows_of_pace(seconds, hop, 60.0) == windows


def test_a_sustained_run_counts_every_window_in_its_curve_and_keeps_both_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Windows of 5 ms for 2.2 s on a clock that only they move: slices of a second, ends of a quarter."""
    clock = FakeTime()
    monkeypatch.setattr(phases, "time", clock)
    silence = itertools.repeat(np.zeros(1, np.float32))
    done = sustained(lambda _: clock.sleep(0.005), silence, 2.2, None)
    assert (done["n"], done["seconds"]) == (440, pytest.approx(2.2))
    assert [piece["n"] for piece in done["slices"]] == [200, 200, 40]
    assert [piece["at_seconds"] for piece in done["slices"]] == [1.0, 2.0, 2.2]
    assert {piece["p50_ms"] for piece in done["slices"]} == {5.0}
    for end in (done["first_ms"], done["last_ms"]):
        assert set(end) == {5.0}
        assert len(end) in (110, 111)  # one may begin just at its edge


def test_a_sustained_run_at_a_microphones_pace_takes_a_window_a_hop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = FakeTime()
    monkeypatch.setattr(phases, "time", clock)
    silence = itertools.repeat(np.zeros(1, np.float32))
    assert sustained(lambda _: clock.sleep(0.005), silence, 1.05, 0.1)["n"] == 11
    slow = sustained(lambda _: clock.sleep(0.3), silence, 1.05, 0.1)  # it never catches up
    assert slow["n"] == 4


def test_the_way_to_the_disk_has_every_phase_of_every_window(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = read_bundle(tiny_bundle)
    recorder = Recorder(bundle, open_model(bundle), tmp_path)
    blocks = loop_of(bundle, None).blocks(bundle.window_samples, bundle.hop_samples)
    told = time_to_disk(recorder, blocks, 0.01)
    recorder.close()
    assert set(told) == {"window", "inference_on_way", "decide", "write", "end_to_end"}
    assert len({len(values) for values in told.values()}) == 1
    assert len(told["write"]) >= FEWEST_STEPS
    parts = np.array([told[name] for name in ("window", "inference_on_way", "decide", "write")])
    np.testing.assert_allclose(parts.sum(axis=0), told["end_to_end"])


def test_a_window_over_no_threshold_is_written_all_the_same(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    """So that every window costs what a detection costs: its surest label, or that of nothing."""
    bundle = read_bundle(tiny_bundle)
    recorder = Recorder(bundle, lambda _: np.array([0.3, 0.4, 0.3], np.float32), tmp_path)
    recorder.step(np.zeros(bundle.window_samples, np.float32))
    recorder.close()
    lines = (tmp_path / "journal" / "detections.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["label"] for line in lines] == ["middle"]
