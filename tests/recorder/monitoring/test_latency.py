"""Latencies of months in a bounded memory, in the words of bench.json."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune_device.bench.statistics import summarize
from edgeprune_device.bench.worker_client import Round
from edgeprune_device.monitoring.latency import BUCKETS_SECONDS, LatencyTrack


def filled(values: list[float], kept: int = 100) -> LatencyTrack:
    made = LatencyTrack(kept)
    for value in values:
        made.add(value)
    return made


def test_the_fields_are_those_of_bench_json_with_the_same_values() -> None:
    values = [float(v) for v in np.random.default_rng(0).gamma(2, 20, 90)]
    whole = summarize([_round(values)], 0.5, 1.0)
    ours = filled(values).summary(0.5, 1.0)
    for key in ours.keys() - {"hop_seconds", "window_seconds"}:
        assert ours[key] == pytest.approx(whole[key]), key


def _round(values: list[float]) -> Round:
    fields = Round.__dataclass_fields__
    plain = {name: 1.0 for name in fields if name != "latencies_ms"}
    return Round(latencies_ms=np.array(values), **plain)  # type: ignore[arg-type]


@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=60), st.integers(1, 40))
def test_it_is_the_last_windows_in_their_order(values: list[float], kept: int) -> None:
    summary = filled(values, kept).summary(1.0, 1.0)
    last = values[-kept:]
    assert summary["n"] == len(last)
    assert summary["samples_ms"] == pytest.approx(last, abs=1e-6)
    assert summary["max_ms"] == max(last)
    assert summary["p50_ms"] == pytest.approx(float(np.median(last)))
    made = filled(values, kept)
    assert made.windows == len(values)
    assert made.last_ms == values[-1]
    assert made.slowest_ms == max(values)


def test_before_the_first_window_nothing_is_made_up() -> None:
    summary = LatencyTrack().summary(0.5, 1.0)
    assert summary["n"] == 0
    assert summary["p99_ms"] is None
    assert summary["real_time_factor"] is None
    assert LatencyTrack().last_ms is None


def test_the_buckets_hold_all_windows_ever_and_reach_a_minute() -> None:
    made = filled([0.5, 1.0, 2.0, 2000.0, 59_000.0, 61_000.0], kept=2)
    buckets = dict(made.buckets())
    assert buckets[0.001] == 2  # an end belongs to its bucket, as in Prometheus
    assert buckets[2.5] == 4
    assert buckets[60.0] == 5
    assert buckets[float("inf")] == 6
    assert BUCKETS_SECONDS[-1] == 60.0


def test_a_million_windows_take_no_more_memory_than_the_first_thousand() -> None:
    made = filled([1.0] * 1000, kept=1000)

    def size() -> int:
        return sum(sys.getsizeof(value) for value in vars(made).values())

    before = size()
    for _ in range(100_000):
        made.add(2.0)
    assert size() - before < 64  # the counters' digits
    assert len(made.summary(1, 1)["samples_ms"]) == 1000
