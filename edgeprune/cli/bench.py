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
    bundles: Annotated[list[Path], typer.Argument(help="Bundles to measure side by side.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Output folder.")] = Path("bench"),
    threads: Annotated[
        str, typer.Option(help="Thread counts to measure, separated by commas.")
    ] = "1,2",
    seconds: Annotated[float, typer.Option(help="Seconds per file, thread count and round.")] = 5.0,
    rounds: Annotated[int, typer.Option(help="Number of rounds, 3 to 7.")] = 5,
    wav: Annotated[
        Path | None,
        typer.Option(help="Sound file to use as input (default: the bundle's reference inputs)."),
    ] = None,
    paced: Annotated[
        bool, typer.Option("--paced", help="Also measure windows at the pace of a microphone.")
    ] = False,
    sustained: Annotated[
        float,
        typer.Option(help="Also run each bundle for this many minutes, for thermal throttling."),
    ] = 0.0,
    profile: Annotated[
        bool, typer.Option("--profile", help="Also show the time per operator (ONNX only).")
    ] = False,
    note: Annotated[
        str, typer.Option(help="Note for the report: cooling, power supply, case.")
    ] = "",
    watts: Annotated[str, typer.Option(help="Measured power in W: IDLE,BUSY")] = "",
    baseline: Annotated[
        Path | None, typer.Option(help="Earlier bench.json to compare with.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Status file of a running recorder to compare with (status.json)."),
    ] = None,
    fail_over: Annotated[
        float | None,
        typer.Option(help="Maximum slowdown against --baseline, in per cent."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure latency, memory and size of bundles.

    All are measured on this machine, in interleaved rounds. Writes bench.json, .csv, .md and .html.
    With --fail-over, ends with status 1 if the lower end of the slowdown's interval is above it for
    any variant.
    """
    from edgeprune.core.console import Terminal
    from edgeprune_device.bench.check import BenchOptions
    from edgeprune_device.bench.compare import check_gate
    from edgeprune_device.bench.report import terminal_text
    from edgeprune_device.bench.runner import bench as run

    if fail_over is not None and baseline is None:
        raise EdgepruneError("--fail-over needs something to compare with.",
                             "Give an earlier bench.json with --baseline.")  # fmt: skip
    if fail_over is not None and not 0 <= fail_over < float("inf"):
        raise EdgepruneError(
            f"--fail-over {fail_over:g} is out of range (allowed: 0 or more).",
            "Example: --fail-over 5",
        )
    options = BenchOptions(
        wav=wav, paced=paced, sustained_minutes=sustained, note=note, watts=_watts(watts),
        earlier=tuple(path for path in (baseline, against) if path is not None),
        command=shlex.join(["edgeprune", *sys.argv[1:]]),
    )  # fmt: skip
    done = run(
        bundles, out, threads=_counts(threads), seconds=seconds, rounds=rounds, profile=profile,
        options=options, say=Terminal().say,
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
