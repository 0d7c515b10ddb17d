"""The tables of a ``compress`` report, made from the numbers in ``report.json``."""

from __future__ import annotations

from typing import Any

from edgeprune.core.console import format_percent
from edgeprune.core.tables import Table, table

ROWS = ("teacher", "student", "bundle")
OTHER = "other"
"""Row of the deployed file in the format that is not preferred."""
TITLES = {"teacher": "teacher, float32", "student": "student, float32", "bundle": "bundle",
          "other": "other format"}  # fmt: skip
QUANTIZED = {"none": ", float32", "dynamic": ", int8", "weights": ", int8 weights",
             "weights4": ", int4 weights", "half": ", float16", "static": ", int8 static"}  # fmt: skip


def least_threads(speed: dict[str, Any]) -> int:
    """Return the smallest measured number of threads, which the table shows."""
    return min(int(v["threads"]) for v in speed["variants"])


def make_tables(r: dict[str, Any]) -> dict[str, Table]:
    """Make the report's tables from its numbers."""
    return {
        "summary": _summary(r), "metrics": _metrics(r), "seeds": _seeds(r), "steps": _steps(r),
        "candidates": _candidates(r), "shares": _shares(r),
        "files": _files(r), "speed": _speed(r), "labels": _labels(r),
    }  # fmt: skip


def _summary(r: dict[str, Any]) -> Table:
    rows = []
    for name, v in r["summary"].items():
        low, high = v["interval"]
        made = f", {v['format']}{QUANTIZED[v['quantization']]}"
        title = TITLES[name] + made * (name in (ROWS[-1], OTHER))
        rows.append((
            title, v["layers"], f"{v['parameters'] / 1e6:.2f} M", f"{v['bytes'] / 1e6:.1f} MB",
            f"{format_percent(v['score'])} [{100 * low:.1f}, {100 * high:.1f}]",
            "" if name == "teacher" else f"{100 * v['difference']:+z.2f}",
            "" if name == "teacher" else format_percent(v["agreement"]),
            f"{v['p50_ms']:.1f} / {v['p90_ms']:.1f} / {v['p99_ms']:.1f}",
            f"{r['summary']['teacher']['p50_ms'] / v['p50_ms']:.2f} x", f"{v['peak_rss_mb']:.0f} MB",
        ))  # fmt: skip
    headers = ("", "layers", "parameters", "file", f"test {v['metric']} [95 %]", "change (pp)",
               "agreement", "p50 / p90 / p99 ms", "speedup", "peak memory")  # fmt: skip
    return table(headers, rows, main=2)


def _metrics(r: dict[str, Any]) -> Table:
    """Show every metric of every file, with its interval."""
    rows = []
    for name in r["summary"]["teacher"]["metrics"]:
        found = [row["metrics"][name] for row in r["summary"].values()]
        rows.append((name, *(f"{format_percent(v['value'])} [{100 * v['interval'][0]:.1f}, "
                             f"{100 * v['interval'][1]:.1f}]" for v in found)))  # fmt: skip
    return table(("metric (test clips)", *(f"{name} [95 %]" for name in r["summary"])), rows)


def _seeds(r: dict[str, Any]) -> Table:
    rows = [
        (f"seed {s['seed']}" + (" (delivered)" if s["seed"] == r["best_seed"] else ""),
         f"{s['steps'][-1]['layers']} of {s['steps'][0]['layers']}",
         *(format_percent(s["verify"][name]["score"]) for name in ROWS),
         f"{100 * s['verify']['bundle']['difference']:+z.2f}",
         format_percent(s["verify"]["bundle"]["agreement"]), f"{s['export_difference']:.0e}")
        for s in r["seeds"]
    ]  # fmt: skip
    return table(("", "layers kept", *ROWS, "change (pp)", "agreement", "export vs torch"), rows)


def _steps(r: dict[str, Any]) -> Table:
    """Show the model after each step: layers, parameters, computation and validation score."""
    rows = [
        (f"seed {s['seed']}" if number == 0 else "", step["step"], step["layers"],
         f"{step['parameters'] / 1e6:.3f} M", f"{step['macs'] / 1e6:.1f} M",
         f"{100 * step['macs'] / s['steps'][0]['macs']:.0f} %", format_percent(step["valid_score"]),
         requested_and_removed(step))
        for s in r["seeds"] for number, step in enumerate(s["steps"])
    ]  # fmt: skip
    headers = ("", "step", "layers", "parameters", "MACs per window", "% of teacher",
               "validation score", "requested / removed")  # fmt: skip
    return table(headers, rows, "Model after each step")


def requested_and_removed(step: dict[str, Any]) -> str:
    """Return the requested and the removed share of a trim; empty for other steps."""
    if "requested" not in step:
        return ""
    return (f"{100 * step['requested']:.0f} % / {100 * step['reached'][step['of']]:.1f} % of "
            f"{step['of']}")  # fmt: skip


def _candidates(r: dict[str, Any]) -> Table:
    depth = [(s, step) for s in r["seeds"] for step in s["steps"] if step["step"] == "depth"]
    rows = [
        (f"seed {s['seed']}", f"{c['layers']} of {step['of_layers']}", _convexity(c),
         format_percent(c["valid_score"]), format_percent(step["floor"]),
         ("accepted, chosen" if c["keep"] == step["kept"] else "accepted") if c["held"]
         else "rejected")
        for s, step in depth for c in step["tried"]
    ]  # fmt: skip
    return table(("", "layers kept", "convexity", "validation score", "minimum", "result"), rows,
                 "Layer subsets tried, in this order")  # fmt: skip


def _convexity(candidate: dict[str, Any]) -> str:
    """Format the convexity at a candidate's depth; empty unless it keeps the first layers."""
    return "" if candidate["convexity"] is None else format_percent(candidate["convexity"])


def _shares(r: dict[str, Any]) -> Table:
    """Show the shares of the cost that a step ``reconstruct`` tried to remove."""
    found = [(s, step) for s in r["seeds"] for step in s["steps"] if step["step"] == "reconstruct"]
    rows = [
        (f"seed {s['seed']}", f"{100 * one['ratio']:.0f} % of {step['of']}",
         format_percent(one["valid_score"]),
         f"{100 * one['loss']:+z.2f} ± {100 * one['standard_error']:.2f}",
         ("accepted, chosen" if one["ratio"] == step["requested"] else "accepted")
         if one["held"] else "rejected")
        for s, step in found for one in step["tried"]
    ]  # fmt: skip
    return table(("", "removed", "validation score", "loss ± standard error (pp)", "result"), rows,
                 "Shares tried, in this order")  # fmt: skip


def _files(r: dict[str, Any]) -> Table:
    """Show all candidate files of the delivered seed, and why one was chosen."""
    rows = [
        (f"{v['format']}{QUANTIZED[v['method']]}", f"{v['bytes'] / 1e6:.2f} MB",
         f"{v['milliseconds']:.2f}", format_percent(v["score"]), f"{100 * -v['loss']:+z.2f}",
         format_percent(v["agreement"]), v["why"])
        for v in r["files"]["tried"]
    ]  # fmt: skip
    headers = ("", "size", "latency, ms", "validation score", "change (pp)", "agreement",
               "reason chosen")  # fmt: skip
    return table(headers, rows, f"Candidate files; target: {r['files']['target']}")


def _speed(r: dict[str, Any]) -> Table:
    rows = [
        (TITLES.get(v["name"], v["name"]), v["threads"], f"{v['p50_ms']:.2f}", f"{v['p90_ms']:.2f}",
         f"{v['p99_ms']:.2f}", f"{v['speedup']:.2f} x", f"{v['real_time_factor']:.4f}",
         f"{v['peak_rss_mb']:.0f}", f"{v['load_ms']:.0f}", v["n"])
        for v in r["bench"]["variants"]
    ]  # fmt: skip
    return table(("", "threads", "p50 ms", "p90 ms", "p99 ms", "speedup", "real-time factor",
                  "peak MB", "load ms", "windows"), rows)  # fmt: skip


def _labels(r: dict[str, Any]) -> Table:
    verified, tags = r["delivered"], r["data"]["task"] == "tags"
    key = "average_precision" if tags else "recall"
    rows = [
        (label, *(format_percent(verified[name]["per_label"][label][key]) for name in ROWS),
         *([format_percent(found["recall"])] if tags else []), format_percent(found["precision"]))
        for label, found in verified["bundle"]["per_label"].items()
    ]  # fmt: skip
    shown = "average precision" if tags else "recall"
    headers = ("label", *(f"{shown}, {name}" for name in ROWS),
               *(["recall, bundle"] if tags else []), "precision, bundle")  # fmt: skip
    return table(headers, rows, "Delivered seed, test clips")
