"""The stage ``recover_int8``: quantization-aware training where int8 loses too much.

Quantization-aware training (Jacob et al. 2018, arXiv 1712.05877) by distillation from the float
model (Polino et al. 2018, arXiv 1802.05668), for a few epochs. The resulting weights are in float,
at values where rounding does less harm; they are exported and quantized as usual.
"""

from __future__ import annotations

import copy
import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeprune.core import distributed
from edgeprune.core.console import Ui, format_percent
from edgeprune.core.deployment_settings import Quantize
from edgeprune.core.files import write_json
from edgeprune.core.settings import Distill
from edgeprune.data.tasks import task_of
from edgeprune.data.windows import Windows, load_windows
from edgeprune.models import loading
from edgeprune.quantization.layer_groups import LayerGroup, deployed, layer_groups_of
from edgeprune.training import loop
from edgeprune.training.distill import WEIGHT_DECAY, Teacher, distillation_loss
from edgeprune.training.step_records import StepContext
from edgeprune.training.teach import freeze
from edgeprune_device.errors import EdgepruneError

SPEED = 0.3
"""Multiple of the usual learning rate, because the model is trained already."""
BITS = {"weights4": 4}
"""Method -> bits of its weights; 8 for all others."""


def recover_int8(
    student: Path, clips: Path, context: StepContext, *, out: Path, settings: Quantize, ui: Ui
) -> None:
    """Write ``model/`` and ``recover.json``: the student, trained again if int8 loses too much.

    Nothing is trained if fake int8 loses no more than ``Quantize.max_loss`` of the validation
    score. The teacher is the student itself, in float.

    Parameters
    ----------
    student : Path
        Folder of the stage ``distill``.
    clips : Path
        Folder of the stage ``clips``.
    context : StepContext
        Context of the steps.

    """
    windows = load_windows(clips)
    model, teacher = (loading.load_model(str(student / "model")) for _ in range(2))
    units = [unit for unit in layer_groups_of(model) if unit.scopes]  # the others stay in float
    bits = BITS.get(settings.method, 8)
    device = distributed.choose_device(context.accelerator)
    labels, valid = loading.labels_of(model), windows.split("valid")
    whole = loop.evaluate(model, valid, labels, device)
    done = recover(
        model, teacher, windows, Rounding(tuple(units), bits=bits),
        replace(context.distill, epochs=settings.recover_epochs), context,
        loop.TrainingSession(out / "work", device, ui, "recover int8"),
        enough=whole - settings.max_loss - 1e-9,
    )  # fmt: skip
    done |= {"float": whole, "skipped": not done["curve"]}
    loading.save(model.to("cpu"), out / "model")
    shutil.rmtree(out / "work", ignore_errors=True)
    write_json(out / "recover.json", done)


@dataclass(frozen=True)
class Rounding:
    """Units that are int8 in the deployed file, and how they are rounded."""

    units: tuple[LayerGroup, ...]
    """Units of ``layer_groups.layer_groups_of`` without those that stay in float."""
    activations: str = "rows"
    """Scales of the encoder's convolutions: ``rows`` or ``window``."""
    bits: int = 8
    """Bits of the weights."""


def recover(
    student: Any, teacher: Any, windows: Windows, rounding: Rounding, settings: Distill,
    context: StepContext, session: loop.TrainingSession, enough: float = math.inf,
) -> dict[str, Any]:  # fmt: skip
    """Train a student on its teacher, in place, while it rounds as its int8 file.

    All weights are trained, including the waveform encoder. The student gets the weights of the
    best epoch by the validation score in fake int8, or its initial ones if no epoch is better.

    Parameters
    ----------
    student : transformers.PreTrainedModel
        Model to train.
    teacher : transformers.PreTrainedModel
        Model in float, which is not trained; may be a copy of the student.
    windows : Windows
        Splits ``train`` and ``valid``.
    rounding : Rounding
        Which units are rounded, and how.
    settings : Distill
        Epochs (1 to 3 suffice), batch size, learning rate (0: three tenths of the usual),
        temperature, weights, patience.
    context : StepContext
        Seed and augmentation.
    session : TrainingSession
        Device, checkpoints and progress.
    enough : float
        Validation score in fake int8 from which on nothing is trained.

    Returns
    -------
    dict
        ``before`` and ``after``: the validation score in fake int8; ``curve``.

    Raises
    ------
    EdgepruneError
        The number of epochs is zero, or there is nothing to round.

    """
    units, bits, ui, epochs = rounding.units, rounding.bits, session.ui, settings.epochs
    labels, valid, device = loading.labels_of(student), windows.split("valid"), session.device
    with deployed(student, units, rounding.activations, bits):
        before = loop.evaluate(student, valid, labels, device)
    if before >= enough:
        ui.say(f"  int{bits}: {format_percent(before)} on the validation clips, no recovery needed")
        return {"before": before, "after": before, "curve": []}
    if epochs < 1 or not units:
        raise EdgepruneError(
            f"Recovery from int8 needs at least one epoch and one int8 unit, not {epochs} and "
            f"{len(units)}.", "Set quantize.recover_epochs to 0 (no recovery), or to 1 or more.",
        )  # fmt: skip
    usual = loop.default_learning_rate(loading.count_parameters(student))
    plan = loop.TrainingPlan(epochs, settings.batch_size, settings.learning_rate or SPEED * usual,
                             WEIGHT_DECAY, settings.patience, context.seed, settings.views,
                             context.augment)  # fmt: skip
    known = copy.deepcopy(student.state_dict())
    freeze(student, "all")
    master = Teacher(teacher, device, settings.views)
    loss = distillation_loss(task_of(windows.task), master, labels, settings, epochs, 0.0)
    with deployed(student, units, rounding.activations, bits):
        curve = loop.fit(student, windows.split("train"), valid, labels, loss, plan, session)
    after = max((row["valid_score"] for row in curve), default=before)
    if after <= before:
        student.load_state_dict(known)
        after = before
    ui.say(
        f"  int8 recovery: {format_percent(before)} -> {format_percent(after)} on the validation clips"
    )
    return {"before": before, "after": after, "curve": curve}
