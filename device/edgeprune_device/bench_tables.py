"""The tables of a benchmark, as cells of text: what the Markdown, the page and the terminal show.

A `Section` is a title, a sentence and a table; both outputs walk through the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeprune_device.bench_numbers import needed
from edgeprune_device.bench_statistics import thread_text
from edgeprune_device.machine import throttle_reasons

MB = 1_000_000
TYPES_SHOWN = 10
OPERATOR_HEADINGS = ("operator", "nodes", "ms", "share")
WORDS = 2  # columns of text, to the left; the rest are numbers, to the right
HEADINGS = (
    "bundle", "weights", "layers", "parameters", "model MB", "threads", "median ms", "p99 ms",
    "real-time factor", "speed-up", "peak MB", "model's share MB",
)  # fmt: skip
STARTING = ("python", "import", "verify", "load", "first", "cold_start", "first_detection")
ON_THE_WAY = ("window", "inference", "decide", "write", "end_to_end")


@dataclass(frozen=True)
class Section:
    """One table with its title and a sentence on how it is to be read."""

    title: str
    text: str
    headings: Sequence[str] = ()
    words: int = 1
    """Columns of text, to the left; the rest are numbers, to the right."""
    rows: Sequence[Sequence[str]] = ()


def sections(result: Mapping[str, Any]) -> list[Section]:
    """Return all tables but the first, in the order a reader wants them."""
    made = [
        _verdict(result), _distribution(result), _starting(result), _way(result), _paced(result),
        _sustained(result), _memory(result), _environment(result), _energy(result),
    ]  # fmt: skip
    made += [_comparison(one) for one in result.get("comparisons", ())]
    return [section for section in made if section is not None]


def table_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """Give the cells of the table under `HEADINGS`, a row for each variant."""
    rows = []
    for one in result["variants"]:
        low, high = one["p50_interval_ms"]
        slower, faster = one["speedup_interval"]
        first = one["name"] == one["baseline"]
        model = one["model_rss_mb"]
        rows.append([
            one["name"],
            str(one["quantization"] or ""),
            str(one["layers"] or ""),
            f"{one['parameters']:,}" if one["parameters"] else "",
            f"{one['model_bytes'] / MB:.2f}",
            str(one["threads"]),
            f"{number(one['p50_ms'])} ({number(low)} to {number(high)})",
            number(one["p99_ms"]) if one["n"] >= needed(0.99) else "too few",
            number(one["real_time_factor"]),
            "1" if first else f"{one['speedup']:.2f} ({slower:.2f} to {faster:.2f})",
            f"{one['peak_rss_mb']:.0f}",
            "" if model is None else f"{model:.1f}",
        ])  # fmt: skip
    return rows


def number(value: float) -> str:
    """Write a positive number with three digits that count, without an exponent.

    >>> number(1234.5), number(12.345), number(0.0123456)
    ('1234', '12.3', '0.0123')
    """
    if value <= 0:
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(float(f"{value:.3g}"))))  # 9.996 becomes 10.0
    return f"{value:.{digits}f}"


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


def operator_parts(result: Mapping[str, Any]) -> list[tuple[str, list[list[str]]]]:
    """Give a sentence and the table under `OPERATOR_HEADINGS` for each variant that was profiled.

    Operator types come first, then the slowest nodes; a variant that could not be profiled has a
    sentence alone.
    """
    parts: list[tuple[str, list[list[str]]]] = []
    for one in result["variants"]:
        found = one.get("operators")
        if found is None:
            continue
        title = f"Operators of {one['name']}, {thread_text(one['threads'])}"
        if "missing" in found:
            parts.append((f"{title}: {found['missing']}", []))
            continue
        shown = [(row["type"], str(row["nodes"]), row) for row in found["types"][:TYPES_SHOWN]]
        shown += [(f"{row['node']} ({row['type']})", "", row) for row in found["slowest"]]
        text = (
            f"{title}, after the runtime's own fusions: {number(found['ms'])} ms a window in kernels "
            f"(medians of {found['windows']} windows); by type, then the slowest nodes."
        )
        cells = [[name, n, number(row["ms"]), f"{row['share']:.1%}"] for name, n, row in shown]
        parts.append((text, cells))
    return parts


def shown_name(one: Mapping[str, Any]) -> str:
    """Write a variant's name and threads."""
    return f"{one['name']}, {thread_text(one['threads'])}"


def _verdict(result: Mapping[str, Any]) -> Section:
    rows = []
    for one in result["variants"]:
        real = one["real_time"]
        p99, overlap = real["rtf_p99"], real["max_overlap"]
        rows.append([
            shown_name(one), "yes" if real["keeps_up"] else "no",
            "stable" if one["verdict"]["stable"] else "unstable", number(real["rtf_p50"]),
            "too few" if p99 is None else number(p99), f"{real['headroom']:.1%}",
            "none" if overlap is None else f"{overlap:.1%}", real["judged_by"],
        ])  # fmt: skip
    reasons = result["verdict"]["reasons"]
    text = "The run was steady." if not reasons else f"Unstable: {'; '.join(reasons)}."
    text += (
        " Real-time factors are latency / hop. Headroom is what is left of a hop, the largest"
        " overlap that of a window which still keeps up; both by the p99, or by the slowest window"
        f" where there are fewer than {needed(0.99)}."
    )
    return Section("Real time, and whether to trust it", text, (
        "", "keeps up", "run", "factor, p50", "factor, p99", "headroom", "largest overlap", "by",
    ), 3, rows)  # fmt: skip


def _distribution(result: Mapping[str, Any]) -> Section:
    rows = []
    for one in result["variants"]:
        found = one["phases"]["inference"]
        std = found["std"]
        rows.append([
            shown_name(one), str(found["n"]), number(found["min"]), number(found["mean"]),
            "" if std is None else number(std), number(found["median"]), number(found["mad"]),
            *(_percentile(found[name]) for name in ("p90", "p95", "p99", "p99_9")),
            number(found["max"]),
            *(_percentile(found["early_stopping"][name]) for name in ("p90", "p99")),
        ])  # fmt: skip
    needs = ", ".join(
        f"{name.replace('_', '.')} {rows_['needs']}" for name, rows_ in _needs(result)
    )
    text = (
        "Of single windows, in ms. A percentile stands only where there are enough windows for it "
        f"({needs}). The two bounds are MLPerf's early-stopping estimates: the true percentile lies "
        "under them with 99 % confidence."
    )
    return Section("Inference", text, (
        "", "n", "min", "mean", "std", "median", "MAD", "p90", "p95", "p99", "p99.9", "max",
        "p90 bound", "p99 bound",
    ), 1, rows)  # fmt: skip


def _needs(result: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    found = result["variants"][0]["phases"]["inference"]
    return [(name, found[name]) for name in ("p90", "p95", "p99", "p99_9")]


def _starting(result: Mapping[str, Any]) -> Section | None:
    if any("cold_start" not in one["phases"] for one in result["variants"]):
        return None
    rows = [
        [shown_name(one), *(_median(one["phases"].get(name)) for name in STARTING)]
        for one in result["variants"]
    ]
    text = (
        f"Medians of {result['rounds']} rounds, ms: Python and our modules; the runtime's import; the "
        "bundle read and hashed; the model opened; the first, cold window. Cold start: process start "
        "to first scores; first detection: to its row on the disk. Files are in the page cache from "
        "the second round on; a window's audio has to be heard before."
    )
    return Section("From the start of the process", text, (
        "", "Python", "import", "verify", "load", "first window", "cold start", "first detection",
    ), 1, rows)  # fmt: skip


def _way(result: Mapping[str, Any]) -> Section | None:
    if any("end_to_end" not in one["phases"] for one in result["variants"]):
        return None
    rows = []
    for one in result["variants"]:
        phases = one["phases"]
        whole = phases["end_to_end"]
        rows.append([
            shown_name(one), *(_median(phases[name]) for name in ON_THE_WAY),
            _percentile(whole["p90"]), number(whole["max"]), str(whole["n"]),
        ])  # fmt: skip
    text = (
        "Medians, ms: the window cut, the model, the decision, the detection written (SQLite, synced, "
        "and JSON lines, on this disk), and all of it. Feature extraction is a part of the model."
    )
    return Section("From a window's last sample to the disk", text, (
        "", "window", "inference", "decide", "write", "all", "all, p90", "all, max", "n",
    ), 1, rows)  # fmt: skip


def _paced(result: Mapping[str, Any]) -> Section | None:
    rows = []
    for one in result["variants"]:
        pace = one["paced"]
        if pace is None:
            continue
        found = pace["latency_ms"]
        rows.append([
            shown_name(one), f"{one['hop_seconds']:g}", str(pace["n"]), number(found["median"]),
            _percentile(found["p90"]), number(found["max"]), str(pace["misses"]),
            str(pace["longest_streak"]),
            "" if pace["jitter_ms"] is None else number(pace["jitter_ms"]),
            "" if pace["jitter_share"] is None else f"{pace['jitter_share']:.2%}",
            f"{pace['duty_cycle']:.1%}",
            "" if pace["machine_idle"] is None else f"{pace['machine_idle']:.1%}",
        ])  # fmt: skip
    if not rows:
        return None
    text = (
        "Windows come a hop apart, as from a microphone. Latency: last sample there to detection on "
        "the disk, ms; late: not done when the next window was due. Jitter: of the time between two "
        "beginnings. Duty: share of the time worked; idle: of all cores' time."
    )
    return Section("Paced", text, (
        "", "hop s", "n", "median", "p90", "max", "late", "longest streak", "jitter ms",
        "largest jitter", "duty", "idle",
    ), 1, rows)  # fmt: skip


def _sustained(result: Mapping[str, Any]) -> Section | None:
    rows = []
    for one in result["variants"]:
        run = one["sustained"]
        if run is None:
            continue
        if "ratio" not in run:
            rows.append([shown_name(one), run["drift"], str(run["n"]), "", "", "", ""])
            continue
        held = run["interval"]
        rows.append([
            shown_name(one), run["drift"], str(run["n"]), f"{run['seconds'] / 60:.1f}",
            number(run["first_ms"]), number(run["last_ms"]),
            f"{run['ratio']:.3f}" + (f" ({held[0]:.3f} to {held[1]:.3f})" if held else ""),
        ])  # fmt: skip
    if not rows:
        return None
    arrival = result["config"]["sustained_arrival"]
    text = f"Windows {arrival} for minutes; medians of the first and of the last minute, ms."
    return Section("Sustained", text, ("", "drift", "n", "minutes", "first", "last", "last / first"),
                   2, rows)  # fmt: skip


def _memory(result: Mapping[str, Any]) -> Section:
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


def _environment(result: Mapping[str, Any]) -> Section:
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


def _energy(result: Mapping[str, Any]) -> Section | None:
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


def _comparison(compared: Mapping[str, Any]) -> Section:
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


def _median(found: Mapping[str, Any] | None) -> str:
    return number(found["median"]) if found and found["n"] else ""


def _percentile(found: Mapping[str, Any]) -> str:
    return "too few" if found["ms"] is None else number(found["ms"])


def _flags(flags: int | None) -> str:
    if flags is None:
        return ""
    return ", ".join(throttle_reasons(flags)) or "none"
