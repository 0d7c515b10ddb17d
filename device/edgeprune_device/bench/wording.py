"""Text of a benchmark: formatted numbers, names, the machine and the method in a line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeprune_device.bench.statistics import thread_text
from edgeprune_device.system.machine import throttle_reasons


@dataclass(frozen=True)
class Section:
    """A table with its title and a sentence that explains it."""

    title: str
    text: str
    headings: Sequence[str] = ()
    words: int = 1
    """Number of text columns, aligned left; the rest are numbers, aligned right."""
    rows: Sequence[Sequence[str]] = ()


def number(value: float) -> str:
    """Format a positive number with three significant digits, without an exponent.

    >>> number(1234.5), number(12.345), number(0.0123456)
    ('1234', '12.3', '0.0123')
    """
    if value <= 0:
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(float(f"{value:.3g}"))))  # 9.996 becomes 10.0
    return f"{value:.{digits}f}"


def shown_name(one: Mapping[str, Any]) -> str:
    """Format a variant's name and threads."""
    return f"{one['name']}, {thread_text(one['threads'])}"


def machine_line(result: Mapping[str, Any]) -> str:
    """Return one line that describes the machine, without unknown facts."""
    machine, used = result["machine"], sorted({one["runtime"] for one in result["variants"]})
    before, after = machine["before"], machine["after"]
    warm = [state["temperature_c"] for state in (before, after)]
    parts = [
        machine["model"],
        machine["architecture"],
        f"{machine['cores']} cores",
        machine["memory_mb"] and f"{machine['memory_mb'] / 1000:.1f} GB",
        machine["os"],
        machine["kernel"] and f"kernel {machine['kernel']}",
        f"Python {machine['python']}",
        *used,
        machine["governors"] and f"governor {', '.join(machine['governors'])}",
        None if None in warm else f"{warm[0]:.0f} °C before, {warm[1]:.0f} °C after",
    ]
    return ", ".join(str(part) for part in parts if part)


def method_line(result: Mapping[str, Any]) -> str:
    """Return a few sentences that explain the numbers of the table."""
    first = result["variants"][0]
    sounds = [one["sound"] for one in result["variants"] if one["sound"]]
    heard = ", ".join(dict.fromkeys(f"{one['kind']}: {one['name']}" for one in sounds)) or "unknown"
    return (
        f"Single windows of audio ({heard}), back to back, {result['rounds']} rounds of "
        f"{result['seconds']:g} s per row in shuffled order, each in its own process. "
        f"Real-time factor: median latency / hop; under 1 keeps up. "
        f"In brackets: lowest to highest of the rounds' medians "
        f"({first['p50_interval_coverage']:.1%} interval); for the speed-up over "
        f"{first['baseline']} at the same threads, 95 % bootstrap interval over paired rounds. "
        f"MB are 1e6 bytes; peak: memory of the whole process; model memory: "
        "peak less what Python and the runtime use before the bundle is read."
    )


def median(found: Mapping[str, Any] | None) -> str:
    """Format a phase's median; empty if it was not measured."""
    return number(found["median"]) if found and found["n"] else ""


def percentile(found: Mapping[str, Any]) -> str:
    """Format a percentile (of ``percentiles.describe``), or "too few"."""
    return "too few" if found["ms"] is None else number(found["ms"])


def memory(result: Mapping[str, Any]) -> Section:
    """Return the table of memory."""
    keys = ("baseline", "after_load", "after_windows", "pss", "peak", "swap")
    rows = [
        [shown_name(one), *("" if one["memory"][f"{key}_mb"] is None
                            else f"{one['memory'][f'{key}_mb']:.1f}" for key in keys)]
        for one in result["variants"]
    ]  # fmt: skip
    text = (
        "MB (1e6 bytes) of the whole process. Baseline: Python and the runtime, before the bundle is "
        "read. PSS divides shared pages among the processes that use them."
    )
    return Section("Memory", text, (
        "", "baseline", "model loaded", "after the windows", "PSS", "peak", "swapped",
    ), 1, rows)  # fmt: skip


def environment(result: Mapping[str, Any]) -> Section:
    """Return the table of the machine's state during the measurement."""
    found = result["environment"]
    missing = found["missing"]
    rows = []
    for key, title, unit in (("temperature_c", "temperature", " °C"),
                             ("frequency_mhz", "frequency", " MHz"),
                             ("load_average", "load average", "")):  # fmt: skip
        one = found[key]
        if one is None:
            rows.append([title, missing.get(key, ""), "", "", ""])
        else:
            rows.append(
                [title, "", *(f"{one[when]:g}{unit}" for when in ("before", "highest", "after"))]
            )
    flags = found["throttled"]
    if flags is None:
        rows.append(["throttling", missing.get("throttled", ""), "", "", ""])
    else:
        cells = [_flags(flags[when]) for when in ("before", "during", "after")]
        rows.append(["throttling", "", *cells])
    swap, other = found["swap"], found["top_process"]
    rows.append(["swap", missing.get("swap", "") if swap is None
                 else f"{swap['in']} pages in, {swap['out']} out", "", "", ""])  # fmt: skip
    cores = found["others_cores"]
    rows.append(["other processes", missing.get("others_cores", "") if cores is None
                 else f"kept {cores:.2f} cores busy", "", "", ""])  # fmt: skip
    rows.append(["busiest process", missing.get("top_process", "") if other is None
                 else f"{other['name']}, {other['share_of_core']:.1%} of a core", "", "", ""])  # fmt: skip
    text = f"Read once a second for {found['seconds']:g} s."
    return Section("Machine state", text, ("", "", "before", "highest", "after"), 2, rows)


def energy(result: Mapping[str, Any]) -> Section | None:
    """Return the table of energy; None if no power was given."""
    rows = [
        [shown_name(one), number(one["energy"]["joules_per_inference"]),
         f"{one['energy']['joules_per_audio_hour']:.0f}"]
        for one in result["variants"] if "missing" not in one["energy"]
    ]  # fmt: skip
    if not rows:
        return None
    watts = result["variants"][0]["energy"]
    text = (f"From {watts['idle_watts']:g} W idle and {watts['busy_watts']:g} W busy, given by hand; "
            "an hour of audio includes the idle power.")  # fmt: skip
    return Section("Energy", text, ("", "J per window, above idle", "J per hour of audio"), 1, rows)


def comparison(compared: Mapping[str, Any]) -> Section:
    """Return the table that compares an earlier result with this one."""
    rows, differs = [], dict[str, None]()
    for row in compared["rows"]:
        name = shown_name(row)
        differs |= dict.fromkeys(row["differs"])
        if row["not_comparable"]:
            rows.append(
                [name, f"not comparable: {'; '.join(row['not_comparable'])}", "", "", "", ""]
            )
            continue
        for key in ("p50", "p99"):
            found = row[key]
            if "missing" in found:
                rows.append([name, f"{key}: {found['missing']}", "", "", "", ""])
                continue
            held = found["interval"]
            rows.append([
                name, key, number(found["before_ms"]), number(found["now_ms"]),
                f"{100 * (found['ratio'] - 1):+.1f} %",
                "" if held is None else f"{100 * (held[0] - 1):+.1f} to {100 * (held[1] - 1):+.1f} %",
            ])  # fmt: skip
    text = "Latency in ms, then and now, with the change and its interval."
    if differs:
        text += f" Other differences: {'; '.join(differs)}."
    return Section(f"Compared with {compared['source']}", text,
                   ("", "", "then", "now", "change", "interval"), 2, rows)  # fmt: skip


def _flags(flags: int | None) -> str:
    if flags is None:
        return ""
    return ", ".join(throttle_reasons(flags)) or "none"
