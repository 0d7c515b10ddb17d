"""The step ``frontend``: a light front end in place of the waveform encoder (or of KWT's MFCC).

A third of wav2vec2's computation is its convolutional encoder, so that removing transformer layers
cannot make it more than 2.9 times as fast. The light front end first learns the teacher's features;
then the whole model learns the teacher's logits and hidden states, then the labels.
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
from edgeprune.core.settings import FrontEnd
from edgeprune.data.tasks import task_of
from edgeprune.data.windows import load_windows
from edgeprune.models import loading
from edgeprune.models.families import submodule
from edgeprune.nn import losses
from edgeprune.replacement.frontend_placement import (
    insert_light_frontend,
    interpolate_frames,
    path_of,
)
from edgeprune.replacement.mimic_placement import record_outputs
from edgeprune.training import loop
from edgeprune.training.step_records import StepContext, write_step
from edgeprune.training.train_modules import distillation_loss_of_step, step_plan, train_parts

LEARNING_RATE = 1e-3  # of the new front end


def frontend(
    teacher: Path, student: Path, clips: Path, context: StepContext, *, out: Path,
    settings: FrontEnd, ui: Ui,
) -> None:  # fmt: skip
    """Write the student with a light front end: ``model/`` and ``step.json``.

    The target features are the teacher's if the student has as many channels, and those of the
    student before this step if an earlier step trimmed them.

    Raises
    ------
    EdgepruneError
        The family already takes spectrograms, or the hop is shorter than KWT's own.

    """
    windows = load_windows(clips)
    master, model = (loading.load_model(str(f / "model")) for f in (teacher, student))
    path, sound = path_of(model.config), torch.zeros(1, windows.window_samples)
    usual = features_of(model, path, sound)
    source = master
    if features_of(master, path, sound).shape != usual.shape:
        source = loading.load_model(str(student / "model"))
    torch.manual_seed(context.seed)
    part = insert_light_frontend(model, usual, loading.sample_rate_of(model), settings)
    device = distributed.choose_device(context.accelerator)
    run, work = partial(train_parts, model, windows), out / "work"
    curve: list[dict[str, float]] = []
    if settings.distil and settings.epochs:
        lesson = Features(source.to(device), path, part, settings.loss)
        rate = settings.learning_rate or LEARNING_RATE
        plan = step_plan(settings.epochs, rate, context, last=True)
        session = loop.TrainingSession(work / "features", device, ui, "front end")
        curve = run(lesson.loss, plan, session, trained=[part])
    count = settings.whole_epochs + settings.label_epochs
    if epochs := count if settings.distil else count + settings.epochs:
        if settings.distil:
            loss = distillation_loss_of_step(
                model, master, windows, context, device, settings.whole_epochs
            )
        else:
            loss = loop.labels_loss(windows)
        rate = settings.learning_rate or loop.default_learning_rate(loading.count_parameters(model))
        plan = step_plan(epochs, rate, context, 1)
        session = loop.TrainingSession(work / "whole", device, ui, "whole model")
        curve += run(loss, plan, session, trained=[model])
    task, valid = task_of(windows.task), windows.split("valid")
    score = loop.evaluate(model, valid, loading.labels_of(model), device)
    ui.say(f"  light front end: {task.metric} {format_percent(score)} on the validation clips")
    loading.save(model.requires_grad_(True).to("cpu"), out / "model")
    shutil.rmtree(work, ignore_errors=True)
    write_step(
        out, model, windows.window_samples, step="frontend", valid_score=score,
        metric=task.metric, curve=curve, kind=settings.kind, distil=settings.distil,
        seed=context.seed,
    )  # fmt: skip


def features_of(model: Any, path: str, samples: Tensor) -> Tensor:
    """Return the features that a model's front end computes of windows (batch, samples)."""
    with torch.no_grad(), record_outputs({"features": submodule(model, path)}) as seen:
        loading.logits_of(model, samples)
    return seen["features"]


@dataclass
class Features:
    """First phase of the training: regression of the front end's features."""

    source: Any
    path: str
    part: nn.Module
    kind: str
    """Loss: ``mse`` or ``l1-cosine``."""

    def __post_init__(self) -> None:
        """Freeze the source model."""
        self.source.eval().requires_grad_(False)

    def loss(self, student: Any, samples: Tensor, _: Tensor, __: int) -> Tensor:
        """Return the loss between the light front end's features and the source's."""
        wanted = features_of(self.source, self.path, samples)
        found: Tensor = self.part(loading.prepare(student, samples))
        if self.source.config.model_type == "kwt":  # (batch, frames, cepstra)
            step = student.config.frame_step / self.source.config.frame_step
            wanted = interpolate_frames(wanted, found.shape[1], step)
        else:  # (batch, channels, frames)
            found, wanted = found.transpose(1, 2), wanted.transpose(1, 2)
        return losses.state_loss(found, wanted, self.kind)
