"""Distillation loss for a model that is masked or trimmed: logits, labels, last hidden states.

If the student's hidden states are narrower than the teacher's, a linear layer maps them to the
teacher's (DPHuBERT, Peng et al. 2023, arXiv 2305.17651). It is fitted in closed form before the
training, trained with the student, and removed afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgeprune.core.settings import Distill
from edgeprune.data.tasks import Task
from edgeprune.data.windows import Windows
from edgeprune.models import loading
from edgeprune.nn import losses
from edgeprune.training.distill import Teacher, columns_of, teacher_targets

MATCH = "edgeprune_match"
"""Name of that linear layer among a model's modules during training."""
MATCH_WINDOWS = 128
MATCH_BATCH = 32
RIDGE = 1e-3  # as a share of the mean squared hidden state

StateMask = Callable[[], Tensor | None]
"""Returns the mask (hidden,) of the hidden states in this forward pass; None: not masked."""


def masked_distillation_loss(
    task: Task, teacher: Teacher, labels: Sequence[str], settings: Distill, state_mask: StateMask,
    nothing_share: float = 0.0,
) -> Callable[[Any, Tensor, Tensor, int], Tensor]:  # fmt: skip
    """Return the combined loss on labels, the teacher's logits and its last hidden states.

    A part with weight zero is skipped: with ``label_share`` 1 and ``hidden_weight`` 0 the teacher
    is not run, and the loss is the task's own.

    Parameters
    ----------
    task : Task
        The task.
    teacher : Teacher
        The teacher.
    labels : sequence of str
        Labels in the order of the student's outputs.
    settings : Distill
        Weights of the parts.
    state_mask : callable
        See ``StateMask``.
    nothing_share : float
        Share of the student's windows that are replaced by background, for which all labels should
        score low; not used if the teacher's logits have weight zero.

    """
    share, weight = settings.label_share, settings.hidden_weight
    column = torch.tensor(
        columns_of(teacher.labels, labels, task) if share < 1 else [], dtype=torch.long
    )

    def loss(student: Any, samples: Tensor, targets: Tensor, _: int) -> Tensor:
        if share == 1 and not weight:
            return task.loss(loading.logits_of(student, samples), targets)
        given = teacher_targets(teacher, samples, column, task, nothing_share if share < 1 else 0.0)
        full, last = given.is_original, given.states
        logits, states = loading.logits_and_states(student, given.samples)
        value = logits.new_zeros(())
        if share:
            value = value + share * task.loss(logits[full], targets[full])
        if share < 1:
            soft = task.soft_loss(logits, given.logits, settings.temperature)
            value = value + (1 - share) * soft
        own = _comparable(student, states[-1], state_mask()) if weight and states else None
        if own is None or own.shape != last.shape:  # other frame rate: logits only
            return value
        return value + weight * losses.hidden_loss(own[full], last[full])

    return loss


def _comparable(student: Any, own: Tensor, mask: Tensor | None) -> Tensor:
    """Return a student's hidden states, masked and mapped, for comparison with the teacher's."""
    if mask is not None:
        own = own * mask
    if hasattr(student, MATCH):
        own = getattr(student, MATCH)(own)
    return own


@contextmanager
def with_state_projection(
    student: Any, teacher: Teacher, train: Windows, always: bool
) -> Iterator[None]:
    """Add the linear layer from a student's hidden states to its teacher's, if needed, temporarily.

    Parameters
    ----------
    student : transformers.PreTrainedModel
        Student.
    teacher : Teacher
        Teacher.
    train : Windows
        Training windows to fit it on.
    always : bool
        Add it even if both have the same width (because masks will reduce it).

    """
    device = next(teacher.model.parameters()).device
    student.to(device)
    own, other = _states(student, teacher, train, device)
    if own.shape[0] == other.shape[0] and (always or own.shape != other.shape):
        setattr(student, MATCH, fit_match(own, other))
    try:
        yield
    finally:
        if hasattr(student, MATCH):
            delattr(student, MATCH)


def fit_match(own: Tensor, other: Tensor) -> nn.Linear:
    """Return the linear layer from hidden states (n, a) to others (n, b), by ridge regression."""
    x, y = own.double(), other.double()
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = x - mean_x, y - mean_y
    gram = x.T @ x
    ridge = RIDGE * gram.diagonal().mean().clamp_min(1e-12)
    weight = torch.linalg.solve(gram + ridge * torch.eye(len(gram)).to(gram), x.T @ y).T
    layer = nn.Linear(x.shape[1], y.shape[1]).to(own.device)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(mean_y - weight @ mean_x)
    return layer


def _states(
    student: Any, teacher: Teacher, train: Windows, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the last hidden states of student and teacher, all frames stacked."""
    student.eval()
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    count = min(MATCH_WINDOWS, len(train.samples))
    chosen = np.linspace(0, len(train.samples) - 1, count).astype(int)
    with torch.no_grad():
        for start in range(0, count, MATCH_BATCH):
            rows = chosen[start : start + MATCH_BATCH]
            samples = torch.from_numpy(np.array(train.samples[rows])).to(device)
            for model, states in zip((student, teacher.model), found, strict=True):
                states.append(loading.logits_and_states(model, samples)[1][-1].flatten(0, 1))
    own, other = (torch.cat(states) for states in found)
    return own, other
