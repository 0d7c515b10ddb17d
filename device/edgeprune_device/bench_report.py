"""The files of a benchmark: bench.json, bench.csv, bench.md and bench.html.

Each is text made by a pure function of the result; `write_reports` writes all four or none. The
tables are those of ``bench_tables``, the page is made by ``bench_page``.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeprune_device.bench_page import html_text
from edgeprune_device.bench_tables import (
    HEADINGS,
    OPERATOR_HEADINGS,
    WORDS,
    operator_parts,
    sections,
    table_rows,
)
from edgeprune_device.bench_text import machine_line, method_line
from edgeprune_device.errors import EdgepruneError

NOT_IN_CSV = ("samples_ms", "timeline", "slices", "operators", "missing")
NUMBERS = re.compile(r"\[\s+((?:[\d.eE+-]+,?\s+)+)\]")
"""A list of numbers, one a line, as json.dumps indents it."""


def write_reports(result: Mapping[str, Any], out: Path) -> None:
    """Write the four files into a folder, all of them or none.

    Raises
    ------
    EdgepruneError
        If the folder or a file cannot be written.

    """
    texts = {
        "bench.json": json_text(result),
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


def json_text(result: Mapping[str, Any]) -> str:
    """Give the result as JSON, lists of numbers on one line each."""
    whole = json.dumps(result, indent=1, allow_nan=False)
    return NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", whole) + "\n"


def csv_text(result: Mapping[str, Any]) -> str:
    """Give one line for each variant: every single value, nested names joined by dots.

    Intervals take two columns, ``_low`` and ``_high``; samples, curves and the percentiles' own
    intervals are left to the JSON.
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
        if isinstance(value, dict) and "needs" in value:  # a percentile: the figure alone
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
    """Give a table in Markdown whose first ``words`` columns are text, the rest numbers."""
    bars = ["---"] * words + ["---:"] * (len(headings) - words)
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [list(headings), bars, *escaped])


def terminal_text(result: Mapping[str, Any]) -> str:
    """Give the tables in columns, for a terminal."""
    parts = [f"On {machine_line(result)}.", aligned(HEADINGS, WORDS, table_rows(result)),
             method_line(result), "\n".join(f"- {note}" for note in result["notes"])]  # fmt: skip
    for section in sections(result):
        rows = aligned(section.headings, section.words, section.rows) if section.rows else ""
        parts.append("\n".join(filter(None, (section.title, rows, section.text))))
    for text, cells in operator_parts(result):
        parts.append("\n".join(filter(None, (aligned(OPERATOR_HEADINGS, 1, cells), text))))
    return "\n\n".join(filter(None, parts))


def aligned(headings: Sequence[str], words: int, rows: Sequence[Sequence[str]]) -> str:
    """Give a table in columns, the first ``words`` to the left and the rest to the right.

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
    """Give the tables, the machine and the notes, ready for a README."""
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
