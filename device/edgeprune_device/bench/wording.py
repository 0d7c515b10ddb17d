"""How a benchmark's figures are worded: numbers, names, the machine and the method in a line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeprune_device.bench.statistics import thread_text
from edgeprune_device.system.machine import throttle_reasons


@dataclass(frozen=True)
class Section:
    """One table with its title and a sentence on how it is to be read."""

    title: str
    text: str
    headings: Sequence[str] = ()
    words: int = 1
    """Columns of text, to the left; the rest are numbers, to the right."""
    rows: Sequence[Sequence[str]] = ()


def number(value: float) -> str:
    """Write a positive number with three digits that count, without an exponent.

    >>> number(1234.5), number(12.345), number(0.0123456)
    ('1234', '12.3', '0.0123')
    """
    if value <= 0:
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(float(f"{value:.3g}"))))  # 9.996 becomes 10.0
    return f"{value:.{digits}f}"


def shown_name(one: Mapping[str, Any]) -> str:
    """Write a variant's name and threads."""
    return f"{one['name']}, {thread_text(one['threads'])}"


def machine_line(result: Mapping[str, Any]) -> str:
    """Say in one line what the machine is; facts that are not known are left out."""
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
    """Say in a few sentences what the numbers of the table are."""
    first = result["variants"][0]
    sounds = [one["sound"] for one in result["variants"] if one["sound"]]
    heard = (
        ", ".join(dict.fromkeys(f"{one['kind']}: {one['name']}" for one in sounds)) or "not told"
    )
    return (
        f"Single windows of sound ({heard}), back to back, {result['rounds']} rounds of "
        f"{result['seconds']:g} s for each row in shuffled order, each in a process of its own. "
        f"Real-time factor: median latency / duration of a hop; under 1 keeps up. "
        f"In brackets: lowest to highest of the rounds' medians "
        f"({first['p50_interval_coverage']:.1%} interval); for the speed-up over "
        f"{first['baseline']} at the same threads, 95 % bootstrap interval over paired rounds. "
        f"MB are 1e6 bytes; peak: memory of the whole process; model's share: "
        "over what Python and the runtime hold before the bundle is read."
    )


def median(found: Mapping[str, Any] | None) -> str:
    """Write a phase's median; nothing where it was not measured."""
    return number(found["median"]) if found and found["n"] else ""


def percentile(found: Mapping[str, Any]) -> str:
    """Write a percentile (``bench_numbers.describe``), or that there are too few samples for it."""
    return "too few" if found["ms"] is None else number(found["ms"])


def memory(result: Mapping[str, Any]) -> Section:
    """Give the table of memory."""
    keys = ("baseline", "after_load", "after_windows", "pss", "peak", "swap")
    rows = [
        [shown_name(one), *("" if one["memory"][f"{key}_mb"] is None
                            else f"{one['memory'][f'{key}_mb']:.1f}" for key in keys)]
        for one in result["variants"]
    ]  # fmt: skip
    text = (
        "MB (1e6 bytes) of the whole process. Baseline: Python and the runtime, before the bundle is "
        "read. PSS divides shared pages among their users."
    )
    return Section("Memory", text, (
        "", "baseline", "model loaded", "after the windows", "PSS", "peak", "swapped",
    ), 1, rows)  # fmt: skip


def environment(result: Mapping[str, Any]) -> Section:
    """Give the table of what the machine did meanwhile."""
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
    rows.append(["swapped meanwhile", missing.get("swap", "") if swap is None
                 else f"{swap['in']} pages in, {swap['out']} out", "", "", ""])  # fmt: skip
    cores = found["others_cores"]
    rows.append(["others", missing.get("others_cores", "") if cores is None
                 else f"kept {cores:.2f} cores busy", "", "", ""])  # fmt: skip
    rows.append(["busiest of them", missing.get("top_process", "") if other is None
                 else f"{other['name']}, {other['share_of_core']:.1%} of a core", "", "", ""])  # fmt: skip
    text = f"Read once a second for {found['seconds']:g} s."
    return Section("The machine meanwhile", text, ("", "", "before", "highest", "after"), 2, rows)


def energy(result: Mapping[str, Any]) -> Section | None:
    """Give the table of energy; None where no meter was read."""
    rows = [
        [shown_name(one), number(one["energy"]["joules_per_inference"]),
         f"{one['energy']['joules_per_audio_hour']:.0f}"]
        for one in result["variants"] if "missing" not in one["energy"]
    ]  # fmt: skip
    if not rows:
        return None
    watts = result["variants"][0]["energy"]
    text = (f"From {watts['idle_watts']:g} W idle and {watts['busy_watts']:g} W busy, given by hand; "
            "an hour of audio includes what idling takes.")  # fmt: skip
    return Section("Energy", text, ("", "J a window, over idle", "J an hour of audio"), 1, rows)


def comparison(compared: Mapping[str, Any]) -> Section:
    """Give the table of an earlier result beside this one."""
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
    text = "Latency in ms, then and now; the interval is that of the change."
    if differs:
        text += f" What else differs: {'; '.join(differs)}."
    return Section(f"Beside {compared['source']}", text,
                   ("", "", "then", "now", "change", "interval"), 2, rows)  # fmt: skip


def _flags(flags: int | None) -> str:
    if flags is None:
        return ""
    return ", ".join(throttle_reasons(flags)) or "none"
