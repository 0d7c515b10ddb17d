"""int8 sensitivity of each part of a model: loss and time saved, as input of mixed precision.

Loss: validation clips are scored in torch as the int8 file would (``fake_quantize``), with one unit
alone in int8, and with that unit alone in float. Gain: the float file and the int8 file are each
timed once, and the difference is divided among the int8 units in proportion to their
multiply-accumulates. That assumes the same gain per multiply-accumulate everywhere; a single unit's
gain is not measured, because it would be lost in the timer's noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgeprune.core.console import Ui
from edgeprune.data.tasks import same_decisions, task_of
from edgeprune.data.windows import Windows
from edgeprune.models import loading
from edgeprune.models.families import family_of
from edgeprune.models.macs import macs_by_module
from edgeprune.quantization.layer_groups import CONVOLUTION, LayerGroup, deployed, layer_groups_of
from edgeprune.quantization.module_scopes import Scopes
from edgeprune.training import loop
from edgeprune_device.errors import EdgepruneError

LEAST_GAIN_MS = 1e-6  # for a unit that is as fast in float


@dataclass(frozen=True)
class SensitivityRow:
    """Results of one unit."""

    unit: str
    kind: str
    scopes: tuple[str, ...]
    """Its nodes in the ONNX file."""
    loss: float
    """Score lost with this unit alone in int8, as a share; negative: gained."""
    agreement: float
    """Share of equal decisions with this unit alone in int8."""
    divergence: float
    """Kullback-Leibler divergence from the float model, in nats, with this unit alone in int8."""
    saved_agreement: float | None
    """Agreement with this unit alone in float minus that of all in int8; None: not measured."""
    saved_divergence: float | None
    """Divergence of all in int8 minus that with this unit alone in float; None: not measured."""
    gain_ms: float
    """Milliseconds that int8 saves, by the unit's share of the computation."""


@dataclass(frozen=True)
class Sensitivity:
    """Results of all units, and of the whole model."""

    rows: tuple[SensitivityRow, ...]
    activations: str
    clips: int
    metric: str
    score: float
    """Score of the float model."""
    int8_loss: float
    int8_agreement: float
    int8_divergence: float
    """With all units in int8."""
    float_ms: float
    int8_ms: float

    def facts(self) -> dict[str, Any]:
        """Return the results as plain values for JSON."""
        return asdict(self)


def sensitivity(
    model: Any, windows: Windows, units: Sequence[LayerGroup], activations: str,
    milliseconds: tuple[float, float], ui: Ui, *, reverse: bool = True,
) -> Sensitivity:  # fmt: skip
    """Measure the loss of each unit in int8.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Model; it is not changed.
    windows : Windows
        Validation clips.
    units : sequence of LayerGroup
        Units that are int8 in the file.
    activations : str
        Scales of the encoder's convolutions: ``rows`` or ``window``.
    milliseconds : tuple of float
        Latency of a window in ms, of the float file and of the int8 file.
    ui : Ui
        Progress display.
    reverse : bool
        Also measure each unit alone in float, which takes about twice the time.

    """
    task, labels = task_of(windows.task), loading.labels_of(model)
    device = next(model.parameters()).device
    whole = loop.predict(model, windows, device)
    score = task.score(whole, windows, labels)

    def cost(chosen: Sequence[LayerGroup]) -> tuple[float, float, float]:
        with deployed(model, chosen, activations):
            logits = loop.predict(model, windows, device)
        lost = score - task.score(logits, windows, labels)
        same = same_decisions(whole, logits, task.activation, middle=0.0)
        return lost, same, divergence_of(whole, logits, windows.task)

    every = cost(units)
    gains = gains_of(model, units, windows.window_samples, milliseconds)
    rows = []
    for unit in ui.track(units, "sensitivity", len(units)):
        alone = cost([unit])
        rest = [other for other in units if other is not unit]
        without = cost(rest) if reverse and rest else None
        rows.append(SensitivityRow(
            unit.name, unit.kind, unit.scopes, *alone,
            None if without is None else without[1] - every[1],
            None if without is None else every[2] - without[2], gains[unit.name],
        ))  # fmt: skip
        ui.note(f"{unit.name}: {100 * alone[1]:.1f} % agree")
    return Sensitivity(tuple(rows), activations, len(np.unique(windows.clip)), task.metric, score,
                       *every, *milliseconds)  # fmt: skip


def gains_of(
    model: Any, units: Sequence[LayerGroup], window_samples: int, milliseconds: tuple[float, float]
) -> dict[str, float]:
    """Divide the time that int8 saves among units, by their multiply-accumulates per window."""
    counts = macs_by_module(model, window_samples)
    work = {unit.name: sum(counts.get(path, 0.0) for path in unit.layers) for unit in units}
    saved, total = milliseconds[0] - milliseconds[1], sum(work.values())
    return {name: saved * amount / total if total else 0.0 for name, amount in work.items()}


def divergence_of(whole: NDArray[np.float32], logits: NDArray[np.float32], task: str) -> float:
    """Return the divergence of logits from the float model's, by the task's soft loss, in nats."""
    soft = task_of(task).soft_loss
    return float(soft(torch.from_numpy(logits), torch.from_numpy(whole), 1.0))


def choose_mixed(table: Sensitivity, most_lost: float) -> tuple[str, ...]:
    """Choose units to keep in float, those with the most loss per ms saved by int8 first.

    The loss of a mixture is predicted from the divergences of its int8 units, each measured alone:
    the ratio of their sum to the divergence of all in int8, at most 1, times the loss of all in
    int8. Scores of single units are too coarse to add up (of 700 clips, one is 0.14 percentage
    points). If units lose the same decisions, their sum far exceeds the whole, and keeping one of
    them in float gains nothing.

    Parameters
    ----------
    table : Sensitivity
        Results of ``sensitivity``.
    most_lost : float
        Largest loss of the score allowed, as a share: 0.005 is half a percentage point.

    Returns
    -------
    tuple of str
        Names of the units, in the order they were chosen; empty if int8 loses no more than that.

    Raises
    ------
    EdgepruneError
        ``most_lost`` is negative.

    """
    if most_lost < 0:
        raise EdgepruneError(
            f"most_lost = {most_lost:g} is out of range (allowed: 0 or more).",
            "It is the share of the score that may be lost.",
        )
    damage = {row.unit: max(0.0, row.divergence) for row in table.rows}
    left = sum(damage.values())
    whole = min(table.int8_divergence, left)
    order = sorted(table.rows, key=lambda row: -damage[row.unit] / max(row.gain_ms, LEAST_GAIN_MS))
    chosen: list[str] = []
    for row in order:
        predicted = table.int8_loss * min(1.0, left / whole) if whole > 0 else table.int8_loss
        if predicted <= most_lost or not damage[row.unit]:
            break
        chosen.append(row.unit)
        left -= damage[row.unit]
    return tuple(chosen)


def mixed_scopes(
    units: Sequence[LayerGroup],
    in_float: Sequence[str],
    float_scopes: tuple[str, ...],
    activations: str,
) -> Scopes:
    """Return the scopes of a mixture: those in float, and those with one scale per frame.

    Parameters
    ----------
    units : sequence of LayerGroup
        Units, of ``layer_groups.layer_groups_of``.
    in_float : sequence of str
        Names of the units to keep in float.
    float_scopes : tuple of str
        Scopes of the family, which are always in float.
    activations : str
        Scales of the encoder's convolutions: ``rows`` or ``window``.

    """
    kept = tuple(scope for unit in units if unit.name in in_float for scope in unit.scopes)
    rows = tuple(
        scope for unit in units if unit.kind == CONVOLUTION and unit.name not in in_float
        for scope in unit.scopes if activations == "rows"
    )  # fmt: skip
    return Scopes((*float_scopes, *kept), rows)


def to_mixed(
    data: bytes, model: Any, in_float: Sequence[str], activations: str = "rows"
) -> bytes:  # fmt: skip
    """Quantize a float file to int8 with some units kept in float.

    Parameters
    ----------
    data : bytes
        float32 ONNX file of the model.
    model : transformers.PreTrainedModel
        The model.
    in_float : sequence of str
        Names of the units to keep in float, from ``choose_mixed``.
    activations : str
        Scales of the encoder's convolutions: ``rows`` or ``window``.

    Raises
    ------
    EdgepruneError
        The model has no such unit.

    """
    from edgeprune.quantization.dynamic_onnx import to_int8

    units, family = layer_groups_of(model), family_of(model.config.model_type)
    if unknown := sorted(set(in_float) - {unit.name for unit in units}):
        raise EdgepruneError(f"The model has no unit {unknown[0]!r}.",
                             f"Known: {', '.join(unit.name for unit in units)}.")  # fmt: skip
    scopes = mixed_scopes(units, in_float, family.float_scopes, activations)
    return to_int8(data, scopes.float_scopes, scopes.row_scopes)
