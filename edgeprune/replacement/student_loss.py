"""Loss of a new student: the teacher's logits and hidden states, then the labels.

Teacher and student process the same windows. The student learns the logits directly, and the hidden
states through a linear layer of its own that is removed after training. Windows are also mixed in
pairs: a mixture has no label, but the teacher's output is a valid target (Beyer et al. 2022, arXiv
2106.05237: a consistent and patient teacher).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.core.settings import Distill, Student
from edgeprune.data.tasks import Task
from edgeprune.models import loading
from edgeprune.models.families import layers_of
from edgeprune.nn import losses
from edgeprune.training.distill import columns_of, teacher_targets
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.ctc import BLANK, BLANK_NAME

MATCHING = "matching"
"""Submodule of linear layers from the student's hidden states to the teacher's, in training."""


def matched_layers(own: int, theirs: int, intermediate: bool) -> list[tuple[int, int]]:
    """Return pairs of hidden states (student's, teacher's): the last ones, or one per block.

    Parameters
    ----------
    own, theirs : int
        Number of blocks of the student and of the teacher; hidden state 0 precedes block 1.
    intermediate : bool
        Pair every block of the student with the teacher's block at the same relative depth.

    """
    if not intermediate or own < 2:
        return [(own, theirs)]
    return [(i, max(1, round(i * theirs / own))) for i in range(1, own + 1)]


def matching(model: Any, teacher: Any, samples: Tensor, intermediate: bool) -> nn.ModuleDict:
    """Return linear layers from each paired hidden state's width to the teacher's, by its index.

    Parameters
    ----------
    model, teacher : transformers.PreTrainedModel
        Student and teacher.
    samples : Tensor (batch, window)
        Any valid input; the teacher processes it once to find the widths of its hidden states.
    intermediate : bool
        See ``matched_layers``.

    """
    with torch.no_grad():
        _, theirs = loading.logits_and_states(teacher, samples)
    pairs = matched_layers(len(layers_of(model)), len(theirs) - 1, intermediate)
    width = model.config.hidden_size
    return nn.ModuleDict(
        {str(own): nn.Linear(width, theirs[other].shape[-1]) for own, other in pairs}
    )


@dataclass
class StudentLoss:
    """Loss of a student, with its settings."""

    teacher: Any
    labels: Sequence[str]
    """Labels of the data; the teacher's other labels are ignored."""
    settings: Student
    common: Distill
    """Temperature, weight of the hidden states, share of the labels."""
    background_share: float
    """Share of windows that are replaced by background, for which all labels should score low."""
    task: Task

    def __post_init__(self) -> None:
        """Find the columns of the labels in the teacher's outputs."""
        if not self.settings.distil:
            return
        known = list(loading.labels_of(self.teacher))
        if self.task.name == "ctc":
            known[BLANK] = BLANK_NAME  # checkpoints call it <pad>
        if lacking := [label for label in self.labels if label not in known]:
            raise EdgepruneError(
                f"The teacher does not know the label {lacking[0]!r}, so it cannot be distilled.",
                "Fine-tune the teacher first (teach.when), or use student.distil = false.",
            )
        self.columns = torch.tensor(columns_of(known, self.labels, self.task))

    def loss(self, student: Any, samples: Tensor, targets: Tensor, epoch: int) -> Tensor:
        """Return the loss of a batch, see ``training.loop.Loss``."""
        if not self.settings.distil:
            return self.task.loss(loading.logits_of(student, samples), targets, 0.1)
        labelled = epoch >= self.settings.epochs
        heard = samples
        if not labelled and self.task.name != "ctc":  # two mixed utterances have no transcript
            generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
            heard = mixup(samples, self.settings.mix, generator)
        given = teacher_targets(self._ask, heard, self.columns, self.task, self.background_share)
        full, wanted = given.is_original, given.logits
        logits, own = loading.logits_and_states(student, given.samples)
        if self.task.name == "ctc":
            wanted = losses.to_frames(wanted, logits.shape[1])
        soft = self.task.soft_loss(logits, wanted, self.common.temperature)
        if labelled:
            known = self.task.loss(logits[full], targets[full])
            return self.common.label_share * known + (1 - self.common.label_share) * soft
        return soft + self._states(student, own, given.states, full)

    def _ask(self, samples: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """Return the teacher's logits and all its hidden states."""
        with torch.no_grad():
            logits, states = loading.logits_and_states(self.teacher, samples)
        return logits, states

    def _states(
        self, student: Any, own: Sequence[Tensor], theirs: Sequence[Tensor], full: Tensor
    ) -> Tensor:
        """Return the weighted loss of the paired hidden states, and of the clips' relations."""
        total = full.new_zeros((), dtype=torch.float32)
        if not own:  # a small CNN has no hidden states to compare
            return total
        pairs = matched_layers(len(own) - 1, len(theirs) - 1, self.settings.intermediate)
        layers: Any = getattr(student, MATCHING, {})
        for mine, other in pairs if layers else ():
            state = layers[str(mine)](own[mine][full])
            target = losses.to_frames(theirs[other][full], state.shape[1])
            total = total + self.common.hidden_weight / len(pairs) * losses.hidden_loss(
                state, target
            )
        if self.settings.relation_weight:
            related = losses.relation_loss(own[-1][full].mean(dim=1), theirs[-1][full].mean(dim=1))
            total = total + self.settings.relation_weight * related
        return total


def mixup(samples: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Mix some windows (batch, n) with another one of the batch, with random weights (mixup).

    Parameters
    ----------
    samples : Tensor (batch, n)
        Samples in [-1, 1].
    share : float
        Share of the windows that are mixed; the two weights are uniform and sum to 1.
    generator : torch.Generator
        CPU generator of all random numbers.

    """
    count = len(samples)
    order = torch.randperm(count, generator=generator)
    weight = torch.rand(count, 1, generator=generator)
    chosen = torch.rand(count, 1, generator=generator) < share
    weight = torch.where(chosen, weight, torch.ones_like(weight)).to(samples.device)
    return weight * samples + (1 - weight) * samples[order.to(samples.device)]
