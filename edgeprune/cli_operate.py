"""The commands of a recorder in the field: ``status``, ``service`` and ``doctor``."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli_common import Json, print_done
from edgeprune_device.errors import FAILED_CHECK, EdgepruneError

FOLLOW_SECONDS = 2.0
HOME_AND_CLEAR = "\x1b[H\x1b[J"


def status(
    journal: Annotated[Path, typer.Argument(help="Journal folder of a recorder.")],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show it anew every 2 seconds until Ctrl-C.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what a recorder is doing: state, alarms, coverage, latency, sinks, board, clock.

    Ends with status 1 if it is dead, hangs, was stopped, has lost its microphone or has an alarm.
    """
    from edgeprune_device.status import judge, read_status
    from edgeprune_device.status_screen import screen

    while True:
        found = read_status(journal)
        verdict = judge(found, time.monotonic())
        shown = {**found, "state": verdict.state, "sentence": verdict.text, "fine": verdict.fine,
                 "age_seconds": verdict.age_seconds}  # fmt: skip
        text = screen(found, verdict)
        if follow and sys.stdout.isatty() and not as_json:
            text = HOME_AND_CLEAR + text
        print_done(shown, text, as_json)
        if not follow:
            break
        sys.stdout.flush()
        time.sleep(FOLLOW_SECONDS)
    if not verdict.fine:
        raise EdgepruneError(
            f"The recorder of {journal} is {verdict.state}.",
            "journalctl -u edgeprune says more." if verdict.state != "degraded" else "",
            FAILED_CHECK,
        )


def register(app: typer.Typer) -> None:
    """Add the commands to the program's."""
    app.command(epilog="Example: edgeprune status journal --follow")(status)
