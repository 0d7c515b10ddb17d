"""Train a student against its teacher: logits and last hidden state, then the labels.

The recovery after a trial cut (``prune.py``) is the same with fewer epochs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgeprune import losses, models, train
from edgeprune.audio import Windows, load_windows
from edgeprune.augment import nothing
from edgeprune.console import Ui, points
from edgeprune.settings import Distill
from edgeprune.teach import freeze

WEIGHT_DECAY = 0.01
FASTER = 2.0  # than teaching: a model that was just cut has further to go


def distill(
    teacher: Path, pruned: Path, clips: Path, seed: int, accelerator: str, *, out: Path,
    settings: Distill, ui: Ui,
) -> None:  # fmt: skip
    """Write the student: a model folder ``model/`` and ``distill.json`` with its learning curve.

    A model that lost no layer is its teacher already and is copied.
    """
    kept = json.loads((pruned / "prune.json").read_text("utf-8"))
    if len(kept["kept"]) == kept["layers"]:
        shutil.copytree(teacher / "model", out / "model", dirs_exist_ok=True)
        (out / "distill.json").write_text(json.dumps({"skipped": True, "curve": []}), "utf-8")
        ui.say("  every layer was kept: the student is the teacher")
        return
    windows = load_windows(clips)
    student, master = (models.load_classifier(str(f / "model")) for f in (pruned, teacher))
    curve = train_student(
        student, master, windows, settings, (settings.epochs, settings.label_epochs), seed,
        outdoors=True, work=out / "work", accelerator=accelerator, ui=ui, title="distill",
    )  # fmt: skip
    best = max((step["valid_accuracy"] for step in curve), default=float("nan"))
    ui.say(f"  student: {points(best)} of the validation clips")
    models.save(student, out / "model")
    facts = {"skipped": False, "valid_accuracy": best, "curve": curve, "seed": seed}
    (out / "distill.json").write_text(json.dumps(facts, indent=1), "utf-8")


def train_student(
    student: Any, teacher: Any, windows: Windows, settings: Distill, epochs: tuple[int, int],
    seed: int, *, outdoors: bool, work: Path, accelerator: str, ui: Ui, title: str,
) -> list[dict[str, float]]:  # fmt: skip
    """Train a student in place.

    Parameters
    ----------
    epochs : tuple of int
        Those against the teacher, and those on labels.
    outdoors : bool
        Finish it for the field, see ``student_loss``; otherwise recover it from a cut, faster.

    """
    device = models.choose_device(accelerator)
    teacher.eval().requires_grad_(False).to(device)
    freeze(student, "whole")
    usual = train.default_learning_rate(models.count_parameters(student))
    rate = settings.learning_rate or usual * (1.0 if outdoors else FASTER)
    plan = train.Plan(sum(epochs), settings.batch_size, rate, WEIGHT_DECAY, sum(epochs), seed)
    return train.fit(
        student, windows.split("train"), windows.split("valid"), models.labels_of(student),
        student_loss(teacher, settings, epochs[0], outdoors=outdoors), plan,
        work=work, device=device, ui=ui, title=title,
    )  # fmt: skip


def student_loss(
    teacher: Any, settings: Distill, distill_epochs: int, *, outdoors: bool
) -> Callable[[Any, Tensor, Tensor, int], Tensor]:
    """Return the loss of an epoch: the teacher's logits and last states, later the labels.

    Outdoors, some of the student's windows hold nothing (noise, scraps, a sound's edge): there, no
    label may stand out, so that the recorder stays silent.
    """

    def loss(student: Any, samples: Tensor, targets: Tensor, epoch: int) -> Tensor:
        heard, empty = samples, torch.zeros(len(samples), dtype=torch.bool)
        if outdoors:
            generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
            heard = samples.clone()
            empty = torch.rand(len(samples), generator=generator) < settings.nothing_share
            empty[:1] = False  # something is left to learn from
            heard[empty] = nothing(samples[empty], generator)
        with torch.no_grad():
            wanted, states = models.logits_and_states(teacher, samples)
        wanted[empty] = 0.0  # every label as likely as any other
        logits, own = models.logits_and_states(student, heard)
        soft = losses.logit_loss(logits, wanted, settings.temperature)
        full = ~empty
        if epoch >= distill_epochs:
            return 0.5 * losses.label_loss(logits[full], targets[full], 0.0) + 0.5 * soft
        return soft + settings.hidden_weight * losses.hidden_loss(own[-1][full], states[-1][full])

    return loss
