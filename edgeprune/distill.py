"""Train a student against its teacher: logits and last hidden state, then the labels.

The recovery after a trial cut (``prune.py``) is the same with fewer epochs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
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


def distill(
    teacher: Path, pruned: Path, clips: Path, seed: int, accelerator: str,
    ignore: Sequence[str], *, out: Path, settings: Distill, ui: Ui,
) -> None:  # fmt: skip
    """Write the student: a model folder ``model/`` and ``distill.json`` with its learning curve.

    A model that lost no layer is its teacher already and is copied. Data with a label that means
    "nothing" (one of ``ignore``) teaches silence itself; with any other, ``settings.nothing_share``
    of the windows hold nothing.
    """
    kept = json.loads((pruned / "prune.json").read_text("utf-8"))
    if len(kept["kept"]) == kept["layers"]:
        shutil.copytree(teacher / "model", out / "model", dirs_exist_ok=True)
        (out / "distill.json").write_text(json.dumps({"skipped": True, "curve": []}), "utf-8")
        ui.say("  every layer was kept: the student is the teacher")
        return
    windows = load_windows(clips)
    student, master = (models.load_classifier(str(f / "model")) for f in (pruned, teacher))
    share = 0.0 if set(windows.labels) & set(ignore) else settings.nothing_share
    curve = train_student(
        student, master, windows, settings, (settings.epochs, settings.label_epochs), seed,
        nothing_share=share, work=out / "work", accelerator=accelerator, ui=ui, title="distill",
    )  # fmt: skip
    valid, labels = windows.split("valid"), models.labels_of(student)
    device = models.choose_device(accelerator)
    best = train.evaluate(student, valid, labels, device)
    ui.say(f"  student: {points(best)} of the validation clips")
    models.save(student.to("cpu"), out / "model")
    shutil.rmtree(out / "work", ignore_errors=True)
    facts = {"skipped": False, "valid_accuracy": best, "curve": curve, "seed": seed}
    (out / "distill.json").write_text(json.dumps(facts, indent=1), "utf-8")


def train_student(
    student: Any, teacher: Any, windows: Windows, settings: Distill, epochs: tuple[int, int],
    seed: int, *, work: Path, accelerator: str, ui: Ui, title: str, nothing_share: float = 0.0,
    speed: float = 1.0,
) -> list[dict[str, float]]:  # fmt: skip
    """Train a student in place.

    Parameters
    ----------
    epochs : tuple of int
        Those against the teacher, and those on labels.
    nothing_share : float
        Share of the windows that hold nothing, see ``student_loss``.
    speed : float
        Learning rate, as a multiple of teaching's default.

    """
    device = models.choose_device(accelerator)
    teacher.eval().requires_grad_(False).to(device)
    freeze(student, "whole")
    usual = train.default_learning_rate(models.count_parameters(student))
    rate = settings.learning_rate or usual * speed
    plan = train.Plan(sum(epochs), settings.batch_size, rate, WEIGHT_DECAY, sum(epochs), seed)
    return train.fit(
        student, windows.split("train"), windows.split("valid"), models.labels_of(student),
        student_loss(teacher, settings, epochs[0], nothing_share), plan,
        work=work, device=device, ui=ui, title=title,
    )  # fmt: skip


def student_loss(
    teacher: Any, settings: Distill, distill_epochs: int, nothing_share: float
) -> Callable[[Any, Tensor, Tensor, int], Tensor]:
    """Return the loss of an epoch: the teacher's logits and last states, later the labels.

    Some of the student's windows hold nothing (noise, scraps, a sound's edge): there, no label may
    stand out, so that the recorder stays silent.
    """

    def loss(student: Any, samples: Tensor, targets: Tensor, epoch: int) -> Tensor:
        heard, empty = samples, torch.zeros(len(samples), dtype=torch.bool)
        if nothing_share:
            generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
            heard = samples.clone()
            empty = torch.rand(len(samples), generator=generator) < nothing_share
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
