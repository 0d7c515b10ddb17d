"""The parts of a benchmark: what is heard, the way to the disk, the pace, the board meanwhile."""

from __future__ import annotations

import itertools
import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from edgeprune_device.audio.windowing import Windower
from edgeprune_device.bench import machine_watch
from edgeprune_device.bench.input_sound import (
    LoopedSound,
    loop_of,
    loud_enough,
    made_sound,
    prepare,
)
from edgeprune_device.bench.machine_watch import Watch, others_cores, processes, top_process
from edgeprune_device.bench.phases import Recorder, paced, sustained, windows_of_pace
from edgeprune_device.bench.worker_client import run_child
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.runtime import open_model
from edgeprune_device.system.machine import cpu_times, idle_share

Samples = NDArray[np.float32]


# What is heard


def test_windows_of_a_loop_are_those_of_its_endless_repetition() -> None:
    loop = LoopedSound("wav", "x", np.arange(7, dtype=np.float32))
    whole = np.tile(loop.samples, 20)
    for window, hop in ((3, 2), (5, 7), (16, 3), (2, 9)):
        for turn, found in enumerate(itertools.islice(loop.windows(window, hop), 8)):
            np.testing.assert_array_equal(found, whole[turn * hop : turn * hop + window])


@pytest.mark.parametrize(("window", "hop"), [(3, 2), (5, 7), (16, 3), (4, 4)])
def test_blocks_of_a_loop_give_the_recorders_windower_one_window_each(
    window: int, hop: int
) -> None:
    loop = LoopedSound("wav", "x", np.arange(7, dtype=np.float32))
    windower, windows = Windower(window, hop), loop.windows(window, hop)
    for block in itertools.islice(loop.blocks(window, hop), 8):
        [(_, found)] = windower.push(block)
        np.testing.assert_array_equal(found, next(windows))


def test_golden_inputs_are_heard_and_made_sound_only_where_they_are_silent(
    tiny_bundle: Path,
) -> None:
    bundle = read_bundle(tiny_bundle)
    loop = loop_of(bundle, None)
    assert loop.kind == "golden"
    heard = [golden.samples for golden in bundle.golden if loud_enough(golden.samples)]
    np.testing.assert_array_equal(loop.samples, np.concatenate(heard))
    for golden in bundle.golden:
        golden.samples[:] = 0
    silent = loop_of(bundle, None)
    assert silent.kind == "noise"
    assert loud_enough(silent.samples)


def test_made_sound_is_never_silent_and_low_tones_prevail_as_in_wind() -> None:
    sound = made_sound(16_000)
    pieces = sound.reshape(-1, 1600)
    assert np.sqrt(np.mean(pieces**2, axis=1)).min() > 0.01
    power = np.abs(np.fft.rfft(sound)) ** 2
    assert power[: len(power) // 10].sum() > power[len(power) // 2 :].sum()
    assert np.sqrt(np.mean(sound**2)) == pytest.approx(0.1, rel=1e-3)


def test_a_file_is_heard_at_the_bundles_rate_for_a_minute_and_silence_is_refused(
    tmp_path: Path,
) -> None:
    tone = np.sin(np.arange(70 * 8000) * 0.3).astype(np.float32)
    soundfile.write(tmp_path / "tone.wav", tone, 8000)
    samples = np.load(prepare(tmp_path / "tone.wav", 16_000, tmp_path))
    assert len(samples) == 60 * 16_000
    soundfile.write(tmp_path / "silence.wav", np.zeros(8000, np.float32), 8000)
    with pytest.raises(EdgepruneError, match="is silent"):
        prepare(tmp_path / "silence.wav", 16_000, tmp_path)


# Around an inference


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


def test_a_sustained_run_counts_every_window_in_its_curve_and_keeps_both_ends() -> None:
    done = sustained(
        lambda _: sum(range(2000)), itertools.repeat(np.zeros(1, np.float32)), 2.2, None
    )
    assert sum(piece["n"] for piece in done["slices"]) == done["n"] > 100
    assert done["slices"][-1]["at_seconds"] == pytest.approx(2.2, abs=0.2)
    assert 0 < len(done["first_ms"]) < done["n"] / 2 > len(done["last_ms"]) > 0
    paced_run = sustained(lambda _: None, itertools.repeat(np.zeros(1, np.float32)), 1.05, 0.1)
    assert 9 <= paced_run["n"] <= 11


def test_a_child_tells_every_phase_from_its_start_to_the_disk(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = read_bundle(tiny_bundle)
    more = ["--folder", str(tmp_path), "--paced"]
    one = run_child(tiny_bundle, bundle.format, bundle.digest, 1, 0.1, "", more)
    phases = {name: ms[0] for name, ms in one.phases_ms.items()}
    assert set(phases) == {
        "python", "import", "verify", "load", "first", "cold_start", "journal", "first_detection",
        "window", "inference_on_way", "decide", "write", "end_to_end",
    }  # fmt: skip
    together = sum(phases[name] for name in ("python", "import", "verify", "load", "first"))
    assert together <= phases["cold_start"] < phases["first_detection"]
    assert 30 < phases["python"] < 30_000  # an interpreter and numpy
    assert one.load_ms == pytest.approx(phases["verify"] + phases["load"])
    assert one.golden_agreement == 1.0
    assert one.sound is not None
    assert one.sound["kind"] == "golden"
    assert one.paced_ms is not None
    assert len(one.paced_ms["due_ms"]) >= 1
    assert 0 < (one.memory_bytes["after_load"] or 0) <= one.peak_rss_bytes


# The board meanwhile


def state(
    temperature: float | None, throttled: int | None, pages: int | None = 0
) -> dict[str, Any]:
    missing = {} if pages is not None else {"swap_in_pages": "no vmstat"}
    return {"temperature_c": temperature, "frequency_mhz": None, "throttled": throttled,
            "load_average": 0.5, "swap_in_pages": pages, "swap_out_pages": pages,
            "missing": {**missing, "frequency_mhz": "no cpufreq"}}  # fmt: skip


def test_the_board_is_read_until_the_end_and_what_was_so_meanwhile_is_kept() -> None:
    told = itertools.chain([state(50, 0x50000), state(81, 0x50004), state(70, 0x50000, 3)],
                           itertools.repeat(state(60, 0x50000, 3)))  # fmt: skip
    with Watch(every_seconds=0.02, state=lambda *_: next(told)) as watch:
        while len(watch.points) < 5:
            time.sleep(0.01)
        found = watch.summary()
    assert found["temperature_c"] == {"before": 50, "lowest": 50, "highest": 81, "after": 60}
    assert found["throttled"] == {"before": 0x50000, "during": 4, "after": 0x50000}
    assert found["swap"] == {"in": 3, "out": 3}
    assert found["frequency_mhz"] is None
    assert found["missing"]["frequency_mhz"] == "no cpufreq"
    assert len(found["series"]) >= 5


def test_what_the_board_does_not_tell_is_absent_with_a_reason(tmp_path: Path) -> None:
    with Watch(root=tmp_path) as watch:
        found = watch.summary()
    for key in ("temperature_c", "frequency_mhz", "load_average", "throttled", "swap", "top_process",
                "others_cores"):  # fmt: skip
        assert found[key] is None
        assert found["missing"][key]


def test_a_long_run_keeps_a_bounded_curve() -> None:
    points = [{"at_seconds": i, **dict.fromkeys(machine_watch.SHOWN, 1)} for i in range(100_000)]
    steady = state(50, 0)
    found = machine_watch.environment_of(points, steady, steady, (None, 0.0), 1e5)
    assert len(found["series"]) <= machine_watch.MOST_POINTS
    assert found["series"][0]["at_seconds"] == 0


def test_the_busiest_other_process_is_named_and_our_own_do_not_count() -> None:
    ticks = machine_watch.TICKS
    before = {1: ("init", 0, 0), 7: ("ours", 1, 0), 9: ("rsync", 1, 5 * ticks)}
    after = {1: ("init", 0, 1), 7: ("ours", 1, 90 * ticks), 8: ("child", 7, 80 * ticks),
             9: ("rsync", 1, 8 * ticks)}  # fmt: skip
    assert top_process(before, after, 10.0, 7) == {"name": "rsync", "share_of_core": 0.3}
    assert top_process(before, {**after, 9: ("rsync", 1, 5 * ticks)}, 10.0, 7) is None


def test_a_process_whose_name_holds_brackets_and_spaces_is_read(tmp_path: Path) -> None:
    (tmp_path / "proc/42").mkdir(parents=True)
    fields = "S 17 0 0 0 0 0 0 0 0 0 300 45 0 0"
    (tmp_path / "proc/42/stat").write_text(f"42 (a) b (c) {fields}\n")
    assert processes(tmp_path) == {42: ("a) b (c", 17, 345)}


def test_cores_that_others_kept_busy_are_what_is_neither_idle_nor_ours(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text("cpu  100 20 30 400 50 0 5 6 0 0\ncpu0 1 2\n")
    assert cpu_times(tmp_path) == (450, 611)
    ticks = machine_watch.TICKS
    before, after = (0, 0), (6 * ticks, 20 * ticks)  # 14 s busy on two cores in 10 s
    assert others_cores(before, after, 9.0, 10.0) == pytest.approx(0.5)
    assert others_cores(None, after, 9.0, 10.0) is None
    assert idle_share(before, after) == pytest.approx(0.3)
    assert idle_share(before, before) is None


def test_a_result_is_read_back_as_it_was_with_lists_of_numbers_on_one_line() -> None:
    from edgeprune_device.bench.report import json_text

    result = {"a": [1.5, -2e-7, 3], "b": ["x", 1], "c": [], "d": {"e": [[1, 2], [3.0, 4]]},
              "f": [{"g": 1}], "h": None}  # fmt: skip
    text = json_text(result)
    assert json.loads(text) == result
    assert "[1.5, -2e-07, 3]" in text
