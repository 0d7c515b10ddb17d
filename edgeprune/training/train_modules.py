"""Train some modules of a model and leave all others alone: what mimics and light front ends need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from edgeprune.data.tasks import task_of
from edgeprune.data.windows import Windows
from edgeprune.models import loading
from edgeprune.training import loop
from edgeprune.training.distill import WEIGHT_DECAY, Teacher, distillation_loss, nothing_share_of
from edgeprune.training.step_records import StepContext


def train_parts(
    model: Any, windows: Windows, loss: loop.Loss, plan: loop.TrainingPlan,
    session: loop.TrainingSession, *, trained: Sequence[nn.Module], head: bool = False,
) -> list[dict[str, float]]:  # fmt: skip
    """Train some modules of a model, and its head if asked; returns the learning curve."""
    model.requires_grad_(False)
    for module in trained:
        module.requires_grad_(True)
    if head:
        for parameter in loading.head_parameters(model):
            parameter.requires_grad_(True)
    return loop.fit(
        model, windows.split("train"), windows.split("valid"), loading.labels_of(model), loss, plan,
        session,
    )  # fmt: skip


def step_plan(
    epochs: int, rate: float, context: StepContext, turn: int = 0, *, last: bool = False,
) -> loop.TrainingPlan:  # fmt: skip
    """Return a plan of so many epochs.

    Parameters
    ----------
    epochs : int
    rate : float
        Peak learning rate.
    context : StepContext
        What the step is given.
    turn : int
        Which training of its step it is.
    last : bool
        Keep the last epoch, not the best by the task's score: of a regression of states, while the
        rest of the model has not seen what they have become, that score says little.

    """
    common = context.distill
    return loop.TrainingPlan(
        epochs, common.batch_size, rate, WEIGHT_DECAY, epochs, context.seed + turn,
        views=common.views, augment=context.augment, last=last,
    )  # fmt: skip


def answers_loss(
    model: Any, teacher: Any, windows: Windows, context: StepContext, device: torch.device,
    epochs: int = 0,
) -> loop.Loss:  # fmt: skip
    """Return the loss against a teacher's answers: first and its last states, then and labels.

    Parameters
    ----------
    model, teacher : transformers.PreTrainedModel
    windows : Windows
    context : StepContext
        What the step is given.
    device : torch.device
    epochs : int
        How many epochs learn answers and states, before those that learn labels and answers.

    """
    common, task = context.distill, task_of(windows.task)
    return distillation_loss(
        task, Teacher(teacher, device, common.views), loading.labels_of(model), common, epochs,
        nothing_share_of(windows, context),
    )  # fmt: skip
