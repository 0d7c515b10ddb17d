"""Training of some modules of a model with all others frozen, for mimics and light front ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from edgeprune.data.tasks import task_of
from edgeprune.data.windows import Windows
from edgeprune.models import loading
from edgeprune.training import loop
from edgeprune.training.distill import WEIGHT_DECAY, Teacher, background_share_of, distillation_loss
from edgeprune.training.step_records import StepContext


def train_parts(
    model: Any, windows: Windows, loss: loop.Loss, plan: loop.TrainingPlan,
    session: loop.TrainingSession, *, trained: Sequence[nn.Module], head: bool = False,
) -> list[dict[str, float]]:  # fmt: skip
    """Train some modules of a model, and optionally its head; return the learning curve."""
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
    """Return the training plan of a step.

    Parameters
    ----------
    epochs : int
        Number of epochs.
    rate : float
        Peak learning rate.
    context : StepContext
        Context of the step.
    turn : int
        Index of this training within its step; added to the seed.
    last : bool
        Keep the last epoch instead of the best by the task's score. That score says little while
        hidden states are fitted and the rest of the model is not adapted to them yet.

    """
    common = context.distill
    return loop.TrainingPlan(
        epochs, common.batch_size, rate, WEIGHT_DECAY, epochs, context.seed + turn,
        views=common.views, augment=context.augment, keep_last=last,
    )  # fmt: skip


def distillation_loss_of_step(
    model: Any, teacher: Any, windows: Windows, context: StepContext, device: torch.device,
    epochs: int = 0,
) -> loop.Loss:  # fmt: skip
    """Return the loss on a teacher's outputs: first logits and hidden states, then with labels.

    Parameters
    ----------
    model, teacher : transformers.PreTrainedModel
        Model to train, and model to imitate.
    windows : Windows
        The data.
    context : StepContext
        Context of the step.
    device : torch.device
        Device of the training.
    epochs : int
        Number of epochs on logits and hidden states, before those on labels and logits.

    """
    common, task = context.distill, task_of(windows.task)
    return distillation_loss(
        task, Teacher(teacher, device, common.views), loading.labels_of(model), common, epochs,
        background_share_of(windows, context),
    )  # fmt: skip
