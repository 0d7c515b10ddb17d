"""The command ``sensitivity``: int8 sensitivity of each layer group, as a table."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from edgeprune.core.files import write_json
from edgeprune.core.settings import Clips
from edgeprune.data.clip_subsets import spread
from edgeprune.data.windows import load_windows
from edgeprune.export.onnx import to_onnx
from edgeprune.export.timing import OPSET, time_onnx
from edgeprune.models import loading
from edgeprune.pipeline.clips import clips as read_clips
from edgeprune.quantization.fake_quantize import check_rounding
from edgeprune.quantization.layer_groups import layer_groups_of
from edgeprune.quantization.sensitivity import choose_mixed, to_mixed
from edgeprune.quantization.sensitivity import sensitivity as measure
from edgeprune_device.errors import EdgepruneError


def run(
    model: str, data: Path, out: Path, *, label: str, activations: str, clips: int,
    most_lost: float, reverse: bool, ui: Any,
) -> dict[str, Any]:  # fmt: skip
    """Measure a model's int8 sensitivity; write ``sensitivity.json`` and ``sensitivity.md``.

    Raises
    ------
    EdgepruneError
        Model, data or options have an error; or the model has no output for one of the data's
        labels.

    """
    check_rounding(activations)
    if clips < 1 or most_lost < 0:
        raise EdgepruneError(
            "--clips or --most-lost is out of range (allowed: --clips from 1, --most-lost from 0)."
        )
    classifier = loading.load_model(model)
    units = [unit for unit in layer_groups_of(classifier) if unit.scopes]
    with tempfile.TemporaryDirectory() as work:
        read_clips(
            model, data, "", out=Path(work), settings=Clips(label=label or Clips().label), ui=ui
        )
        valid = load_windows(Path(work)).split("valid")
        if unknown := sorted(set(valid.labels) - set(loading.labels_of(classifier))):
            raise EdgepruneError(f"The model has no output for {unknown[0]!r}, a label of {data}.",
                                 "Use a model that was fine-tuned on these labels.")  # fmt: skip
        valid = spread(valid, clips)
    whole = to_onnx(classifier, valid.window_samples, OPSET)
    times = (time_onnx(whole, valid.window_samples),
             time_onnx(to_mixed(whole, classifier, (), activations), valid.window_samples))  # fmt: skip
    table = measure(classifier, valid, units, activations, times, ui, reverse=reverse)
    done = {**table.facts(), "most_lost": most_lost, "float": choose_mixed(table, most_lost)}
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "sensitivity.json", done)
    (out / "sensitivity.md").write_text(as_markdown(done), "utf-8")
    return done


HEADS = ("unit", "loss pp", "agree %", "KL", "gain %", "KL gain", "ms saved")
"""With a unit alone in int8: loss in percentage points, agreement with the float model, divergence
in nats; with it alone in float: the gain of both against all in int8; latency that int8 saves."""


def cells_of(row: dict[str, Any]) -> tuple[str, ...]:
    """Return a row of the table as text."""
    share, less = row["saved_agreement"], row["saved_divergence"]
    return (row["unit"], f"{100 * row['loss']:z.2f}", f"{100 * row['agreement']:z.2f}",
            f"{row['divergence']:.1e}", "" if share is None else f"{100 * share:z.2f}",
            "" if less is None else f"{less:.1e}", f"{row['gain_ms']:z.2f}")  # fmt: skip


def as_markdown(done: dict[str, Any]) -> str:
    """Return the table as Markdown, with the results of the whole model."""
    lines = [summary_text(done), "", f"| {' | '.join(HEADS)} |", "|---" + "|---:" * 6 + "|"]
    lines += [f"| {' | '.join(cells_of(row))} |" for row in done["rows"]]
    return "\n".join([*lines, "", choice_text(done), ""])


def summary_text(done: dict[str, Any]) -> str:
    """Describe the loss of the whole model in int8, and what was measured."""
    return (f"int8 with activation scales per {done['activations'].rstrip('s')}, {done['clips']} clips: "
            f"{done['metric']} {100 * done['score']:.1f} % in float, "
            f"{100 * done['int8_loss']:.2f} percentage points less in int8, "
            f"{100 * done['int8_agreement']:.1f} % agreement, KL {done['int8_divergence']:.1e}; "
            f"{done['float_ms']:.1f} -> {done['int8_ms']:.1f} ms")  # fmt: skip


def choice_text(done: dict[str, Any]) -> str:
    """Name the units to keep in float for the allowed loss."""
    asked = f"For a loss of at most {100 * done['most_lost']:g} percentage points"
    if not done["float"]:
        return f"{asked}, all units can be int8."
    return f"{asked}, keep in float: {', '.join(done['float'])}."
