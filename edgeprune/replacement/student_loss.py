"""What a student is taught: the teacher's answers and states, then the labels.

The teacher hears what the student hears, and the student learns its answers, and its states through
a linear layer of its own that is gone afterwards. Windows are also mixed two by two: labels could
say nothing of them, but the teacher can (Beyer et al. 2022, arXiv 2106.05237: a consistent and
patient teacher).
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
"""Submodule with the linear layers between the student's states and the teacher's, while training."""


def matched_layers(own: int, theirs: int, intermediate: bool) -> list[tuple[int, int]]:
    """Return which states learn from which: the last from the last, or each from its share.

    Parameters
    ----------
    own, theirs : int
        Blocks of the student and of the teacher; state 0 is what comes before block 1.
    intermediate : bool
        Every block of the student learns from the teacher's block as far up as it is.

    """
    if not intermediate or own < 2:
        return [(own, theirs)]
    return [(i, max(1, round(i * theirs / own))) for i in range(1, own + 1)]


def matching(model: Any, teacher: Any, samples: Tensor, intermediate: bool) -> nn.ModuleDict:
    """Return a linear layer from each matched state's width to the teacher's, by the state's place.

    Parameters
    ----------
    model, teacher : transformers.PreTrainedModel
    samples : Tensor (batch, window)
        Any sound: the teacher hears it once, to see how wide its states are.
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
    """What a student is taught."""

    teacher: Any
    labels: Sequence[str]
    """Of the data: the teacher's other labels are left out."""
    settings: Student
    common: Distill
    """Temperature, weight of the states, share of labels."""
    quiet: float
    """Share of the windows that hold nothing, in which no label may stand out."""
    task: Task

    def __post_init__(self) -> None:
        """Find the labels among the teacher's."""
        if not self.settings.distil:
            return
        known = list(loading.labels_of(self.teacher))
        if self.task.name == "ctc":
            known[BLANK] = BLANK_NAME  # checkpoints call it <pad>
        if lacking := [label for label in self.labels if label not in known]:
            raise EdgepruneError(
                f"The teacher does not know the label {lacking[0]!r}, so it cannot teach it.",
                "Teach it first (teach.when), or use student.distil = false.",
            )
        self.columns = torch.tensor(columns_of(known, self.labels, self.task))

    def loss(self, student: Any, samples: Tensor, targets: Tensor, epoch: int) -> Tensor:
        """Return the loss of a batch: see ``train.Loss``."""
        if not self.settings.distil:
            return self.task.loss(loading.logits_of(student, samples), targets, 0.1)
        labelled = epoch >= self.settings.epochs
        heard = samples
        if not labelled and self.task.name != "ctc":  # two voices at once are no transcript
            generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
            heard = mix(samples, self.settings.mix, generator)
        given = teacher_targets(self._ask, heard, self.columns, self.task, self.quiet)
        full, wanted = given.full, given.logits
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
        """Return the weighted loss of the matched states, and of the clips' relations."""
        total = full.new_zeros((), dtype=torch.float32)
        if not own:  # a small CNN has no states to compare
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


def mix(samples: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Add to some windows (batch, n) another one of the batch, each with its weight.

    Parameters
    ----------
    share : float
        Of the windows; the weights are drawn evenly and sum to 1.
    generator : torch.Generator
        On the CPU; decides everything.

    """
    count = len(samples)
    order = torch.randperm(count, generator=generator)
    weight = torch.rand(count, 1, generator=generator)
    chosen = torch.rand(count, 1, generator=generator) < share
    weight = torch.where(chosen, weight, torch.ones_like(weight)).to(samples.device)
    return weight * samples + (1 - weight) * samples[order.to(samples.device)]
