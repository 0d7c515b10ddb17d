"""The page of a benchmark: one file without scripts or links, in light and in dark.

Its pictures, the latencies of every variant on one logarithmic axis and over time beside the
temperature, are drawn by ``bench_picture`` and ``bench_timeline``.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from edgeprune_device.bench_picture import beyond, curves, picture
from edgeprune_device.bench_tables import (
    HEADINGS,
    OPERATOR_HEADINGS,
    WORDS,
    operator_parts,
    sections,
    table_rows,
)
from edgeprune_device.bench_text import machine_line, method_line
from edgeprune_device.bench_timeline import timeline

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
    "temperature, where the board tells it, or else the frequency or the load.</p>"
)


def html_text(result: Mapping[str, Any]) -> str:
    """Give the tables as a page of its own, with the pictures."""
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
<h2>Latency of a window, ms</h2>
{picture(result)}
<p class="soft">Height: share of the windows; line: median; dots: the rounds' medians, first to last
from top to bottom. The axis is logarithmic and ends at the highest p99; {beyond(result)} of the
windows took longer.</p>
{curves(result)}
<p class="soft">The same as shares of the windows that were done within a latency.</p>
{f"<h2>Latency over time</h2>{drawn}{OVER_TIME}" if drawn else ""}
{tables}
{f"<h2>Operators</h2>{operators}" if operators else ""}
</body></html>
"""


def html_table(headings: Sequence[str], words: int, rows: Sequence[Sequence[str]]) -> str:
    """Give a table whose first ``words`` columns are text, the rest numbers."""

    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=word' if place < words else ''}>{html.escape(cell)}</{tag}>"
            for place, cell in enumerate(row)
        )

    body = "".join(f"<tr>{cells(row, 'td')}</tr>\n" for row in rows)
    return (f'<div class="wide"><table><thead><tr>{cells(headings, "th")}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>")  # fmt: skip
