"""Train a student against its teacher: logits and last hidden state, then the labels.

The recovery after a trial cut (``prune.py``) is the same with fewer epochs.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgeprune.core import distributed
from edgeprune.core.console import Ui, points
from edgeprune.core.files import write_json
from edgeprune.core.settings import Distill
from edgeprune.data.augment import nothing
from edgeprune.data.tasks import Task, task_of
from edgeprune.data.windows import Windows, load_windows
from edgeprune.models import loading
from edgeprune.models.families import family_of, submodule
from edgeprune.nn import losses
from edgeprune.training import loop
from edgeprune.training.step_records import StepContext, read_step
from edgeprune.training.teach import freeze
from edgeprune_device.inference.ctc import BLANK

WEIGHT_DECAY = 0.01


def distill(
    teacher: Path, student: Path, clips: Path, context: StepContext, *, out: Path,
    settings: Distill, ui: Ui,
) -> None:  # fmt: skip
    """Write the student: a model folder ``model/`` and ``distill.json`` with its learning curve.

    A model that no step changed is its teacher already and is copied; so is any where the settings
    ask for no epoch. Data with a label that means "nothing" (one of ``context.ignore``) teaches
    silence itself; with any other, ``settings.nothing_share`` of the windows hold nothing.
    """
    facts = read_step(student)
    if facts["unchanged"] or not settings.epochs + settings.label_epochs:
        shutil.copytree(student / "model", out / "model", dirs_exist_ok=True)
        left = {"skipped": True, "valid_score": facts["valid_score"], "curve": [],
                "metric": task_of(load_windows(clips).task).metric}  # fmt: skip
        write_json(out / "distill.json", left, indent=None)
        ui.say("  the student is the teacher: nothing was dropped" if facts["unchanged"]
               else "  the recipe asks for no epoch: the student stays as it is")  # fmt: skip
        return
    windows = load_windows(clips)
    model, master = (loading.load_model(str(f / "model")) for f in (student, teacher))
    share = nothing_share_of(windows, context)
    device = distributed.choose_device(context.accelerator)
    session = loop.TrainingSession(out / "work", device, ui, "distill")
    curve = train_student(
        model, master, windows, replace(settings, nothing_share=share),
        (settings.epochs, settings.label_epochs), context, session,
    )  # fmt: skip
    valid, labels = windows.split("valid"), loading.labels_of(model)
    best = loop.evaluate(model, valid, labels, device)
    ui.say(f"  student: {task_of(windows.task).metric} {points(best)} on the validation clips")
    loading.save(model.to("cpu"), out / "model")
    shutil.rmtree(out / "work", ignore_errors=True)
    done = {"skipped": False, "valid_score": best, "metric": task_of(windows.task).metric,
            "curve": curve, "seed": context.seed}  # fmt: skip
    write_json(out / "distill.json", done)


def nothing_share_of(windows: Windows, context: StepContext) -> float:
    """Return the share of a student's windows that hold nothing.

    None does where one of the data's labels means that (``context.ignore``), or where the task
    has no answer to it.
    """
    aware = set(windows.labels) & set(context.ignore) or task_of(windows.task).silence is None
    return 0.0 if aware else context.distill.nothing_share


def train_student(
    student: Any, teacher: Any, windows: Windows, settings: Distill, epochs: tuple[int, int],
    context: StepContext, session: loop.TrainingSession, speed: float = 1.0,
) -> list[dict[str, float]]:  # fmt: skip
    """Train a student in place.

    Parameters
    ----------
    settings : Distill
        Its ``nothing_share`` of the windows hold nothing, see ``distillation_loss``.
    epochs : tuple of int
        Those against the teacher, and those on labels.
    context : StepContext
        For its seed and augmentation.
    session : TrainingSession
    speed : float
        Learning rate, as a multiple of fine-tuning's default.

    """
    freeze(student, "whole" if same_front_end(student, teacher) else "all")
    usual = loop.default_learning_rate(loading.count_parameters(student))
    rate = settings.learning_rate or usual * speed
    plan = loop.TrainingPlan(sum(epochs), settings.batch_size, rate, WEIGHT_DECAY, settings.patience,
                             context.seed, settings.views, context.augment)  # fmt: skip
    master = Teacher(teacher, session.device, settings.views)
    return loop.fit(
        student, windows.split("train"), windows.split("valid"), loading.labels_of(student),
        distillation_loss(task_of(windows.task), master, loading.labels_of(student), settings,
                          epochs[0], settings.nothing_share), plan, session,
    )  # fmt: skip


def same_front_end(student: Any, teacher: Any) -> bool:
    """Return whether a student hears through its teacher's waveform encoder, weight by weight."""
    if student.config.model_type != teacher.config.model_type:
        return False
    path = family_of(student.config.model_type).frozen
    if not path:
        return True
    own, other = (submodule(model, path).state_dict() for model in (student, teacher))
    return own.keys() == other.keys() and all(
        torch.equal(own[n].cpu(), other[n].cpu()) for n in own
    )


class Teacher:
    """A model whose answers are learnt from.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        It is moved to the device, and none of its weights changes.
    device : torch.device
    views : int
        Where clips are shown in a fixed number of views, each is heard once and its answers (logits
        and last state, in half precision) are kept; 0: nothing is.

    """

    def __init__(self, model: Any, device: torch.device, views: int = 0) -> None:
        self.model = model.eval().requires_grad_(False).to(device)
        self.labels = loading.labels_of(model)
        self.views = views
        self._known: dict[bytes, tuple[Tensor, Tensor]] = {}

    def __call__(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (see ``tasks``) and last hidden state (batch, frames, hidden)."""
        key = b""
        if self.views:
            key = hashlib.blake2b(samples.cpu().numpy().tobytes(), digest_size=16).digest()
            if key in self._known:
                logits, last = (x.to(samples.device).float() for x in self._known[key])
                return logits, last
        with torch.no_grad():
            logits, states = loading.logits_and_states(self.model, samples)
        if self.views:
            self._known[key] = (logits.half().cpu(), states[-1].half().cpu())
        return logits, states[-1]


def columns_of(teacher: Sequence[str], labels: Sequence[str], task: Task) -> list[int]:
    """Return where a teacher's outputs hold a student's labels; a transcript's blank is always first."""
    if task.name == "ctc":
        return [BLANK, *(teacher.index(label) for label in labels[1:])]
    return [teacher.index(label) for label in labels]


@dataclass(frozen=True)
class Targets:
    """What a batch is trained against."""

    samples: Tensor
    """(batch, window): what the student receives; some windows hold nothing."""
    full: Tensor
    """(batch,): which windows hold their sound."""
    logits: Tensor
    """The teacher's, of the student's labels; where nothing is, no label stands out."""
    states: Any
    """The teacher's hidden states of the windows as they were, as it gives them."""


def teacher_targets(
    teacher: Callable[[Tensor], tuple[Tensor, Any]], samples: Tensor, columns: Tensor, task: Task,
    nothing_share: float,
) -> Targets:  # fmt: skip
    """Ask a teacher, and put windows that hold nothing in the place of some of the student's.

    Parameters
    ----------
    teacher : callable
        From samples (batch, window) to logits and hidden states.
    samples : Tensor (batch, window)
    columns : Tensor (labels,)
        Where the teacher's outputs hold the student's labels, see ``columns_of``.
    task : Task
    nothing_share : float
        Share of the student's windows that hold nothing.

    """
    heard, empty = with_nothing(samples, nothing_share)
    answered, states = teacher(samples)
    wanted = answered[..., columns.to(answered.device)].clone()
    if task.silence is not None:
        wanted[empty] = task.silence(wanted[empty])
    return Targets(heard, ~empty, wanted, states)


def distillation_loss(
    task: Task, teacher: Teacher, labels: Sequence[str], settings: Distill, distill_epochs: int,
    nothing_share: float,
) -> Callable[[Any, Tensor, Tensor, int], Tensor]:  # fmt: skip
    """Return the loss of an epoch: the teacher's logits and last states, later the labels.

    Some of the student's windows hold nothing (noise, scraps, a sound's edge): there, no label may
    stand out, so that the recorder stays silent (tasks that have a ``silence``). States are compared
    where the student's have the teacher's shape.
    """
    column = torch.tensor(columns_of(teacher.labels, labels, task))

    def loss(student: Any, samples: Tensor, targets: Tensor, epoch: int) -> Tensor:
        given = teacher_targets(teacher, samples, column, task, nothing_share)
        full, last = given.full, given.states
        logits, own = loading.logits_and_states(student, given.samples)
        soft = task.soft_loss(logits, given.logits, settings.temperature)
        if epoch >= distill_epochs:
            known = task.loss(logits[full], targets[full])
            return settings.label_share * known + (1 - settings.label_share) * soft
        if not own or own[-1].shape != last.shape:  # other frames or width: only logits compare
            return soft
        return soft + settings.hidden_weight * losses.hidden_loss(own[-1][full], last[full])

    return loss


def with_nothing(samples: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Put windows that hold nothing (``augment.nothing``) in the place of a share of a batch's.

    Parameters
    ----------
    samples : Tensor (batch, window)
    share : float
        From 0 to 1; which windows is drawn from torch's generator.

    Returns
    -------
    heard : Tensor (batch, window)
    empty : Tensor (batch,)
        Which of them hold nothing; never the first, so that something is left to learn from.

    """
    if not share:
        return samples, torch.zeros(len(samples), dtype=torch.bool)
    generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
    heard = samples.clone()
    empty = torch.rand(len(samples), generator=generator) < share
    empty[:1] = False
    heard[empty] = nothing(samples[empty], generator)
    return heard, empty
