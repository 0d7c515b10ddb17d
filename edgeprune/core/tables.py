"""Tables that print as aligned text, Markdown or HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Table:
    """Formatted cells; the first column is aligned left, the others right."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    main: int = -1
    """Index of the row printed bold in HTML; -1: none."""


def table(
    headers: Sequence[str], rows: Sequence[Sequence[object]], title: str = "", main: int = -1
) -> Table:
    """Make a table from values, formatted with ``str``."""
    return Table(tuple(headers), tuple(tuple(str(c) for c in row) for row in rows), title, main)


def to_text(shown: Table) -> str:
    """Format a table as aligned columns for a terminal."""
    lines = [shown.headers, *shown.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(shown.headers))]
    printed = []
    for line in lines:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        printed.append("  ".join(cells).rstrip())
    printed.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(printed)


def to_markdown(shown: Table) -> str:
    """Format a table as Markdown."""
    rule = ["---", *["---:"] * (len(shown.headers) - 1)]
    lines = [shown.headers, rule, *shown.rows]
    return "\n".join(
        "| " + " | ".join(c.replace("|", r"\|") for c in line) + " |" for line in lines
    )


def to_html(shown: Table) -> str:
    """Format a table as HTML; cells are escaped, an interval goes on a line of its own."""
    head = "".join(f"<th>{_cell(name)}</th>" for name in shown.headers)
    body = []
    for index, row in enumerate(shown.rows):
        opening = '<tr class="main">' if index == shown.main else "<tr>"
        body.append(opening + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>")
    caption = f"<caption>{escape(shown.title)}</caption>" if shown.title else ""
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _cell(text: str) -> str:
    """Escape a cell; the interval of ``92.3 % [88.5, 96.2]`` goes on a line of its own."""
    value, bracket, interval = text.rpartition(" [")
    if bracket and interval.endswith("]"):
        return f'{escape(value)}<br/><span class="interval">[{escape(interval)}</span>'
    return escape(text)
