"""The command ``edgeprune bench``: options in, tables out, and the exit status of a comparison."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.options import Json, print_done
from edgeprune_device.errors import EdgepruneError


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog="Example: edgeprune bench runs/birds/bundle -o bench")(bench)


def bench(
    bundles: Annotated[list[Path], typer.Argument(help="Bundles, measured side by side.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path(
        "bench"
    ),
    threads: Annotated[str, typer.Option(help="Thread counts to measure.")] = "1,2",
    seconds: Annotated[float, typer.Option(help="Time for each file, thread count, round.")] = 5.0,
    rounds: Annotated[int, typer.Option(help="Rounds, 3 to 7.")] = 5,
    wav: Annotated[
        Path | None, typer.Option(help="Sound file to hear (the bundle's golden inputs).")
    ] = None,
    paced: Annotated[
        bool, typer.Option("--paced", help="Also take windows as a microphone brings them.")
    ] = False,
    sustained: Annotated[
        float, typer.Option(help="Also run each for so many minutes, to see it grow warm.")
    ] = 0.0,
    profile: Annotated[
        bool, typer.Option("--profile", help="Also show which operators take the time (ONNX).")
    ] = False,
    note: Annotated[str, typer.Option(help="Cooling, power supply, case: for the report.")] = "",
    watts: Annotated[str, typer.Option(help="Power by a meter, in W: IDLE,BUSY")] = "",
    baseline: Annotated[
        Path | None, typer.Option(help="An earlier bench.json to compare with.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="A listener's live file to compare with: status.json.")
    ] = None,
    fail_over: Annotated[
        float | None,
        typer.Option(help="Per cent that a variant may surely be slower than --baseline."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure latency, real-time factor, memory and size of bundles on this machine.

    Writes bench.json, .csv, .md and .html. With --fail-over, ends with status 1 if a variant is
    slower than in --baseline by more, at the lower end of the interval.
    """
    from edgeprune.core.console import Terminal
    from edgeprune_device.bench.check import Extras
    from edgeprune_device.bench.compare import check_gate
    from edgeprune_device.bench.report import terminal_text
    from edgeprune_device.bench.runner import bench as run

    if fail_over is not None and baseline is None:
        raise EdgepruneError("--fail-over needs something to compare with.",
                             "Give an earlier bench.json with --baseline.")  # fmt: skip
    if fail_over is not None and not 0 <= fail_over < float("inf"):
        raise EdgepruneError(f"--fail-over {fail_over:g} makes no sense.", "Example: --fail-over 5")
    extras = Extras(
        wav=wav, paced=paced, sustained_minutes=sustained, note=note, watts=_watts(watts),
        earlier=tuple(path for path in (baseline, against) if path is not None),
        command=shlex.join(["edgeprune", *sys.argv[1:]]),
    )  # fmt: skip
    done = run(
        bundles, out, threads=_counts(threads), seconds=seconds, rounds=rounds, profile=profile,
        extras=extras, say=Terminal().say,
    )  # fmt: skip
    print_done(done, terminal_text(done), as_json)
    if fail_over is not None:
        check_gate(done["comparisons"][0], fail_over)


def _counts(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise EdgepruneError(
            f"{text!r} is not a list of whole numbers.", "Example: --threads 1,2"
        ) from None


def _watts(text: str) -> tuple[float, float] | None:
    if not text:
        return None
    try:
        idle, busy = (float(part) for part in text.split(","))
    except ValueError:
        raise EdgepruneError(f"{text!r} is not two numbers.", "Example: --watts 2.6,4.9") from None
    return idle, busy
