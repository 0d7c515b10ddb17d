"""What the numbers of a benchmark mean: real time, pace, drift, energy, and whether to trust them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeprune_device.bench.verdict import (
    disturbed,
    drift_of,
    energy_of,
    pace_of,
    real_time,
    unsteady,
)
from edgeprune_device.percentiles import describe


def test_a_model_keeps_up_when_its_p99_is_under_the_hop() -> None:
    latencies = np.linspace(100.0, 200.0, 1001)
    found = real_time(describe(latencies), 0.25, 0.5, None)
    assert found["keeps_up"]
    assert found["judged_by"] == "p99"
    assert found["rtf_p50"] == pytest.approx(150 / 250)
    assert found["rtf_p99"] == pytest.approx(199 / 250)
    assert found["headroom"] == pytest.approx(1 - 199 / 250)
    assert found["max_overlap"] == pytest.approx(1 - 199 / 500)  # a hop of 199 ms is kept up with
    assert not real_time(describe(latencies), 0.19, 0.5, None)["keeps_up"]


def test_of_few_windows_the_slowest_decides_and_the_p99_is_absent_with_a_reason() -> None:
    found = real_time(describe(np.array([100.0] * 30 + [260.0])), 0.25, 0.25, None)
    assert (found["judged_by"], found["rtf_p99"], found["keeps_up"]) == ("max", None, False)
    assert found["rtf_p99_missing"] == "31 samples; 662 are needed"
    assert found["max_overlap"] is None
    assert "longer than a window" in found["max_overlap_missing"]


def test_a_late_paced_window_says_no_whatever_the_p99() -> None:
    late = {"misses": 1, "n": 40}
    found = real_time(describe(np.full(1000, 1.0)), 0.25, 0.5, late)
    assert not found["keeps_up"]
    assert "1 of 40 paced windows were late" in found["because"]


def part(due: list[float], begun: list[float], done: list[float]) -> dict[str, list[float]]:
    return {"due_ms": due, "begun_ms": begun, "done_ms": done}


def test_misses_streaks_jitter_and_duty_of_a_pace_worked_out_by_hand() -> None:
    # A hop of 100 ms: the second takes 250 and makes the third late; the fourth is in time.
    first = part([100, 200, 300, 400], [100, 200, 450, 460], [110, 450, 460, 470])
    second = part([100, 200], [101, 201], [111, 211])
    found = pace_of([first, second], 0.1, [0.8, None])
    assert found["n"] == 6
    assert (found["misses"], found["longest_streak"]) == (2, 2)
    assert found["latency_ms"]["max"] == 250
    assert found["wake_ms"]["max"] == 150
    assert found["jitter_share"] == pytest.approx(1.5)  # 250 ms between two beginnings
    assert found["jitter_ms"] == pytest.approx(np.std([100, 250, 10, 100]))
    busy = 10 + 250 + 10 + 10 + 10 + 10
    assert found["duty_cycle"] == pytest.approx(busy / (400 + 200))
    assert found["machine_idle"] == 0.8
    assert pace_of([second], 0.1, [None])["machine_idle"] is None


def test_streaks_do_not_run_on_from_one_round_to_the_next() -> None:
    late = part([100, 200], [100, 350], [350, 360])
    assert pace_of([late, late], 0.1, [])["longest_streak"] == 2
    assert pace_of([late, late], 0.1, [])["misses"] == 4


def test_a_board_that_grows_slow_drifts_and_one_that_only_wavers_is_steady() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(10, 0.5, 400)
    slower = drift_of({"first_ms": first, "last_ms": rng.normal(13, 0.5, 400)})
    assert slower["drift"] == "slower"
    assert slower["ratio"] == pytest.approx(1.3, abs=0.02)
    assert slower["interval"][0] < 1.3 < slower["interval"][1]
    assert drift_of({"first_ms": first, "last_ms": rng.normal(10.1, 0.5, 400)})["drift"] == "steady"
    assert drift_of({"first_ms": first, "last_ms": rng.normal(8, 0.5, 400)})["drift"] == "faster"
    wavering = {"first_ms": [10, 30, 10, 30, 20, 11, 29], "last_ms": [12, 33, 9, 35, 24, 9, 31]}
    assert drift_of(wavering)["drift"] == "steady"
    assert drift_of({"first_ms": [], "last_ms": [1]})["drift"] == "unknown"


def test_energy_is_the_meters_power_times_the_time_and_absent_without_a_meter() -> None:
    found = energy_of((2.0, 5.0), 100.0, 0.5)
    assert found["joules_per_inference"] == pytest.approx(0.3)
    assert found["joules_per_audio_hour"] == pytest.approx(2 * 3600 + 7200 * 0.3)
    assert found["source"] == "given by hand"
    assert set(energy_of(None, 100.0, 0.5)) == {"missing"}


def environment(**changes: Any) -> dict[str, Any]:
    calm = {"throttled": None, "swap": None, "top_process": None, "others_cores": 0.02}
    return calm | changes


def test_throttling_swapping_and_others_make_a_run_unstable_and_calm_does_not() -> None:
    assert disturbed(environment()) == []
    flags = {"before": 0, "during": 0b100, "after": 0}
    assert disturbed(environment(throttled=flags)) == ["the board reported throttled now"]
    assert disturbed(environment(throttled=flags | {"during": 0, "before": 0x50000})) == []
    [swapped] = disturbed(environment(swap={"in": 3, "out": 0}))
    assert "3 pages were swapped in" in swapped
    busy = {"name": "rsync", "share_of_core": 0.6}
    [other] = disturbed(environment(others_cores=0.7, top_process=busy))
    assert other == "other processes kept 0.70 cores busy, mostly rsync"


def test_unsteady_rounds_drift_and_jitter_are_reasons() -> None:
    entry = {"round_medians_ms": [10.0, 10.1, 10.2], "sustained": None, "paced": None}
    assert unsteady(entry) == []
    apart = {**entry, "round_medians_ms": [10.0, 10.0, 13.0]}
    assert "differ by 30%, so the machine was not stable" in unsteady(apart)[0]
    drifting = {"drift": "slower", "ratio": 1.31}
    assert "1.31 times as long as the first" in unsteady({**entry, "sustained": drifting})[0]
    assert "3.0% of a hop off schedule" in unsteady({**entry, "paced": {"jitter_share": 0.03}})[0]
