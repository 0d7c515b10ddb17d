"""The command ``edgeprune sensitivity``: read, measure, and write the table of what int8 costs."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeprune_device.errors import EdgepruneError

EPILOG = "Example: edgeprune sensitivity runs/birds/seed-0/distill/model birds/labels.csv -o int8"


def sensitivity(
    model: Annotated[str, typer.Argument(help="Folder of a model that knows DATA's labels.")],
    data: Annotated[Path, typer.Argument(help="Folder of class folders, or a CSV/TSV manifest.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")],
    label: Annotated[str, typer.Option(help="Column of the manifest with the classes.")] = "",
    activations: Annotated[
        str, typer.Option(help="Scales of encoder convolutions: rows (a frame) or window.")
    ] = "rows",
    clips: Annotated[int, typer.Option(help="Validation clips at most.")] = 200,
    most_lost: Annotated[float, typer.Option(help="Points that a mixture may lose.")] = 0.5,
    quick: Annotated[bool, typer.Option("--quick", help="No unit alone in float.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")] = False,
) -> None:
    """Find out which parts of MODEL int8 harms, and which are worth it.

    Each part is put into int8 alone, and left in float alone; the table has what that costs on
    validation clips and what int8 saves there, and names the parts to leave in float.
    """
    from edgeprune.console import Terminal

    done = run(model, data, out, label=label, activations=activations, clips=clips,
               most_lost=most_lost / 100, reverse=not quick, ui=Terminal())  # fmt: skip
    if as_json:
        typer.echo(json.dumps(done, indent=1))
    else:
        _show(done)


def run(
    model: str, data: Path, out: Path, *, label: str, activations: str, clips: int,
    most_lost: float, reverse: bool, ui: Any,
) -> dict[str, Any]:  # fmt: skip
    """Measure a model's sensitivity; write ``sensitivity.json`` and ``sensitivity.md``.

    Raises
    ------
    EdgepruneError
        Bad model, data or options; a model without a head for the data's labels.

    """
    from edgeprune import models
    from edgeprune.audio import clips as read_clips
    from edgeprune.audio import load_windows
    from edgeprune.benches import spread
    from edgeprune.export_onnx import to_onnx
    from edgeprune.fake_int8 import check_rounding
    from edgeprune.int8_units import units_of
    from edgeprune.latencies import OPSET, time_onnx
    from edgeprune.sensitivity import choose_mixed, to_mixed
    from edgeprune.sensitivity import sensitivity as measure
    from edgeprune.settings import Clips

    check_rounding(activations)
    if clips < 1 or most_lost < 0:
        raise EdgepruneError("--clips must be at least 1, and --most-lost not negative.")
    classifier = models.load_classifier(model)
    units = [unit for unit in units_of(classifier) if unit.scopes]
    with tempfile.TemporaryDirectory() as work:
        read_clips(
            model, data, "", out=Path(work), settings=Clips(label=label or Clips().label), ui=ui
        )
        valid = load_windows(Path(work)).split("valid")
        if unknown := sorted(set(valid.labels) - set(models.labels_of(classifier))):
            raise EdgepruneError(f"The model has no output for {unknown[0]!r}, a label of {data}.",
                                 "Give a model that was taught these labels.")  # fmt: skip
        valid = spread(valid, clips)
    whole = to_onnx(classifier, valid.window_samples, OPSET)
    times = (time_onnx(whole, valid.window_samples),
             time_onnx(to_mixed(whole, classifier, (), activations), valid.window_samples))  # fmt: skip
    table = measure(classifier, valid, units, activations, times, ui, reverse=reverse)
    done = {**table.facts(), "most_lost": most_lost, "float": choose_mixed(table, most_lost)}
    out.mkdir(parents=True, exist_ok=True)
    (out / "sensitivity.json").write_text(json.dumps(done, indent=1), "utf-8")
    (out / "sensitivity.md").write_text(as_markdown(done), "utf-8")
    return done


HEADS = ("unit", "lost", "same %", "KL", "back %", "KL back", "ms")
"""Of a unit alone in int8: points lost, answers that stay, divergence in nats; of it alone in float,
what of the two is won back; what int8 saves."""


def cells_of(row: dict[str, Any]) -> tuple[str, ...]:
    """Return a row of the table as text."""
    share, less = row["saved_agreement"], row["saved_divergence"]
    return (row["unit"], f"{100 * row['loss']:.2f}", f"{100 * row['agreement']:.2f}",
            f"{row['divergence']:.1e}", "" if share is None else f"{100 * share:.2f}",
            "" if less is None else f"{less:.1e}", f"{row['gain_ms']:.2f}")  # fmt: skip


def as_markdown(done: dict[str, Any]) -> str:
    """Return the table as Markdown, with what holds for the whole model."""
    lines = [_summary(done), "", f"| {' | '.join(HEADS)} |", "|---" + "|---:" * 6 + "|"]
    lines += [f"| {' | '.join(cells_of(row))} |" for row in done["rows"]]
    return "\n".join([*lines, "", _choice(done), ""])


def _show(done: dict[str, Any]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False)
    for number, name in enumerate(HEADS):
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    for row in done["rows"]:
        table.add_row(*cells_of(row))
    console = Console()
    console.print(_summary(done), highlight=False, markup=False)
    console.print(table)
    console.print(_choice(done), highlight=False, markup=False)


def _summary(done: dict[str, Any]) -> str:
    return (f"int8 with scales by {done['activations']}, {done['clips']} clips: "
            f"{done['metric']} {100 * done['score']:.1f} % in float, "
            f"{100 * done['int8_loss']:.2f} points less in int8, "
            f"{100 * done['int8_agreement']:.1f} % agree, KL {done['int8_divergence']:.1e}; "
            f"{done['float_ms']:.1f} -> {done['int8_ms']:.1f} ms")  # fmt: skip


def _choice(done: dict[str, Any]) -> str:
    asked = f"For at most {100 * done['most_lost']:g} points lost"
    if not done["float"]:
        return f"{asked}, all can be int8."
    return f"{asked}, leave in float: {', '.join(done['float'])}."
