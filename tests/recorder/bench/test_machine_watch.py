"""The board meanwhile: read until the end, and who else was at work."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import pytest

from edgeprune_device.bench import machine_watch
from edgeprune_device.bench.machine_watch import Watch, others_cores, processes, top_process
from edgeprune_device.system.machine import cpu_times, idle_share


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
