"""Writes the files of a benchmark: bench.json, bench.csv, bench.md and bench.html.

Each text is made by a pure function of the result; `write_reports` writes all four or none. The
tables are those of ``tables``, the plots of ``plots``.
"""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from edgeprune_device.bench.plots import beyond, curves, picture, timeline
from edgeprune_device.bench.tables import (
    HEADINGS,
    OPERATOR_HEADINGS,
    WORDS,
    operator_parts,
    sections,
    table_rows,
)
from edgeprune_device.bench.wording import machine_line, method_line
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.system.files import written_whole

NOT_IN_CSV = ("samples_ms", "timeline", "slices", "operators", "missing")
NUMBERS = re.compile(r"\[\s+((?:[\d.eE+-]+,?\s+)+)\]")
"""A list of numbers, one per line, as json.dumps indents it."""


def write_reports(result: Mapping[str, Any], out: Path) -> None:
    """Write the four files into a folder, all of them or none.

    Raises
    ------
    EdgepruneError
        The folder or a file cannot be written.

    """
    texts = {
        "bench.json": json_text(result),
        "bench.csv": csv_text(result),
        "bench.md": markdown_text(result),
        "bench.html": html_text(result),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        with ExitStack() as whole:  # all are written before the first is renamed
            for name, text in texts.items():
                whole.enter_context(written_whole(out / name)).write_bytes(text.encode())
    except OSError as error:
        raise EdgepruneError(f"{out} cannot be written: {error.strerror}.") from error


def json_text(result: Mapping[str, Any]) -> str:
    """Return the result as JSON, with each list of numbers on one line."""
    whole = json.dumps(result, indent=1, allow_nan=False)
    return NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", whole) + "\n"


def csv_text(result: Mapping[str, Any]) -> str:
    """Return one CSV line per variant: every single value, nested names joined by dots.

    Intervals take two columns, ``_low`` and ``_high``; samples, curves and the intervals of
    percentiles are only in the JSON.
    """
    about = {
        "run_id": result["run_id"], "created": result["created"],
        "edgeprune_version": result["edgeprune_version"], "machine": result["machine"]["model"],
    }  # fmt: skip
    lines = [about | dict(_flat(variant)) for variant in result["variants"]]
    columns = list(dict.fromkeys(key for line in lines for key in line))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return stream.getvalue()


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    cells: list[tuple[str, Any]] = []
    for key, value in values.items():
        if key in NOT_IN_CSV:
            continue
        if isinstance(value, dict) and "needs" in value:  # a percentile: only its value
            cells.append((prefix + key, value["ms"]))
        elif isinstance(value, dict):
            cells += _flat(value, f"{prefix}{key}.")
        elif key.endswith(("interval", "interval_ms")):
            low, high = value or (None, None)
            cells += [(f"{prefix}{key}_low", low), (f"{prefix}{key}_high", high)]
        elif not isinstance(value, list):
            cells.append((prefix + key, value))
    return cells


def markdown_table(headings: Sequence[str], words: int, rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose first ``words`` columns are text, the rest numbers."""
    bars = ["---"] * words + ["---:"] * (len(headings) - words)
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [list(headings), bars, *escaped])


def terminal_text(result: Mapping[str, Any]) -> str:
    """Return the tables in aligned columns, for a terminal."""
    parts = [f"On {machine_line(result)}.", aligned(HEADINGS, WORDS, table_rows(result)),
             method_line(result), "\n".join(f"- {note}" for note in result["notes"])]  # fmt: skip
    for section in sections(result):
        rows = aligned(section.headings, section.words, section.rows) if section.rows else ""
        parts.append("\n".join(filter(None, (section.title, rows, section.text))))
    for text, cells in operator_parts(result):
        parts.append("\n".join(filter(None, (aligned(OPERATOR_HEADINGS, 1, cells), text))))
    return "\n\n".join(filter(None, parts))


def aligned(headings: Sequence[str], words: int, rows: Sequence[Sequence[str]]) -> str:
    """Return a table in columns, the first ``words`` aligned left and the rest right.

    >>> print(aligned(("", "ms"), 1, [["birds", "12.3"]]))
             ms
    birds  12.3
    """
    whole = [list(headings), *rows]
    widths = [max(map(len, column)) for column in zip(*whole, strict=True)]
    return (
        "\n".join(
            "  ".join(
                cell.ljust(width) if place < words else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in whole
        )
        if rows
        else ""
    )


def markdown_text(result: Mapping[str, Any]) -> str:
    """Return the tables, the machine and the notes as Markdown."""
    version = result["edgeprune_version"] or "(from source)"
    parts = [
        markdown_table(HEADINGS, WORDS, table_rows(result)),
        f"Measured {result['created']} with edgeprune {version} on {machine_line(result)}.",
        method_line(result),
        "\n".join(f"- Note: {note}" for note in result["notes"]),
    ]
    for section in sections(result):
        parts += [f"## {section.title}", section.text]
        if section.rows:
            parts.append(markdown_table(section.headings, section.words, section.rows))
    for text, rows in operator_parts(result):
        parts += [text, markdown_table(OPERATOR_HEADINGS, 1, rows) if rows else ""]
    return "\n\n".join(filter(None, parts)) + "\n"


STYLE = """
:root { color-scheme: light dark; --ink: #1d2429; --soft: #66727b; --line: #d9dfe3;
  --fill: #2a7f9e; --paper: #fff; --warm: #c4562b; --c0: #2a7f9e; --c1: #8a5aa8; --c2: #4b8b3b;
  --c3: #b07a10; --c4: #b5406f; --c5: #5a6b78; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ec; --soft: #95a2ab; --line: #38434a;
  --fill: #58b4d4; --paper: #14191c; --warm: #f08b62; --c0: #58b4d4; --c1: #bd94d8; --c2: #86c476;
    --c3: #e0b04a; --c4: #e788ae; --c5: #a3b2bd; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 84rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap;
  font-size: .9rem; }
th, td { padding: .3rem .5rem; border-bottom: 1px solid var(--line); text-align: right; }
.word { text-align: left; }
th, .soft { color: var(--soft); font-weight: 500; }
th { white-space: normal; vertical-align: bottom; }
svg { max-width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif;
  fill: var(--ink); } svg .soft { fill: var(--soft); }
"""
OVER_TIME = (
    '<p class="soft">Lines: medians of short pieces; dots: the slowest window of each. Below: the '
    "temperature, if the board reports it, otherwise the frequency or the load.</p>"
)


def html_text(result: Mapping[str, Any]) -> str:
    """Return an HTML page with the tables and plots."""
    tables = "".join(
        f'<h2>{html.escape(one.title)}</h2><p class="soft">{html.escape(one.text)}</p>'
        + (html_table(one.headings, one.words, one.rows) if one.rows else "")
        for one in sections(result)
    )
    operators = "".join(
        f'<p class="soft">{html.escape(text)}</p>'
        + (html_table(OPERATOR_HEADINGS, 1, rows) if rows else "")
        for text, rows in operator_parts(result)
    )
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in result["notes"])
    drawn = timeline(result)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>edgeprune bench</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{STYLE}</style></head><body>
<h1>Bundles on {html.escape(str(result["machine"]["model"] or "this machine"))}</h1>
<p class="soft">{html.escape(result["created"])}, {html.escape(machine_line(result))}</p>
{html_table(HEADINGS, WORDS, table_rows(result))}
<p class="soft">{html.escape(method_line(result))}</p>
{f"<h2>Notes</h2><ul>{notes}</ul>" if notes else ""}
<h2>Latency per window, ms</h2>
{picture(result)}
<p class="soft">Height: share of the windows; line: median; dots: the rounds' medians, first to last
from top to bottom. The axis is logarithmic and ends at the highest p99; {beyond(result)} of the
windows took longer.</p>
{curves(result)}
<p class="soft">The same as cumulative distributions: share of windows done within a latency.</p>
{f"<h2>Latency over time</h2>{drawn}{OVER_TIME}" if drawn else ""}
{tables}
{f"<h2>Operators</h2>{operators}" if operators else ""}
</body></html>
"""


def html_table(headings: Sequence[str], words: int, rows: Sequence[Sequence[str]]) -> str:
    """Return an HTML table whose first ``words`` columns are text, the rest numbers."""

    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=word' if place < words else ''}>{html.escape(cell)}</{tag}>"
            for place, cell in enumerate(row)
        )

    body = "".join(f"<tr>{cells(row, 'td')}</tr>\n" for row in rows)
    return (f'<div class="wide"><table><thead><tr>{cells(headings, "th")}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>")  # fmt: skip
