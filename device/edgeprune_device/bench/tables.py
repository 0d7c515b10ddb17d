"""The tables of a benchmark as cells of text, for Markdown, HTML and the terminal.

A `Section` is a title, a sentence and a table; all outputs show the same ones. Those that are not
about latency are made by ``wording``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeprune_device.bench.statistics import thread_text
from edgeprune_device.bench.wording import (
    Section,
    comparison,
    energy,
    environment,
    median,
    memory,
    number,
    percentile,
    shown_name,
)
from edgeprune_device.percentiles import needed

MB = 1_000_000
TYPES_SHOWN = 10
OPERATOR_HEADINGS = ("operator", "nodes", "ms", "share")
WORDS = 2  # text columns, aligned left; the rest are numbers, aligned right
HEADINGS = (
    "bundle", "weights", "layers", "parameters", "model MB", "threads", "median ms", "p99 ms",
    "real-time factor", "speed-up", "peak MB", "model memory MB",
)  # fmt: skip
STARTING = ("python", "import", "verify", "load", "first", "cold_start", "first_detection")
ON_THE_WAY = ("window", "inference_on_way", "decide", "write", "end_to_end")


def sections(result: Mapping[str, Any]) -> list[Section]:
    """Return all tables but the first, in reading order."""
    made = [
        _verdict(result), _distribution(result), _starting(result), _way(result), _paced(result),
        _sustained(result), memory(result), environment(result), energy(result),
    ]  # fmt: skip
    made += [comparison(one) for one in result.get("comparisons", ())]
    return [section for section in made if section is not None]


def table_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """Return the cells of the table under `HEADINGS`, one row per variant."""
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


def operator_parts(result: Mapping[str, Any]) -> list[tuple[str, list[list[str]]]]:
    """Return a sentence and the table under `OPERATOR_HEADINGS` for each profiled variant.

    Operator types come first, then the slowest nodes; a variant that could not be profiled has only
    a sentence.
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
            f"{title}, after the runtime's own fusions: {number(found['ms'])} ms per window in kernels "
            f"(medians of {found['windows']} windows); by type, then the slowest nodes."
        )
        cells = [[name, n, number(row["ms"]), f"{row['share']:.1%}"] for name, n, row in shown]
        parts.append((text, cells))
    return parts


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
    text = "The run was stable." if not reasons else f"Unstable: {'; '.join(reasons)}."
    text += (
        " Real-time factors are latency / hop. Headroom is the rest of the hop; largest overlap: of"
        " windows with which the model still keeps up; both by the p99, or by the slowest window if"
        f" there are fewer than {needed(0.99)}."
    )
    return Section("Real-time factor and stability", text, (
        "", "keeps up", "run", "factor, p50", "factor, p99", "headroom", "largest overlap",
        "judged by",
    ), 3, rows)  # fmt: skip


def _distribution(result: Mapping[str, Any]) -> Section:
    rows = []
    for one in result["variants"]:
        found = one["phases"]["inference"]
        std = found["std"]
        rows.append([
            shown_name(one), str(found["n"]), number(found["min"]), number(found["mean"]),
            "" if std is None else number(std), number(found["median"]), number(found["mad"]),
            *(percentile(found[name]) for name in ("p90", "p95", "p99", "p99_9")),
            number(found["max"]),
            *(percentile(found["early_stopping"][name]) for name in ("p90", "p99")),
        ])  # fmt: skip
    needs = ", ".join(
        f"{name.replace('_', '.')} {rows_['needs']}" for name, rows_ in _needs(result)
    )
    text = (
        "Latencies of single windows in ms. A percentile is given only with enough windows for it "
        f"({needs}). The two bounds are MLPerf's early-stopping estimates: the true percentile is "
        "below them with 99 % confidence."
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
        [shown_name(one), *(median(one["phases"].get(name)) for name in STARTING)]
        for one in result["variants"]
    ]
    text = (
        f"Medians of {result['rounds']} rounds, ms. Python: Python and edgeprune's modules; "
        "import: the runtime; verify: the bundle is read and hashed; load: the model is opened; first "
        "window: cold. Cold start: process start to first scores; first detection: to its row on "
        "disk. From the second round on, files are in the page cache; recording a window's audio is "
        "not included."
    )
    return Section("Start-up", text, (
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
            shown_name(one), *(median(phases[name]) for name in ON_THE_WAY),
            percentile(whole["p90"]), number(whole["max"]), str(whole["n"]),
        ])  # fmt: skip
    text = (
        "Medians, ms: cutting the window, the model, the decision, writing the detection (SQLite, "
        "synced, and JSON lines, on this disk), and all of it. The model includes its front end."
    )
    return Section("From the last sample of a window to disk", text, (
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
            percentile(found["p90"]), number(found["max"]), str(pace["misses"]),
            str(pace["longest_streak"]),
            "" if pace["jitter_ms"] is None else number(pace["jitter_ms"]),
            "" if pace["jitter_share"] is None else f"{pace['jitter_share']:.2%}",
            f"{pace['duty_cycle']:.1%}",
            "" if pace["machine_idle"] is None else f"{pace['machine_idle']:.1%}",
        ])  # fmt: skip
    if not rows:
        return None
    text = (
        "Windows arrive a hop apart, as from a microphone. Latency: from the last sample to the "
        "detection on disk, ms; late: not done when the next window was due. Jitter: of the time "
        "between two starts. Duty: share of the time that was busy; idle: of all cores' time."
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
