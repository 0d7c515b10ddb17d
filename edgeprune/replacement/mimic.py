"""The step ``mimic``: replace a span of blocks by a small network trained on its hidden states.

Dorszewski et al. 2024 (arXiv 2409.16302) showed that one or two frame-wise layers in place of all
transformer blocks lose little accuracy. First the mimic learns the teacher's hidden states after
the span (of two layers, the first learns those in its middle); then the head, and the mimic unless
it is frozen, learn the labels and the teacher's logits. ``distil = false`` is the paper's control:
the same network, trained on labels alone.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.core import distributed
from edgeprune.core.console import Ui, format_percent
from edgeprune.core.settings import Mimic as Settings
from edgeprune.data.tasks import task_of
from edgeprune.data.windows import load_windows
from edgeprune.models import loading
from edgeprune.models.families import family_of, layers_of
from edgeprune.nn import losses
from edgeprune.nn.mimic import Mimic
from edgeprune.replacement.mimic_placement import (
    drop_positions,
    mimic_spec,
    put_mimic,
    record_outputs,
    span_of,
)
from edgeprune.training import loop
from edgeprune.training.step_records import StepContext, write_step
from edgeprune.training.train_modules import distillation_loss_of_step, step_plan, train_parts

LEARNING_RATE = 1e-3  # as in arXiv 2409.16302


def mimic(
    teacher: Path, student: Path, clips: Path, context: StepContext, *, out: Path,
    settings: Settings, ui: Ui,
) -> None:  # fmt: skip
    """Write the student with a mimic in it: ``model/`` and ``step.json``.

    The target hidden states are the teacher's if the student has all its layers or the whole stack
    is replaced, and those of the student before this step if earlier steps changed them.

    Raises
    ------
    EdgepruneError
        The model has no such span, or the mimic is not possible, see ``mimic_placement``.

    """
    windows = load_windows(clips)
    master, model = (loading.load_model(str(f / "model")) for f in (teacher, student))
    first, stop = span_of(model, settings.span)
    depth = len(layers_of(model))
    source, begin, target = source_of(master, model, (first, stop), student)
    torch.manual_seed(context.seed)
    sound = torch.zeros(1, windows.window_samples)
    part = put_mimic(model, first, stop, sound, **mimic_spec(settings))
    whole = (first, stop) == (0, depth)
    dropped = whole and not settings.positions and drop_positions(model)
    device = distributed.choose_device(context.accelerator)
    rate = settings.learning_rate or LEARNING_RATE
    run, work = partial(train_parts, model, windows), out / "work"
    curve: list[dict[str, float]] = []
    if settings.distil and part.layers and settings.epochs:
        middle = target - (target + 1 - begin) // 2 if len(part.layers) > 1 else None
        states = RecordedStates(source.to(device), part, target, middle, settings.loss)
        plan = step_plan(settings.epochs, rate, context, last=True)
        session = loop.TrainingSession(work / "states", device, ui, "mimic")
        curve = run(states.loss, plan, session, trained=[part])
    if epochs := settings.label_epochs + (0 if settings.distil else settings.epochs):
        if settings.distil:
            loss = distillation_loss_of_step(model, master, windows, context, device)
        else:
            loss = loop.labels_loss(windows)
        frozen = settings.freeze and settings.distil
        plan = step_plan(epochs, rate, context, 1)
        session = loop.TrainingSession(work / "labels", device, ui, "labels")
        curve += run(loss, plan, session, trained=[] if frozen else [part], head=True)
    task = task_of(windows.task)
    valid = windows.split("valid")
    score = loop.evaluate(model, valid, loading.labels_of(model), device)
    ui.say(f"  mimic of layers {first} to {stop - 1}: {task.metric} {format_percent(score)} "
           "on the validation clips")  # fmt: skip
    loading.save(model.requires_grad_(True).to("cpu"), out / "model")
    shutil.rmtree(work, ignore_errors=True)
    write_step(
        out, model, windows.window_samples, step="mimic", valid_score=score, metric=task.metric,
        curve=curve, span=[first, stop], replaced=stop - first, of=depth, kind=settings.kind,
        positions=not dropped, distil=settings.distil, seed=context.seed,
    )  # fmt: skip


def source_of(
    master: Any, model: Any, span: tuple[int, int], student: Path
) -> tuple[Any, int, int]:
    """Return the model with the target hidden states, and the span's first and last block in it.

    If layers were removed and the span includes the last one, the target is the teacher's last
    hidden state; the span then begins in the teacher at the same relative depth.

    Parameters
    ----------
    master, model : transformers.PreTrainedModel
        The teacher, and the student before this step.
    span : tuple of int
        The student's first block in the span, and its end (exclusive).
    student : Path
        The student's folder, to load another copy of it.

    """
    (first, stop), theirs, own = span, len(layers_of(master)), len(layers_of(model))
    alike = master.config.model_type == model.config.model_type
    alike = alike and width_of(master) == width_of(model)
    if alike and (theirs == own or stop == own):
        return master, first * theirs // own, stop - own + theirs - 1
    return loading.load_model(str(student / "model")), first, stop - 1


def width_of(model: Any) -> int:
    """Return the width of a model's hidden states between blocks, trimmed or not."""
    shapes = getattr(model.config, "edgeprune_shapes", None) or {}
    norms = [shape[0] for name, shape in shapes.items()
             if family_of(model.config.model_type).layers in name and "norm" in name]  # fmt: skip
    return int(norms[0] if norms else model.config.hidden_size)


@dataclass
class RecordedStates:
    """First phase of the training: regression of hidden states."""

    source: Any
    part: Mimic
    target: int
    """Block of the source whose output the mimic learns."""
    middle: int | None
    """Block of the source whose output the first of two layers learns."""
    kind: str
    """Loss: ``mse`` (as in arXiv 2409.16302) or ``l1-cosine``."""

    def __post_init__(self) -> None:
        """Freeze the source model."""
        self.source.eval().requires_grad_(False)

    def loss(self, student: Any, samples: Tensor, _: Tensor, __: int) -> Tensor:
        """Return the loss between the mimic's hidden states and the source's."""
        blocks = layers_of(self.source)
        sought = {"end": blocks[self.target]}
        own: dict[str, nn.Module] = {"end": self.part}
        if self.middle is not None:
            sought["middle"] = blocks[self.middle]
            own["middle"] = self.part.layers[0]
        with torch.no_grad(), record_outputs(sought) as wanted:
            loading.logits_of(self.source, samples)
        with record_outputs(own) as found:
            loading.logits_of(student, samples)
        skip = self.part.class_tokens
        total = _distance(found["end"], wanted["end"], skip, self.kind)
        if self.middle is not None:
            frames = losses.to_frames(wanted["middle"][:, skip:], found["middle"].shape[1])
            total = total + losses.state_loss(found["middle"], frames, self.kind)
        return total


def _distance(found: Tensor, wanted: Tensor, skip: int, kind: str) -> Tensor:
    """Compare hidden states (batch, tokens, hidden), class tokens and frames separately."""
    frames = losses.to_frames(wanted[:, skip:], found.shape[1] - skip)
    total = losses.state_loss(found[:, skip:], frames, kind)
    if skip:
        total = total + losses.state_loss(found[:, :skip], wanted[:, :skip], kind)
    return total
