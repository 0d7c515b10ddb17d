"""Results of `graphs.py` for one model at one window as a Markdown table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeprune.core.tables import table, to_markdown

BASE = "ORT float32, as exported"  # speed is told against it
DASH = "-"


def to_text(result: Mapping[str, Any]) -> str:
    """Return a heading, the table, and a line for every variant that could not be made.

    Parameters
    ----------
    result : mapping
        Result of `graphs.measured`.

    """
    rows: Mapping[str, Mapping[str, Any]] = result["rows"]
    threads = sorted({count for row in rows.values() for count in row["threads"]}, key=int)
    base = rows[BASE]["threads"][threads[0]]["p50_ms"] if BASE in rows else None
    accurate = any("accuracy" in row for row in rows.values())
    counted = any("arm64" in row for row in rows.values())
    headers = ["", "MB", *(f"p50 / p90 ms, {count} thread{'s'[: int(count) > 1]}" for count in threads),
               "speed", "peak MB", "load ms", "agreement", "score difference"]  # fmt: skip
    headers += ["accuracy"] * accurate + ["M instructions A72", "A76"] * counted
    shown = table(tuple(headers), [
        line(name, row, threads, base, accurate, counted) for name, row in rows.items()
    ])  # fmt: skip
    failed = [f"- {name} cannot be made: {why}" for name, why in result["failed"].items()]
    heading = f"### {result['model']}, {result['seconds']} s"
    return "\n".join([heading, "", to_markdown(shown), *([""] if failed else []), *failed, ""])


def line(
    name: str, row: Mapping[str, Any], threads: Sequence[str], base: float | None, accurate: bool,
    counted: bool,
) -> tuple[str, ...]:  # fmt: skip
    """Return a variant's cells."""
    times = [row["threads"][count] for count in threads]
    cells = [name, f"{row['bytes'] / 1e6:.2f}"]
    cells += [f"{time['p50_ms']:.3g} / {time['p90_ms']:.3g}" for time in times]
    cells += [f"{base / times[0]['p50_ms']:.2f} x" if base else DASH,
              f"{times[0]['peak_rss_mb']:.0f}", f"{times[0]['load_ms']:.0f}"]  # fmt: skip
    asked = "agreement" in row
    cells += [f"{100 * row['agreement']:.1f} %" if asked else DASH,
              f"{row['score_difference']:.1e}" if asked else DASH]  # fmt: skip
    if accurate:
        cells.append(f"{100 * row['accuracy']:.2f} %" if "accuracy" in row else DASH)
    if counted:
        cells += [f"{row['arm64'][cpu]['instructions'] / 1e6:.1f}" if "arm64" in row else DASH
                  for cpu in ("a72", "a76")]  # fmt: skip
    return tuple(cells)
