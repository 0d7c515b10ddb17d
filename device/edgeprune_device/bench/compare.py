"""Compares a benchmark with an earlier one, or with live statistics of ``edgeprune listen``.

Pure functions of the data read. Rows are matched by bundle name and threads. A ratio is the new
latency over the old one, with an interval:

- p50, if both have medians of rounds: percentile bootstrap over the rounds of each (all resamples,
  weighted, none drawn), 95 %;
- p50 of live statistics, and p99 always: the ends of both 95 % order-statistic intervals, divided
  crosswise, which covers at least 90 %. The windows are assumed to be independent of one another.

Results of another machine or another bundle are not compared: the row gives the reason. Other
differences (a runtime, a governor, the temperature, the audio) are listed, because they may explain
the ratio.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune_device.errors import FAILED_CHECK, EdgepruneError
from edgeprune_device.percentiles import COVERAGE, interval, needed
from edgeprune_device.system.machine import throttle_reasons

SAME_MACHINE = ("model", "architecture", "cores", "memory_mb")
EXPLAINS = ("os", "kernel", "python", "governors", "nice", "affinity")
ALLOW = "Allow more with --fail-over."
UNSTABLE = "A run was unstable: measure again while nothing else runs."
WARMER = 5.0
"""Smallest difference of temperature that is reported, in °C."""
LIVE = ("live windows are one hop apart, so processor and caches have idled in between, and the "
        "recorder's other threads run at the same time")  # fmt: skip


def compare(result: Mapping[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """Compare every variant with its row in an earlier result.

    Parameters
    ----------
    result, earlier : mapping
        Result of ``bench``, and of ``read_earlier``.

    Returns
    -------
    dict
        ``source``, ``live``, and ``rows``: ``name``, ``threads``, ``not_comparable`` (reasons;
        empty: comparable), ``differs`` (sentences), and ``p50`` and ``p99`` (``before_ms``,
        ``now_ms``, ``ratio``, ``interval``, ``method``; or ``missing``).

    """
    machine = _machine_differences(result, earlier)
    rows = []
    for one in result["variants"]:
        row: dict[str, Any] = {"name": one["name"], "threads": one["threads"]}
        old = _row_of(one, earlier)
        if old is None:
            shown = f"{earlier['source']} has no {one['name']} at threads {one['threads']}"
            rows.append({**row, "not_comparable": [shown], "differs": []})
            continue
        reasons, differs = list(machine[0]), list(machine[1])
        if old.get("digest") not in (None, one["digest"]):
            reasons.append("it is another bundle with the same name (bundle.json differs)")
        if old.get("file") not in (None, one["file"]):
            reasons.append(f"it was the file {old['file']}")
        differs += _differences("runtime", old, one) + _differences("hop_seconds", old, one)
        heard = [(row_.get("sound") or {}).get("kind") for row_ in (old, one)]
        if None not in heard and heard[0] != heard[1]:
            differs.append(f"sound: {heard[0]} then, {heard[1]} now")
        if earlier["live"]:
            differs += [LIVE, *earlier["state"]]
        row |= {"not_comparable": reasons, "differs": differs}
        if not reasons:
            row |= {"p50": _median_ratio(old, one), "p99": _p99_ratio(old, one)}
        rows.append(row)
    return {"source": earlier["source"], "live": earlier["live"], "rows": rows}


def check_gate(compared: Mapping[str, Any], percent: float) -> None:
    """Raise if a variant is significantly slower than allowed, or cannot be compared.

    Raises
    ------
    EdgepruneError
        The lower end of an interval is over 1 + percent / 100 (status 1), or a row cannot be
        compared (status 2).

    """
    for row in compared["rows"]:
        name = f"{row['name']} at threads {row['threads']}"
        if row["not_comparable"]:
            raise EdgepruneError(
                f"{name} cannot be compared with {compared['source']}: "
                f"{'; '.join(row['not_comparable'])}.",
                "Measure the baseline again on this machine.",
            )
    for row in compared["rows"]:
        for key in ("p50", "p99"):
            found = row[key]
            if found.get("interval") and found["interval"][0] > 1 + percent / 100:
                low, high = found["interval"]
                raise EdgepruneError(
                    f"{row['name']} at threads {row['threads']} is slower than in "
                    f"{compared['source']}: {key} {found['now_ms']:.3g} ms against "
                    f"{found['before_ms']:.3g} ms, {100 * (low - 1):+.1f} to "
                    f"{100 * (high - 1):+.1f} %; --fail-over allows {percent:g} %.",
                    UNSTABLE if any("unstable" in text for text in row["differs"]) else ALLOW,
                    FAILED_CHECK,
                )


def ratio_of_medians(
    old: Sequence[float], new: Sequence[float], coverage: float = COVERAGE
) -> tuple[float, float]:
    """Return the bootstrap interval of median(new) / median(old), with rounds resampled.

    The two were measured at different times, so their rounds are resampled independently.

    Parameters
    ----------
    old, new : sequences of float
        Medians of rounds, ms; at most seven each.
    coverage : float
        Coverage probability, 0 to 1.

    Returns
    -------
    tuple of float
        Lower and upper end; no unit.

    """
    before, after = _resampled(old), _resampled(new)
    ratios = (after[0][:, None] / before[0][None, :]).ravel()
    weights = (after[1][:, None] * before[1][None, :]).ravel()
    order = np.argsort(ratios)
    reached = np.cumsum(weights[order]) / weights.sum()
    tail = (1 - coverage) / 2
    ends = np.searchsorted(reached, [tail, 1 - tail])
    return float(ratios[order[ends[0]]]), float(ratios[order[min(ends[1], len(order) - 1)]])


def _resampled(medians: Sequence[float]) -> tuple[Any, Any]:
    """Return the median of every distinct resample, and how often it occurs."""
    values, weights = [], []
    for picked in combinations_with_replacement(sorted(medians), len(medians)):
        values.append(float(np.median(picked)))
        repeats = math.prod(math.factorial(times) for times in Counter(picked).values())
        weights.append(math.factorial(len(picked)) / repeats)
    return np.array(values), np.array(weights)


def _median_ratio(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        "before_ms": old["p50_ms"],
        "now_ms": new["p50_ms"],
        "ratio": new["p50_ms"] / old["p50_ms"],
    }
    if old.get("round_medians_ms") and new.get("round_medians_ms"):
        ends = ratio_of_medians(old["round_medians_ms"], new["round_medians_ms"])
        return {
            **found,
            "interval": list(ends),
            "method": "bootstrap over the rounds of each, 95 %",
        }
    return found | _crosswise(old, new, 0.5)


def _p99_ratio(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    fewest = min(old["n"], new["n"], len(old["samples_ms"]), len(new["samples_ms"]))
    if fewest < needed(0.99):
        return {"missing": f"{fewest} samples; {needed(0.99)} are needed"}
    found = {
        "before_ms": old["p99_ms"],
        "now_ms": new["p99_ms"],
        "ratio": new["p99_ms"] / old["p99_ms"],
    }
    return found | _crosswise(old, new, 0.99)


def _crosswise(old: Mapping[str, Any], new: Mapping[str, Any], percentile: float) -> dict[str, Any]:
    ends = [interval(np.asarray(one["samples_ms"], np.float64), percentile) for one in (old, new)]
    if ends[0] is None or ends[1] is None:
        return {"interval": None, "method": "none: there are too few samples"}
    return {"interval": [ends[1][0] / ends[0][1], ends[1][1] / ends[0][0]],
            "method": "ends of both order-statistic intervals, at least 90 %"}  # fmt: skip


def _row_of(one: Mapping[str, Any], earlier: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return a variant's row; a live row matches its bundle whatever its threads and file."""
    for row in earlier["variants"]:
        if earlier["live"]:
            same_bundle = one["digest"] == row["digest"] or one["name"] == row["name"]
            same_threads = row["threads"] in (None, one["threads"])
        else:
            same_bundle = row["name"] == one["name"]
            same_threads = row.get("threads") == one["threads"]
        if same_bundle and same_threads:
            return dict(row)
    return None


def _machine_differences(
    result: Mapping[str, Any], earlier: Mapping[str, Any]
) -> tuple[list[str], list[str]]:
    """Return what prevents a comparison, and what may explain a difference."""
    old, new = earlier.get("machine") or {}, result["machine"]
    forbids = [text for key in SAME_MACHINE for text in _differences(key, old, new)]
    explains = [text for key in EXPLAINS for text in _differences(key, old, new)]
    explains += _differences("edgeprune_version", earlier, result)
    before, after = earlier.get("environment") or {}, result.get("environment") or {}
    was, now = ((side.get("temperature_c") or {}).get("highest") for side in (before, after))
    if was is not None and now is not None and abs(was - now) >= WARMER:
        explains.append(f"highest temperature: {was:.0f} °C then, {now:.0f} °C now")
    flags = [(side.get("throttled") or {}).get("during") for side in (before, after)]
    if flags[0] != flags[1] and None not in flags:
        explains.append(f"throttling while measured: {flags[0]:#x} then, {flags[1]:#x} now")
    for when, side in (("then", earlier), ("now", result)):
        if (side.get("verdict") or {}).get("stable") is False:
            explains.append(f"the run was unstable {when}")
    return [f"another machine ({text})" for text in forbids], explains


def _differences(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    was, now = old.get(key), new.get(key)
    if was is None or now is None or was == now:
        return []
    if key == "memory_mb" and abs(was - now) < 0.02 * now:  # kernels reserve different amounts
        return []
    return [f"{key}: {_shown(was)} then, {_shown(now)} now"]


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


STATISTICS = ("n", "p50_ms", "p99_ms", "samples_ms")
"""Keys that identify an object with statistics in a live file."""
MOST_DEPTH = 4


def read_earlier(path: Path) -> dict[str, Any]:
    """Read a bench.json, or a status.json of ``listen``, to compare with.

    Returns
    -------
    dict
        ``source``, ``live``, ``machine``, ``edgeprune_version``, ``environment`` and ``variants``.

    Raises
    ------
    EdgepruneError
        There is no such file, or it is neither.

    """
    try:
        held = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise EdgepruneError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError:
        raise EdgepruneError(f"{path} is not JSON.", "Name a bench.json.") from None
    if isinstance(held, dict):
        found: dict[str, Any] = {}
        if isinstance(held.get("variants"), list):
            found = {"live": False, "variants": held["variants"]}
        elif statistics := _statistics(held):
            found = {"live": True, "variants": [_live_row(held, statistics)], "state": _state(held)}
        if found.get("variants") and all(_is_row(row) for row in found["variants"]):
            keys = ("machine", "edgeprune_version", "environment", "verdict")
            return {**found, "source": str(path), **{key: held.get(key) for key in keys}}
    raise EdgepruneError(
        f"{path} has no benchmark and no live statistics.",
        "Name a bench.json, or the status.json of a recorder.",
    )


def _statistics(held: Mapping[str, Any], depth: int = 0) -> dict[str, Any] | None:
    """Return the first object in a live file that has latency statistics."""
    if all(key in held for key in STATISTICS):
        return dict(held)
    for value in held.values():
        if isinstance(value, dict) and depth < MOST_DEPTH:
            found = _statistics(value, depth + 1)
            if found is not None:
                return found
    return None


def _live_row(held: Mapping[str, Any], statistics: Mapping[str, Any]) -> dict[str, Any]:
    """Return a live file's statistics as a row of a benchmark."""
    bundle = held.get("bundle")
    own = bundle if isinstance(bundle, dict) else {"name": bundle, "digest": held.get("digest")}
    return {"threads": held.get("threads"), "runtime": held.get("runtime"),
            "hop_seconds": held.get("hop_seconds"), "name": own.get("name"),
            "digest": own.get("digest"), **statistics}  # fmt: skip


def _state(held: Mapping[str, Any]) -> list[str]:
    """Return the state of a recorder's machine and load, as far as it may explain latencies."""
    machine = held.get("machine")
    machine = machine if isinstance(machine, dict) else {}
    said = []
    for key, unit in (("temperature_c", " °C"), ("frequency_mhz", " MHz"), ("load_average", "")):
        if isinstance(machine.get(key), int | float):
            said.append(f"{key.partition('_')[0]} {machine[key]:g}{unit}")
    flags = machine.get("throttled")
    if isinstance(flags, int) and flags:
        said.append(", ".join(throttle_reasons(flags)))
    if held.get("load") not in (None, "", "normal"):
        said.append(f"load reduced: {held['load']}")
    return [f"the recorder reported: {'; '.join(said)}"] if said else []


def _is_row(row: Any) -> bool:
    """Return whether a row has the numbers that a comparison needs."""
    if not isinstance(row, dict) or "name" not in row:
        return False
    numbers = [row.get("n"), row.get("p50_ms"), row.get("p99_ms")]
    samples = row.get("samples_ms")
    if not isinstance(samples, list) or not samples:
        return False
    return all(isinstance(one, int | float) and one > 0 for one in (*numbers, *samples))
