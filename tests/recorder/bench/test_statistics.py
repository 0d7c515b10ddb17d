"""From rounds to figures: against other arithmetic."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
from bench_rounds import a_round, latencies, rounds_of

from edgeprune_device.bench import statistics


def test_percentiles_are_those_of_the_sorted_windows_of_all_rounds() -> None:
    measured = rounds_of(1, 3.0)
    found = statistics.summarize(measured, 0.25, 0.5)
    every = sorted(value for one in latencies(measured) for value in one)
    for key, share in (("p50_ms", 0.5), ("p90_ms", 0.9), ("p99_ms", 0.99)):
        assert found[key] == pytest.approx(scipy.stats.mstats.mquantiles(every, share, 1, 1)[0])
    assert (found["n"], found["min_ms"], found["max_ms"]) == (len(every), every[0], every[-1])
    assert found["mean_ms"] == pytest.approx(sum(every) / len(every))


def test_real_time_factor_is_of_the_hop_and_the_share_of_the_window() -> None:
    found = statistics.summarize([a_round(np.full(20, 50.0))] * 3, 0.25, 0.5)
    assert found["real_time_factor"] == pytest.approx(0.2)
    assert found["share_of_window"] == pytest.approx(0.1)


def test_memory_is_the_highest_peak_and_the_models_share_leaves_out_python() -> None:
    steady = np.full(20, 1.0)
    measured = [a_round(steady, peak_rss_bytes=peak) for peak in (70e6, 90e6, 80e6)]
    found = statistics.summarize(measured, 1.0, 1.0)
    assert (found["peak_rss_mb"], found["model_rss_mb"]) == (90.0, 30.0)
    untold = [a_round(steady, before_rss_bytes=None)] * 3
    assert statistics.summarize(untold, 1.0, 1.0)["model_rss_mb"] is None


@pytest.mark.parametrize("rounds", [3, 5, 6])
def test_interval_of_the_median_covers_as_often_as_it_says(rounds: int) -> None:
    # The sign test's interval: both tails of a binomial, none or all of the rounds below.
    expected = 1 - 2 * scipy.stats.binom.pmf(0, rounds, 0.5)
    assert statistics.order_coverage(rounds) == pytest.approx(expected)
    drawn = np.random.default_rng(0).exponential(size=(20_000, rounds))
    inside = (drawn.min(1) < np.log(2)) & (np.log(2) < drawn.max(1))
    assert inside.mean() == pytest.approx(expected, abs=0.01)


def test_median_lies_in_its_interval_which_spans_the_rounds_medians() -> None:
    measured = rounds_of(2, 1.0, rounds=5)
    found = statistics.summarize(measured, 1.0, 1.0)
    low, high = found["p50_interval_ms"]
    assert low <= found["p50_ms"] <= high
    assert [low, high] == [min(found["round_medians_ms"]), max(found["round_medians_ms"])]


@pytest.mark.parametrize("rounds", [3, 4])
def test_speed_up_interval_is_that_of_every_resample_written_out(rounds: int) -> None:
    base, own = latencies(rounds_of(3, 4.0, rounds)), latencies(rounds_of(4, 1.5, rounds))
    ratios = [
        np.median(np.concatenate([base[i] for i in picked]))
        / np.median(np.concatenate([own[i] for i in picked]))
        for picked in itertools.product(range(rounds), repeat=rounds)
    ]
    expected = np.percentile(ratios, (2.5, 97.5), method="inverted_cdf")
    assert statistics.speedup_interval(base, own, 0.95) == pytest.approx(tuple(expected))


def test_speed_up_of_a_variant_that_is_always_twice_as_fast_is_two_without_spread() -> None:
    base = rounds_of(5, 4.0)
    half = [a_round(one.latencies_ms / 2) for one in base]
    found = statistics.speedup(base, half)
    assert found["speedup"] == pytest.approx(2)
    assert found["speedup_interval"] == pytest.approx([2, 2])


def test_pairing_the_rounds_takes_out_what_slowed_both() -> None:
    base = rounds_of(6, 4.0)
    drifting = [a_round(one.latencies_ms * (1 + turn)) for turn, one in enumerate(base)]
    half = [a_round(one.latencies_ms / 2) for one in drifting]
    low, high = statistics.speedup(drifting, half)["speedup_interval"]
    assert high - low < 1e-9


def test_rounds_that_are_not_paired_are_refused() -> None:
    with pytest.raises(ValueError, match="3 rounds of the baseline, 4"):
        statistics.speedup_interval([np.ones(3)] * 3, [np.ones(3)] * 4, 0.95)


def test_every_variant_is_measured_once_in_a_round_and_the_order_changes() -> None:
    orders = statistics.round_orders(6, 5)
    assert all(sorted(order) == list(range(6)) for order in orders)
    assert len({tuple(order) for order in orders}) == 5
    assert orders == statistics.round_orders(6, 5)


def test_unsteady_and_few_windows_are_noted_and_steady_ones_are_not() -> None:
    entry = {"name": "bats", "threads": 1, "n": 662, "round_medians_ms": [10.0, 10.4, 10.9]}
    assert statistics.sample_notes([entry]) == []
    unsteady = entry | {"round_medians_ms": [10.0, 10.4, 11.9], "n": 60}
    drift, few = statistics.sample_notes([unsteady])
    assert (
        "bats at 1 thread: the rounds' medians differ by 18%, so the machine was not stable"
        in drift
    )
    assert few == "A p99 needs 662 windows; too few had: bats at 1 thread (60)."


def test_the_phases_of_all_rounds_are_described_and_those_of_a_start_come_once_a_round() -> None:
    measured = [a_round(np.full(20, ms), phases_ms={"load": [ms], "write": [ms, ms + 2]})
                for ms in (1.0, 2.0, 6.0)]  # fmt: skip
    found = statistics.phases_of(measured)
    assert (found["load"]["n"], found["load"]["median"]) == (3, 2.0)
    assert (found["write"]["n"], found["write"]["samples_ms"]) == (6, [1, 3, 2, 4, 6, 8])
    assert found["inference"]["n"] == 60
    assert found["features"] == {"n": 0, "missing": "the front end is part of the model file"}


def test_memory_is_the_highest_of_the_rounds_and_what_is_not_told_says_why() -> None:
    steady = np.full(20, 1.0)
    measured = [a_round(steady, memory_bytes={"after_load": load, "pss": None})
                for load in (60_000_000, 61_500_000, None)]  # fmt: skip
    found = statistics.memory_of(measured)
    assert (found["after_load_mb"], found["peak_mb"], found["baseline_mb"]) == (61.5, 80.0, 50.0)
    assert found["pss_mb"] is found["swap_mb"] is None
    assert set(found["missing"]) == {"pss_mb", "swap_mb", "after_windows_mb"}


def test_a_rounds_curve_is_cut_into_pieces_of_as_many_windows_on_the_runs_clock() -> None:
    one = a_round(np.array([100.0] * 79 + [300.0]), timed_at=1005.0)
    points = statistics.timeline_of(
        [one, a_round(np.ones(5))], began=1000.0
    )  # the other is untimed
    assert len(points) == statistics.SLICES
    assert points[0] == [5.2, 100.0, 100.0]  # two windows of 0.1 s after five seconds
    assert points[-1] == [13.2, 200.0, 300.0]
    short = statistics.timeline_of([a_round(np.array([10.0, 20.0]), timed_at=1000.0)], 1000.0)
    assert short == [[0.01, 10.0, 10.0], [0.03, 20.0, 20.0]]


def test_a_sustained_run_is_put_on_the_runs_clock_and_judged() -> None:
    run = {"n": 100, "seconds": 60.0, "slices": [{"at_seconds": 1.5, "n": 3, "p50_ms": 1, "max_ms": 2}],
           "first_ms": [10.0] * 50, "last_ms": [13.0] * 50}  # fmt: skip
    found = statistics.sustained_of(a_round(np.ones(1), sustained=run, sustained_at=1030.0), 1000.0)
    assert found is not None
    assert found["slices"][0]["at_seconds"] == 31.5
    assert (found["drift"], found["ratio"]) == ("slower", 1.3)
    assert run["slices"][0]["at_seconds"] == 1.5  # type: ignore[index]
    assert statistics.sustained_of(None, 0.0) is None
    assert statistics.sustained_of(a_round(np.ones(1)), 0.0) is None


def test_one_thread_is_one_and_two_are_more() -> None:
    assert [statistics.thread_text(count) for count in (1, 2)] == ["1 thread", "2 threads"]
