"""The stage ``distill``: train a student on its teacher's outputs, then on the labels.

The same training with fewer epochs recovers a layer subset (``depth_pruning.prune``).
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
from edgeprune.core.console import Ui, format_percent
from edgeprune.core.files import write_json
from edgeprune.core.settings import Distill
from edgeprune.data.augment import background_windows
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

    A model that no step changed is its own teacher and is copied, as is any model if the settings
    have no epochs. If the data have a background label (one of ``context.ignore``), background is
    learned from its clips; otherwise ``settings.nothing_share`` of the windows are background.
    """
    facts = read_step(student)
    if facts["unchanged"] or not settings.epochs + settings.label_epochs:
        shutil.copytree(student / "model", out / "model", dirs_exist_ok=True)
        left = {"skipped": True, "valid_score": facts["valid_score"], "curve": [],
                "metric": task_of(load_windows(clips).task).metric}  # fmt: skip
        write_json(out / "distill.json", left, indent=None)
        ui.say("  student: identical to the teacher, not trained" if facts["unchanged"]
               else "  student: not trained (no epochs in the recipe)")  # fmt: skip
        return
    windows = load_windows(clips)
    model, master = (loading.load_model(str(f / "model")) for f in (student, teacher))
    share = background_share_of(windows, context)
    device = distributed.choose_device(context.accelerator)
    session = loop.TrainingSession(out / "work", device, ui, "distill")
    curve = train_student(
        model, master, windows, replace(settings, nothing_share=share),
        (settings.epochs, settings.label_epochs), context, session,
    )  # fmt: skip
    valid, labels = windows.split("valid"), loading.labels_of(model)
    best = loop.evaluate(model, valid, labels, device)
    ui.say(
        f"  student: {task_of(windows.task).metric} {format_percent(best)} on the validation clips"
    )
    loading.save(model.to("cpu"), out / "model")
    shutil.rmtree(out / "work", ignore_errors=True)
    done = {"skipped": False, "valid_score": best, "metric": task_of(windows.task).metric,
            "curve": curve, "seed": context.seed}  # fmt: skip
    write_json(out / "distill.json", done)


def background_share_of(windows: Windows, context: StepContext) -> float:
    """Return the share of a student's windows that are replaced by background.

    0 if the data have a background label (``context.ignore``), or if the task has no target for
    background.
    """
    aware = (
        set(windows.labels) & set(context.ignore) or task_of(windows.task).background_target is None
    )
    return 0.0 if aware else context.distill.nothing_share


def train_student(
    student: Any, teacher: Any, windows: Windows, settings: Distill, epochs: tuple[int, int],
    context: StepContext, session: loop.TrainingSession, speed: float = 1.0,
) -> list[dict[str, float]]:  # fmt: skip
    """Train a student in place.

    Parameters
    ----------
    student, teacher : transformers.PreTrainedModel
        Model to train, and model to imitate.
    windows : Windows
        The data, all splits.
    settings : Distill
        Losses; a share ``nothing_share`` of the windows is background, see ``distillation_loss``.
    epochs : tuple of int
        Numbers of epochs on the teacher, and on the labels.
    context : StepContext
        Seed and augmentation.
    session : TrainingSession
        Device, checkpoints and progress.
    speed : float
        Learning rate, as a multiple of fine-tuning's default.

    Returns
    -------
    list of dict
        The learning curve, see ``loop.fit``.

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
    """Return whether a student's waveform encoder has the same weights as its teacher's."""
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
    """A model whose outputs a student learns.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Teacher; it is moved to the device and not trained.
    device : torch.device
        Device to run it on.
    views : int
        Number of augmented views of each clip. Each view is processed once and its outputs (logits
        and last hidden state, in half precision) are cached; 0: no cache.

    """

    def __init__(self, model: Any, device: torch.device, views: int = 0) -> None:
        self.model = model.eval().requires_grad_(False).to(device)
        self.labels = loading.labels_of(model)
        self.views = views
        self._known: dict[bytes, tuple[Tensor, Tensor]] = {}

    def __call__(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (see ``data.tasks``) and last hidden state (batch, frames, hidden)."""
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
    """Return the columns of a teacher's outputs for a student's labels; a CTC blank is always 0."""
    if task.name == "ctc":
        return [BLANK, *(teacher.index(label) for label in labels[1:])]
    return [teacher.index(label) for label in labels]


@dataclass(frozen=True)
class Targets:
    """Inputs and targets of a batch."""

    samples: Tensor
    """(batch, window): the student's input; some windows are background."""
    is_original: Tensor
    """(batch,): which windows were kept, that is, are not background."""
    logits: Tensor
    """The teacher's logits for the student's labels; uninformative for background windows."""
    states: Any
    """The teacher's hidden states of the original windows."""


def teacher_targets(
    teacher: Callable[[Tensor], tuple[Tensor, Any]], samples: Tensor, columns: Tensor, task: Task,
    nothing_share: float,
) -> Targets:  # fmt: skip
    """Run a teacher on a batch, and replace some of the student's windows by background.

    Parameters
    ----------
    teacher : callable
        From samples (batch, window) to logits and hidden states.
    samples : Tensor (batch, window)
        Samples in [-1, 1].
    columns : Tensor (labels,)
        Columns of the teacher's outputs for the student's labels, see ``columns_of``.
    task : Task
        Task of both.
    nothing_share : float
        Share of the student's windows that are replaced by background.

    """
    heard, empty = with_background(samples, nothing_share)
    answered, states = teacher(samples)
    wanted = answered[..., columns.to(answered.device)].clone()
    if task.background_target is not None:
        wanted[empty] = task.background_target(wanted[empty])
    return Targets(heard, ~empty, wanted, states)


def distillation_loss(
    task: Task, teacher: Teacher, labels: Sequence[str], settings: Distill, distill_epochs: int,
    nothing_share: float,
) -> Callable[[Any, Tensor, Tensor, int], Tensor]:  # fmt: skip
    """Return a loss per epoch: the teacher's logits and last hidden states, later the labels.

    Some of the student's windows are background (noise, scrambled sound, a sound's edge). Their
    target scores no label higher than others, so that the recorder stays silent (for tasks with a
    ``silence``). Hidden states are compared if student and teacher have the same shape.
    """
    column = torch.tensor(columns_of(teacher.labels, labels, task))

    def loss(student: Any, samples: Tensor, targets: Tensor, epoch: int) -> Tensor:
        given = teacher_targets(teacher, samples, column, task, nothing_share)
        full, last = given.is_original, given.states
        logits, own = loading.logits_and_states(student, given.samples)
        soft = task.soft_loss(logits, given.logits, settings.temperature)
        if epoch >= distill_epochs:
            known = task.loss(logits[full], targets[full])
            return settings.label_share * known + (1 - settings.label_share) * soft
        if not own or own[-1].shape != last.shape:  # other frames or width: logits only
            return soft
        return soft + settings.hidden_weight * losses.hidden_loss(own[-1][full], last[full])

    return loss


def with_background(samples: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Replace a share of the windows of a batch by background (``augment.background_windows``).

    Parameters
    ----------
    samples : Tensor (batch, window)
        Samples in [-1, 1].
    share : float
        From 0 to 1; the windows are drawn by torch's global generator.

    Returns
    -------
    heard : Tensor (batch, window)
        Input of the student.
    empty : Tensor (batch,)
        Which windows are background; never the first, so that a batch always has a target.

    """
    if not share:
        return samples, torch.zeros(len(samples), dtype=torch.bool)
    generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
    heard = samples.clone()
    empty = torch.rand(len(samples), generator=generator) < share
    empty[:1] = False
    heard[empty] = background_windows(samples[empty], generator)
    return heard, empty
