"""The commands that read a journal: ``export`` and ``coverage``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.options import Json, print_done

EXPORT_EPILOG = (
    "Example: edgeprune export journal -o detections.csv --label robin --since 2026-05-01"
)
COVERAGE_EPILOG = "Example: edgeprune coverage journal"
Folder = Annotated[Path, typer.Argument(help="Journal folder; a recorder may be running.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command(epilog=EXPORT_EPILOG)(export)
    app.command(epilog=COVERAGE_EPILOG)(coverage)


def export(
    journal: Folder,
    out: Annotated[Path, typer.Option("--out", "-o", help="Output file: .csv or .jsonl.")],
    label: Annotated[
        list[str] | None, typer.Option(help="Export this label only. Repeatable.")
    ] = None,
    since: Annotated[str, typer.Option(help="From this date or time on (UTC): 2026-05-01")] = "",
    until: Annotated[str, typer.Option(help="Before this date or time (UTC).")] = "",
    min_score: Annotated[float, typer.Option(help="Minimum score.")] = 0.0,
    as_json: Json = False,
) -> None:
    """Export a journal's detections to CSV or JSON lines.

    In CSV a cell that a spreadsheet would evaluate as a formula gets an apostrophe in front.
    """
    from edgeprune_device.journal.export import DetectionFilter, moment
    from edgeprune_device.journal.export import export as run

    wanted = DetectionFilter(tuple(label or ()), moment(since, "--since"), moment(until, "--until"),
                    min_score)  # fmt: skip
    number = run(journal, out, wanted)
    text = f"{number} detection{'s' * (number != 1)} in {out}"
    print_done({"detections": number, "file": str(out)}, text, as_json)


def coverage(journal: Folder, as_json: Json = False) -> None:
    """Show when a recorder was listening, hour by hour.

    Every second is analysed, dropped, invalid, not captured or not running: this tells "nothing was
    detected" from "nothing was recorded". Each row adds up to its hour.
    """
    from edgeprune_device.journal.coverage_report import coverage as run

    done = run(journal)
    print_done(done, done["text"], as_json)
