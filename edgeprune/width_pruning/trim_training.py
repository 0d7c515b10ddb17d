"""Training in the step ``trim``: gates that rank the units, and recovery of the trimmed model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgeprune.core.console import Ui
from edgeprune.core.settings import Distill, Trim
from edgeprune.data.tasks import Task, task_of
from edgeprune.data.windows import Windows
from edgeprune.models import loading
from edgeprune.training import loop
from edgeprune.training.distill import WEIGHT_DECAY, Teacher, background_share_of
from edgeprune.training.loop import RECOVERY_SPEED
from edgeprune.training.step_records import StepContext
from edgeprune.width_pruning import cost_model
from edgeprune.width_pruning.distillation_loss import (
    StateMask,
    masked_distillation_loss,
    with_state_projection,
)
from edgeprune.width_pruning.gate_training import (
    GATES,
    MULTIPLIER_RATE,
    MULTIPLIERS,
    Gates,
    attach_gates,
    gated_loss,
    ranks_of,
    state_mask_of,
)
from edgeprune.width_pruning.importance import unit_importance
from edgeprune.width_pruning.units import Group, groups_of

TAYLOR_BATCHES = 16


@dataclass(frozen=True)
class TrimContext:
    """Common input of all rounds."""

    teacher: Teacher
    windows: Windows
    labels: tuple[str, ...]
    step: StepContext
    settings: Trim
    device: torch.device
    ui: Ui

    @property
    def task(self) -> Task:
        """The task of the clips."""
        return task_of(self.windows.task)

    @property
    def distill(self) -> Distill:
        """Distillation settings."""
        return self.step.distill

    @property
    def label_loss(self) -> loop.Loss:
        """The task's loss on labels alone."""
        return loop.labels_loss(self.windows, 0.0)

    def distillation_loss(self, state_mask: StateMask) -> loop.Loss:
        """Return the distillation loss, weighted by the settings."""
        return masked_distillation_loss(self.task, self.teacher, self.labels, self.distill, state_mask,
                                        background_share_of(self.windows, self.step))  # fmt: skip

    def matched(self, model: Any, always: bool) -> AbstractContextManager[None]:
        """Map a model's hidden states to the teacher's temporarily, if the loss compares them."""
        if not self.distill.hidden_weight:
            return nullcontext()
        return with_state_projection(model, self.teacher, self.windows.split("train"), always)


def rank(
    model: Any, groups: Sequence[Group], terms: Sequence[cost_model.Term], goal: float, context: TrimContext,
    work: Path,
) -> tuple[list[dict[str, float]], dict[str, Tensor]]:  # fmt: skip
    """Return a learning curve (of the gates, if any) and every unit's score."""
    s, seed = context.settings, context.step.seed
    if s.method != "masks":
        model.to(context.device)
        batches = _some_batches(context, seed) if s.method == "taylor" else ()
        return [], unit_importance(s.method, model, groups, batches, context.label_loss, seed)
    windows = context.windows.split("train")
    steps = s.epochs * math.ceil(len(windows.samples) / context.distill.batch_size)
    plan = _plan(model, context, s.epochs, 1.0)
    rates = {GATES: s.gate_rate / plan.learning_rate,
             MULTIPLIERS: MULTIPLIER_RATE / plan.learning_rate}  # fmt: skip
    table = cost_model.collect_terms(terms)
    ranks = None
    if s.mask_loss != "genova":
        model.to(context.device)
        known = unit_importance(
            "taylor", model, groups, _some_batches(context, seed), context.label_loss, seed
        )
        ranks = ranks_of(known, groups, table)
    share = goal / float(cost_model.total(table, {}))
    trained = [p for p in model.parameters() if p.requires_grad]
    if s.encoder == "frozen":
        head = {id(p) for p in loading.head_parameters(model)}
        for parameter in trained:
            parameter.requires_grad_(id(parameter) in head)
    made = Gates(groups, s.gate, steps, table, share, s.mask_loss == "budget", ranks)
    with (
        context.matched(model, always=True),
        attach_gates(model, groups, made) as gates,
    ):
        loss = gated_loss(
            context.distillation_loss(state_mask_of(groups, gates)), share, s.mask_loss
        )
        plan = replace(plan, rate_factors=rates, keep_last=True)
        curve = _fit(model, loss, plan, work / "gates", context, "masks")
        scores = gates.scores()
    for parameter in trained:
        parameter.requires_grad_(True)
    return curve, scores


def recover(model: Any, context: TrimContext, work: Path) -> list[dict[str, float]]:
    """Train a trimmed model on the teacher and the labels, in place; return the learning curve."""
    epochs = context.settings.recovery_epochs
    narrowed = any(group.states for group in groups_of(model, context.settings.what))
    with context.matched(model, always=narrowed):
        loss = context.distillation_loss(lambda: None)
        return _fit(
            model, loss, _plan(model, context, epochs, RECOVERY_SPEED), work, context, "recover"
        )


def _fit(
    model: Any,
    loss: loop.Loss,
    plan: loop.TrainingPlan,
    work: Path,
    context: TrimContext,
    title: str,
) -> list[dict[str, float]]:
    return loop.fit(
        model, context.windows.split("train"), context.windows.split("valid"), context.labels, loss, plan,
        loop.TrainingSession(work, context.device, context.ui, title),
    )  # fmt: skip


def _plan(model: Any, context: TrimContext, epochs: int, speed: float) -> loop.TrainingPlan:
    d = context.distill
    usual = loop.default_learning_rate(loading.count_parameters(model))
    return loop.TrainingPlan(
        epochs, d.batch_size, d.learning_rate or usual * speed, WEIGHT_DECAY, epochs,
        context.step.seed, d.views, context.step.augment,
    )  # fmt: skip


def _some_batches(context: TrimContext, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield some batches of training windows and their targets."""
    windows, size = context.windows.split("train"), context.distill.batch_size
    targets = context.task.targets(windows, context.labels)
    order = np.random.default_rng(seed).permutation(len(windows.samples))
    for start in range(0, min(len(order), TAYLOR_BATCHES * size), size):
        rows = np.sort(order[start : start + size])
        samples = torch.from_numpy(np.array(windows.samples[rows]))
        yield samples.to(context.device), targets[torch.from_numpy(rows)].to(context.device)
