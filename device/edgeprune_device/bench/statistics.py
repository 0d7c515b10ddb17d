"""Turns the latencies of rounds into the numbers of a benchmark: pure functions on arrays.

Two intervals are given, and both use the round as the unit, because windows within a round are not
independent of one another:

- of the median: lowest to highest of the rounds' medians, a distribution-free order-statistic
  interval. R rounds cover the median round with probability 1 - 2^(1-R): 93.75 % for five.
- of the speed-up: 95 % percentile bootstrap over paired rounds. All R^R resamples are counted, none
  are drawn, so it needs no seed; with few rounds it is, like any such bootstrap, a little narrow.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from edgeprune_device.bench.verdict import drift_of, unsteady
from edgeprune_device.bench.worker_client import Round
from edgeprune_device.percentiles import MS_PER_SECOND, Samples, describe, needed, thin

KEPT_SAMPLES = 20_000
SLICES = 40
"""Largest number of points of a round's curve."""
ORDER_SEED = 20
BYTES_PER_MB = 1_000_000
SPEEDUP_COVERAGE = 0.95


def summarize(
    measured: Sequence[Round], hop_seconds: float, window_seconds: float
) -> dict[str, Any]:
    """Summarise one variant's rounds.

    Parameters
    ----------
    measured : sequence of Round
        In the order they were measured.
    hop_seconds, window_seconds : float
        Hop between windows, and length of a window.

    Returns
    -------
    dict
        Samples in ms over the windows of all rounds, memory in MB (1e6 bytes), and two ratios of
        the median latency to the audio's duration:

        - `real_time_factor`: to the hop. Under 1 the recorder keeps up; 0.25 means that the model
          is busy a quarter of the time.
        - `share_of_window`: to the window; the same if windows do not overlap.

    """
    per_round = [one.latencies_ms for one in measured]
    pooled = np.concatenate(per_round)
    p50, p90, p99 = (float(value) for value in np.percentile(pooled, (50, 90, 99)))
    medians = [float(np.median(one)) for one in per_round]
    return {
        "n": len(pooled),
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "mean_ms": float(pooled.mean()),
        "min_ms": float(pooled.min()),
        "max_ms": float(pooled.max()),
        "p50_interval_ms": [min(medians), max(medians)],
        "p50_interval_coverage": order_coverage(len(medians)),
        "p50_interval_method": "lowest and highest of the rounds' medians (order statistics)",
        "round_medians_ms": medians,
        "real_time_factor": p50 / MS_PER_SECOND / hop_seconds,
        "share_of_window": p50 / MS_PER_SECOND / window_seconds,
        "cpu_ms_per_window": float(np.median([one.cpu_ms_per_window for one in measured])),
        "first_ms": float(np.median([one.first_ms for one in measured])),
        "load_ms": float(np.median([one.load_ms for one in measured])),
        "peak_rss_mb": max(one.peak_rss_bytes for one in measured) / BYTES_PER_MB,
        "model_rss_mb": model_rss_mb(measured),
        "golden_difference": max(one.golden_difference for one in measured),
        "samples_ms": thin(pooled, KEPT_SAMPLES),
    }


def model_rss_mb(measured: Sequence[Round]) -> float | None:
    """Return the median in MB of peak memory less that of Python and the runtime before the bundle.

    None if the system does not report the latter.
    """
    shares = [
        one.peak_rss_bytes - one.before_rss_bytes
        for one in measured
        if one.before_rss_bytes is not None
    ]
    return float(np.median(shares)) / BYTES_PER_MB if shares else None


def speedup(baseline: Sequence[Round], measured: Sequence[Round]) -> dict[str, Any]:
    """Compare two variants measured in the same rounds: ratio of medians, with interval."""
    base = [one.latencies_ms for one in baseline]
    own = [one.latencies_ms for one in measured]
    return {
        "speedup": float(np.median(np.concatenate(base)) / np.median(np.concatenate(own))),
        "speedup_interval": list(speedup_interval(base, own, SPEEDUP_COVERAGE)),
        "speedup_interval_coverage": SPEEDUP_COVERAGE,
        "speedup_interval_method": "percentile bootstrap over paired rounds, all resamples",
    }


def speedup_interval(
    baseline: Sequence[Samples], variant: Sequence[Samples], coverage: float
) -> tuple[float, float]:
    """Return the percentile-bootstrap interval of baseline's median / variant's median.

    Round i of one and round i of the other were measured at the same time and are resampled
    together (Efron and Tibshirani 1993, ch. 13); medians are taken over the windows of all rounds
    in a resample. Each distinct resample is computed once and weighted by its number of orders.

    Parameters
    ----------
    baseline, variant : sequences of arrays, ms, one (windows,) array per round
        The same number of rounds.
    coverage : float
        Nominal coverage probability, 0 to 1.

    Returns
    -------
    tuple of float
        Lower and upper end; no unit.

    """
    if len(baseline) != len(variant):
        raise ValueError(f"{len(baseline)} rounds of the baseline, {len(variant)} of the variant")
    ratios, weights = [], []
    for picked in combinations_with_replacement(range(len(variant)), len(variant)):
        ratios.append(
            float(np.median(np.concatenate([baseline[i] for i in picked])))
            / float(np.median(np.concatenate([variant[i] for i in picked])))
        )
        repeats = math.prod(math.factorial(times) for times in Counter(picked).values())
        weights.append(math.factorial(len(picked)) // repeats)
    order = np.argsort(ratios)
    reached = np.cumsum(np.array(weights)[order])
    tail = (1 - coverage) / 2
    ends = np.searchsorted(reached, np.array([tail, 1 - tail]) * reached[-1])
    low, high = np.array(ratios)[order][ends]
    return float(low), float(high)


def order_coverage(rounds: int) -> float:
    """Return the probability that the true median is between the lowest and highest round."""
    return 1 - 2.0 ** (1 - rounds)


def round_orders(variants: int, rounds: int) -> list[list[int]]:
    """Return a shuffled order of the variants for each round; always the same."""
    rng = np.random.default_rng(ORDER_SEED)
    return [[int(place) for place in rng.permutation(variants)] for _ in range(rounds)]


def phases_of(measured: Sequence[Round]) -> dict[str, Any]:
    """Describe every phase over all rounds (``percentiles.describe``), in ms.

    Phases of a start (``python`` to ``first_detection``) happen once per round, so they have as
    many samples as there are rounds. The samples of `inference` are the variant's ``samples_ms``.
    """
    names = list(dict.fromkeys(name for one in measured for name in one.phases_ms))
    found: dict[str, Any] = {}
    for name in names:
        samples = np.array([ms for one in measured for ms in one.phases_ms.get(name, [])])
        found[name] = {**describe(samples), "samples_ms": thin(samples, KEPT_SAMPLES)}
    found["features"] = {"n": 0, "missing": "the front end is part of the model file"}
    found["inference"] = describe(np.concatenate([one.latencies_ms for one in measured]))
    return found


def memory_of(measured: Sequence[Round]) -> dict[str, Any]:
    """Return memory in MB (1e6 bytes), the highest of the rounds; None if not reported."""
    rows: dict[str, list[int | None]] = {
        "baseline": [one.before_rss_bytes for one in measured],
        "peak": [one.peak_rss_bytes for one in measured],
    }
    for key in ("after_load", "after_windows", "pss", "swap"):
        rows[key] = [one.memory_bytes.get(key) for one in measured]
    found: dict[str, Any] = {}
    for key, values in rows.items():
        told = [value for value in values if value is not None]
        found[f"{key}_mb"] = max(told) / BYTES_PER_MB if told else None
    model = model_rss_mb(measured)
    found["model_mb"] = model
    found["missing"] = {
        key: "there is no /proc/self/status or smaps_rollup"
        for key, value in found.items()
        if value is None
    }
    return found


def timeline_of(measured: Sequence[Round], began: float) -> list[list[float]]:
    """Return latencies over time: [seconds since the start, median, largest], the latter in ms.

    Each round is split into at most ``SLICES`` pieces with equal numbers of windows.
    """
    points = []
    for one in measured:
        if one.timed_at is None or not len(one.latencies_ms):
            continue
        ends = one.timed_at - began + np.cumsum(one.latencies_ms) / MS_PER_SECOND
        pieces = np.array_split(np.arange(len(ends)), min(SLICES, len(ends)))
        points += [
            [round(float(ends[piece[-1]]), 2), round(float(np.median(one.latencies_ms[piece])), 6),
             round(float(one.latencies_ms[piece].max()), 6)]
            for piece in pieces
        ]  # fmt: skip
    return points


def sustained_of(measured: Round | None, began: float) -> dict[str, Any] | None:
    """Return the result of a sustained run: its curve on the clock of the benchmark, and drift."""
    if measured is None or measured.sustained is None:
        return None
    run = measured.sustained
    start = (measured.sustained_at or began) - began
    slices = [{**one, "at_seconds": round(start + one["at_seconds"], 2)} for one in run["slices"]]
    return {"n": run["n"], "seconds": run["seconds"], "slices": slices, **drift_of(run)}


def sample_notes(entries: Sequence[dict[str, Any]]) -> list[str]:
    """Return a sentence for each variant whose timings are unstable or too few."""
    notes, few = [], []
    for entry in entries:
        name = f"{entry['name']} at {thread_text(entry['threads'])}"
        notes += [f"{name}: {reason}." for reason in unsteady(entry)]
        if entry["n"] < needed(0.99):
            few.append(f"{name} ({entry['n']})")
    if few:
        notes.append(f"A p99 needs {needed(0.99)} windows; too few had: {', '.join(few)}.")
    return notes


def thread_text(count: int) -> str:
    """Format a number of threads."""
    return f"{count} thread{'s' if count > 1 else ''}"
