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
Folder = Annotated[Path, typer.Argument(help="Journal folder; a recorder may be writing to it.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command(epilog=EXPORT_EPILOG)(export)
    app.command(epilog=COVERAGE_EPILOG)(coverage)


def export(
    journal: Folder,
    out: Annotated[Path, typer.Option("--out", "-o", help="File: .csv or .jsonl.")],
    label: Annotated[list[str] | None, typer.Option(help="Only this label. Repeat.")] = None,
    since: Annotated[str, typer.Option(help="From this day or time (UTC) on.")] = "",
    until: Annotated[str, typer.Option(help="Before this day or time (UTC).")] = "",
    min_score: Annotated[float, typer.Option(help="Least score.")] = 0.0,
    as_json: Json = False,
) -> None:
    """Write a journal's detections to one file, for a spreadsheet or a program.

    A cell that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    from edgeprune_device.journal.export import Wanted, moment
    from edgeprune_device.journal.export import export as run

    wanted = Wanted(tuple(label or ()), moment(since, "--since"), moment(until, "--until"),
                    min_score)  # fmt: skip
    number = run(journal, out, wanted)
    print_done({"detections": number, "file": str(out)}, f"{number} detections in {out}", as_json)


def coverage(journal: Folder, as_json: Json = False) -> None:
    """Say when a recorder listened: what became of every second of each hour.

    Tells "nothing was heard" from "nobody listened". Each row adds up to its hour.
    """
    from edgeprune_device.journal.coverage_report import coverage as run

    done = run(journal)
    print_done(done, done["text"], as_json)
