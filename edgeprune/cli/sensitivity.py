"""The command ``edgeprune sensitivity``: read, measure, and write the table of what int8 costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(
        epilog="Example: edgeprune sensitivity runs/birds/seed-0/distill/model birds/labels.csv "
        "-o int8"
    )(sensitivity)


def sensitivity(
    model: Annotated[str, typer.Argument(help="Model folder, fine-tuned for the labels of DATA.")],
    data: Annotated[
        Path,
        typer.Argument(help="Labelled clips: a folder per class, or a CSV/TSV manifest."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Output folder.")],
    label: Annotated[str, typer.Option(help="Label column of the manifest (default: label).")] = "",
    activations: Annotated[
        str,
        typer.Option(
            help="Activation scales of the encoder's convolutions: rows (per frame) or window."
        ),
    ] = "rows",
    clips: Annotated[int, typer.Option(help="Maximum number of validation clips.")] = 200,
    most_lost: Annotated[
        float,
        typer.Option(help="Maximum score drop of a mixed-precision model, in percentage points."),
    ] = 0.5,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Skip measuring each layer group alone in float."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")] = False,
) -> None:
    """Measure the int8 sensitivity of each layer group of MODEL.

    Each group is quantized alone, and left in float alone. The table has the score drop on
    validation clips and the latency saved, and names the groups to leave in float.
    """
    from edgeprune.core.console import Terminal
    from edgeprune.pipeline.sensitivity import run

    done = run(model, data, out, label=label, activations=activations, clips=clips,
               most_lost=most_lost / 100, reverse=not quick, ui=Terminal())  # fmt: skip
    if as_json:
        typer.echo(json.dumps(done, indent=1))
    else:
        _show(done)


def _show(done: dict[str, Any]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    from edgeprune.pipeline.sensitivity import HEADS, cells_of, choice_text, summary_text

    table = Table(box=SIMPLE, pad_edge=False)
    for number, name in enumerate(HEADS):
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    for row in done["rows"]:
        table.add_row(*cells_of(row))
    console = Console()
    console.print(summary_text(done), highlight=False, markup=False)
    console.print(table)
    console.print(choice_text(done), highlight=False, markup=False)
