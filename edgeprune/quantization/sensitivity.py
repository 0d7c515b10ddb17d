"""What each part of a model costs in int8, and what it saves: the table that mixed precision needs.

Cost: validation clips are scored in torch as the int8 file would (``fake_int8``), with one unit
alone in int8, and with that unit alone in float. Gain: the float file and the int8 file are each
timed once, and the difference is shared out by multiply-accumulates among the units that the file
has in int8. That takes all products to gain alike for each multiply-accumulate; it is no measurement
of a unit by itself, whose share would drown in the timer's noise.
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
from edgeprune.quantization.layer_groups import CONVOLUTION, Unit, deployed, units_of
from edgeprune.quantization.module_scopes import Scopes
from edgeprune.training import loop
from edgeprune_device.errors import EdgepruneError

LEAST_GAIN_MS = 1e-6  # of a unit that is as fast in float


@dataclass(frozen=True)
class SensitivityRow:
    """One unit's line."""

    unit: str
    kind: str
    scopes: tuple[str, ...]
    """Where it stands in the ONNX file."""
    loss: float
    """Score lost with it alone in int8, as a share; negative: gained."""
    agreement: float
    """Share of the answers that stay the same with it alone in int8."""
    divergence: float
    """Kullback-Leibler divergence of the scores from the float model's, in nats, it alone in int8."""
    saved_agreement: float | None
    """Agreement with it alone in float, less that of all in int8; None: not measured."""
    saved_divergence: float | None
    """Divergence of all in int8, less that with it alone in float; None: not measured."""
    gain_ms: float
    """Milliseconds that int8 saves there, by its share of the work."""


@dataclass(frozen=True)
class Sensitivity:
    """The table, and what holds for the whole model."""

    rows: tuple[SensitivityRow, ...]
    activations: str
    clips: int
    metric: str
    score: float
    """Of the float model."""
    int8_loss: float
    int8_agreement: float
    int8_divergence: float
    """With every unit in int8."""
    float_ms: float
    int8_ms: float

    def facts(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)


def sensitivity(
    model: Any, windows: Windows, units: Sequence[Unit], activations: str,
    milliseconds: tuple[float, float], ui: Ui, *, reverse: bool = True,
) -> Sensitivity:  # fmt: skip
    """Measure what each unit costs in int8.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        It stays as it is.
    windows : Windows
        Validation clips.
    units : sequence of Unit
        Those that the file has in int8.
    activations : str
        Of the encoder's convolutions: ``rows`` or ``window``.
    milliseconds : tuple of float
        Of a window through the float file and through the int8 file.
    ui : Ui
    reverse : bool
        Measure each unit alone in float, too: about twice the time.

    """
    task, labels = task_of(windows.task), loading.labels_of(model)
    device = next(model.parameters()).device
    whole = loop.predict(model, windows, device)
    score = task.score(whole, windows, labels)

    def cost(chosen: Sequence[Unit]) -> tuple[float, float, float]:
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
    model: Any, units: Sequence[Unit], window_samples: int, milliseconds: tuple[float, float]
) -> dict[str, float]:
    """Share what int8 saves among units, by their multiply-accumulates in a window of zeros."""
    counts = macs_by_module(model, window_samples)
    work = {unit.name: sum(counts.get(path, 0.0) for path in unit.layers) for unit in units}
    saved, total = milliseconds[0] - milliseconds[1], sum(work.values())
    return {name: saved * amount / total if total else 0.0 for name, amount in work.items()}


def divergence_of(whole: NDArray[np.float32], logits: NDArray[np.float32], task: str) -> float:
    """Return how far scores are from the float model's: the task's own divergence, in nats."""
    soft = task_of(task).soft_loss
    return float(soft(torch.from_numpy(logits), torch.from_numpy(whole), 1.0))


def choose_mixed(table: Sensitivity, most_lost: float) -> tuple[str, ...]:
    """Choose the units that stay in float: the most damage for each ms of int8 goes first.

    The loss of a mixture is predicted from the divergences of its int8 units, each alone: their sum
    as a part of that of all in int8, at most the whole, times the loss of all in int8. Scores of
    single units are too coarse to add up (of 700 clips, one is 0.14 points). Units that lose the same
    things have a sum far over the whole, and leaving one of them in float then wins nothing back.

    Parameters
    ----------
    table : Sensitivity
    most_lost : float
        Of the score, as a share: 0.005 is half a point.

    Returns
    -------
    tuple of str
        Units' names, in the order they were chosen; empty where int8 loses no more than that.

    Raises
    ------
    EdgepruneError
        ``most_lost`` is negative.

    """
    if most_lost < 0:
        raise EdgepruneError(
            f"A mixture cannot be asked to lose {most_lost:g} of its score.", "Use 0 or more."
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
    units: Sequence[Unit], in_float: Sequence[str], float_scopes: tuple[str, ...], activations: str
) -> Scopes:
    """Return the scopes of a mixture: those in float, and those with a scale for every frame.

    Parameters
    ----------
    units : sequence of Unit
        Of ``int8_units.units_of``.
    in_float : sequence of str
        Names of the units that stay in float.
    float_scopes : tuple of str
        Those of the family, which stay so.
    activations : str
        Of the encoder's convolutions: ``rows`` or ``window``.

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
    """Return the int8 file of a float one in which some units stay in float.

    Parameters
    ----------
    data : bytes
        The float32 ONNX file of the model.
    model : transformers.PreTrainedModel
    in_float : sequence of str
        Names of units, of ``choose_mixed``.
    activations : str
        Of the encoder's convolutions: ``rows`` or ``window``.

    Raises
    ------
    EdgepruneError
        The model has no unit of such a name.

    """
    from edgeprune.quantization.dynamic_onnx import to_int8

    units, family = units_of(model), family_of(model.config.model_type)
    if unknown := sorted(set(in_float) - {unit.name for unit in units}):
        raise EdgepruneError(f"The model has no unit {unknown[0]!r}.",
                             f"It has: {', '.join(unit.name for unit in units)}.")  # fmt: skip
    scopes = mixed_scopes(units, in_float, family.float_scopes, activations)
    return to_int8(data, scopes.float_scopes, scopes.row_scopes)
