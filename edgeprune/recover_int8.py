"""Win back what int8 lost: a few epochs of distillation in which the student rounds as its file will.

Quantization-aware training (Jacob et al. 2018, arXiv 1712.05877) against the float model's answers
(Polino et al. 2018, arXiv 1802.05668). The weights that come out are in float, at places where
rounding does less harm; exporting and quantizing them is as before.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeprune import compute, models, train
from edgeprune.audio import Windows
from edgeprune.augment import USUAL
from edgeprune.console import Ui, points
from edgeprune.distill import WEIGHT_DECAY, Teacher, student_loss
from edgeprune.int8_units import Unit, deployed
from edgeprune.settings import Augment, Distill
from edgeprune.tasks import task_of
from edgeprune.teach import freeze
from edgeprune_device.errors import EdgepruneError

SPEED = 0.3
"""Of the usual learning rate: the model is trained already."""


def recover(
    student: Any, teacher: Any, windows: Windows, units: Sequence[Unit], settings: Distill,
    epochs: int, seed: int, *, work: Path, accelerator: str, ui: Ui, activations: str = "rows",
    bits: int = 8, sound: Augment = USUAL,
) -> dict[str, Any]:  # fmt: skip
    """Train a student in place to answer as its teacher does, while it rounds as its int8 file.

    All weights learn, those of the waveform encoder, too. The student is left at the best epoch by
    the validation score in fake int8, and as it was where no epoch is better than that.

    Parameters
    ----------
    student : transformers.PreTrainedModel
    teacher : transformers.PreTrainedModel
        The model in float; none of its weights changes. It may be the student's twin.
    windows : Windows
        Splits ``train`` and ``valid``.
    units : sequence of Unit
        What the file has in int8 (``int8_units.units_of``, less what stays in float).
    settings : Distill
        Batch size, learning rate (0: three tenths of the usual), temperature, weights, patience.
    epochs : int
        1 to 3 are enough.
    seed : int
    work : Path
        Folder of the checkpoint.
    accelerator : str
    ui : Ui
    activations : str
        Of the encoder's convolutions: ``rows`` or ``window``.
    bits : int
        Of the weights.
    sound : Augment
        How the clips are changed.

    Returns
    -------
    dict
        ``before`` and ``after``: the validation score in fake int8; ``curve``.

    Raises
    ------
    EdgepruneError
        No epoch was asked for, or there is nothing to round.

    """
    if epochs < 1 or not units:
        raise EdgepruneError(
            f"Recovery from int8 needs at least one epoch and one unit in int8, not {epochs} and "
            f"{len(units)}.", "Leave recovery out, or set epochs to 1 or more.",
        )  # fmt: skip
    device = compute.choose_device(accelerator)
    labels, valid = models.labels_of(student), windows.split("valid")
    usual = train.default_learning_rate(models.count_parameters(student))
    plan = train.Plan(epochs, settings.batch_size, settings.learning_rate or SPEED * usual,
                      WEIGHT_DECAY, settings.patience, seed, settings.views, sound)  # fmt: skip
    known = copy.deepcopy(student.state_dict())
    freeze(student, "all")
    master = Teacher(teacher, device, settings.views)
    loss = student_loss(task_of(windows.task), master, labels, settings, epochs, 0.0)
    with deployed(student, units, activations, bits):
        before = train.evaluate(student, valid, labels, device)
        curve = train.fit(student, windows.split("train"), valid, labels, loss, plan, work=work,
                          device=device, ui=ui, title="recover int8")  # fmt: skip
    after = max((row["valid_score"] for row in curve), default=before)
    if after <= before:
        student.load_state_dict(known)
        after = before
    ui.say(f"  int8 recovery: {points(before)} -> {points(after)} on the validation clips")
    return {"before": before, "after": after, "curve": curve}
