"""The files of a benchmark: bench.json, bench.csv, bench.md and bench.html.

Each is text made by a pure function of the result; `write_reports` writes all four or none. The
page is one file without scripts or links; its picture, the latencies of every variant on one
logarithmic axis, is drawn by ``bench_picture``.
"""

from __future__ import annotations

import csv
import html
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeprune_device.bench_picture import beyond, picture
from edgeprune_device.bench_statistics import thread_text
from edgeprune_device.errors import EdgepruneError

MB = 1_000_000
NOT_IN_CSV = ("samples_ms", "round_medians_ms", "p50_interval_ms", "speedup_interval", "operators")
OPERATOR_HEADINGS = ("operator", "nodes", "ms", "share")
TYPES_SHOWN = 10

HEADINGS = (
    "bundle", "weights", "layers", "parameters", "model MB", "threads", "median ms", "p99 ms",
    "real-time factor", "speed-up", "peak MB", "model's share MB",
)  # fmt: skip
WORDS = 2  # columns of text, to the left; the rest are numbers, to the right

STYLE = """
:root { color-scheme: light dark; --ink: #1d2429; --soft: #66727b; --line: #d9dfe3;
  --fill: #2a7f9e; --paper: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ec; --soft: #95a2ab; --line: #38434a;
  --fill: #58b4d4; --paper: #14191c; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap;
  font-size: .9rem; }
th, td { padding: .3rem .5rem; border-bottom: 1px solid var(--line); text-align: right; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
th, .soft { color: var(--soft); font-weight: 500; }
th { white-space: normal; vertical-align: bottom; }
svg { max-width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif;
  fill: var(--ink); } svg .soft { fill: var(--soft); }
"""


def write_reports(result: Mapping[str, Any], out: Path) -> None:
    """Write the four files into a folder, all of them or none.

    Raises
    ------
    EdgepruneError
        If the folder or a file cannot be written.

    """
    texts = {
        "bench.json": json.dumps(result, indent=1, allow_nan=False) + "\n",
        "bench.csv": csv_text(result),
        "bench.md": markdown_text(result),
        "bench.html": html_text(result),
    }
    partial = {name: out / f"{name}.partial" for name in texts}
    try:
        out.mkdir(parents=True, exist_ok=True)
        try:
            for name, text in texts.items():
                partial[name].write_text(text, "utf-8", newline="\n")
            for name, place in partial.items():
                place.replace(out / name)
        finally:
            for place in partial.values():
                place.unlink(missing_ok=True)
    except OSError as error:
        raise EdgepruneError(f"{out} cannot be written: {error.strerror}.") from error


def csv_text(result: Mapping[str, Any]) -> str:
    """Give one line for each variant; the intervals in two columns, `_low` and `_high`."""
    lines = []
    for variant in result["variants"]:
        line = {key: value for key, value in variant.items() if key not in NOT_IN_CSV}
        for key in ("p50_interval_ms", "speedup_interval"):
            line[f"{key}_low"], line[f"{key}_high"] = variant[key]
        lines.append(line)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return stream.getvalue()


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
            number(one["p99_ms"]),
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
    return (
        f"Single windows of noise, back to back, {result['rounds']} rounds of "
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


def markdown_table(headings: Sequence[str], words: int, rows: Sequence[Sequence[str]]) -> str:
    """Give a table in Markdown whose first ``words`` columns are text, the rest numbers."""
    bars = ["---"] * words + ["---:"] * (len(headings) - words)
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [list(headings), bars, *escaped])


def markdown_text(result: Mapping[str, Any]) -> str:
    """Give the table, the machine and the notes, ready for a README."""
    version = result["edgeprune_version"] or "(from source)"
    parts = [
        markdown_table(HEADINGS, WORDS, table_rows(result)),
        f"Measured {result['created']} with edgeprune {version} on {machine_line(result)}.",
        method_line(result),
        "\n".join(f"- Note: {note}" for note in result["notes"]),
        *(
            f"{text}\n\n{markdown_table(OPERATOR_HEADINGS, 1, rows)}" if rows else text
            for text, rows in operator_parts(result)
        ),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def html_text(result: Mapping[str, Any]) -> str:
    """Give the same as a page of its own, with the picture."""
    head = "".join(f"<th>{heading}</th>" for heading in HEADINGS)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in table_rows(result)
    )
    operators = "".join(
        f'<p class="soft">{html.escape(text)}</p>' + (html_table(rows) if rows else "")
        for text, rows in operator_parts(result)
    )
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in result["notes"])
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>edgeprune bench</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{STYLE}</style></head><body>
<h1>Bundles on {html.escape(str(result["machine"]["model"] or "this machine"))}</h1>
<p class="soft">{html.escape(result["created"])}, {html.escape(machine_line(result))}</p>
<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>
{body}
</tbody></table></div>
<p class="soft">{html.escape(method_line(result))}</p>
{f"<h2>Notes</h2><ul>{notes}</ul>" if notes else ""}
<h2>Latency of a window, ms</h2>
{picture(result)}
<p class="soft">Height: share of the windows; line: median; dots: the rounds' medians, first to last
from top to bottom. The axis is logarithmic and ends at the highest p99; {beyond(result)} of the
windows took longer.</p>
{f"<h2>Operators</h2>{operators}" if operators else ""}
</body></html>
"""


def html_table(rows: Sequence[Sequence[str]]) -> str:
    """Give the table under `OPERATOR_HEADINGS` in HTML."""
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    head = "".join(f"<th>{heading}</th>" for heading in OPERATOR_HEADINGS)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'
