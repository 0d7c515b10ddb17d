"""One table, three ways to print it: aligned text, Markdown, HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Table:
    """Cells as they are printed; the first column is aligned left, the others right."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    main: int = -1
    """Row that matters most, printed bold in HTML; -1: none."""


def table(
    headers: Sequence[str], rows: Sequence[Sequence[object]], title: str = "", main: int = -1
) -> Table:
    """Make a table of anything that prints."""
    return Table(tuple(headers), tuple(tuple(str(c) for c in row) for row in rows), title, main)


def to_text(shown: Table) -> str:
    """Return aligned columns for a terminal."""
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
    """Return a Markdown table."""
    rule = ["---", *["---:"] * (len(shown.headers) - 1)]
    lines = [shown.headers, rule, *shown.rows]
    return "\n".join(
        "| " + " | ".join(c.replace("|", r"\|") for c in line) + " |" for line in lines
    )


def to_html(shown: Table) -> str:
    """Return an HTML table; every cell is escaped, an interval stands below its value."""
    head = "".join(f"<th>{_cell(name)}</th>" for name in shown.headers)
    body = []
    for index, row in enumerate(shown.rows):
        opening = '<tr class="main">' if index == shown.main else "<tr>"
        body.append(opening + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>")
    caption = f"<caption>{escape(shown.title)}</caption>" if shown.title else ""
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _cell(text: str) -> str:
    """Escape a cell; of ``92.3 % [88.5, 96.2]`` the interval goes on a line of its own."""
    value, bracket, interval = text.rpartition(" [")
    if bracket and interval.endswith("]"):
        return f'{escape(value)}<br/><span class="interval">[{escape(interval)}</span>'
    return escape(text)
