"""Losses for training a student on a teacher or on labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def label_loss(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of logits (batch, labels) against classes (batch,), with label smoothing."""
    return functional.cross_entropy(logits, targets, label_smoothing=smoothing)


def logit_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of softened logits (Hinton, Vinyals, Dean 2015, 1503.02531).

    Both are logits (batch, labels); the factor T^2 keeps the scale of the gradients.
    """
    soft = functional.kl_div(
        functional.log_softmax(student / temperature, dim=-1),
        functional.log_softmax(teacher / temperature, dim=-1),
        reduction="batchmean",
        log_target=True,
    )
    return soft * temperature**2


def tag_loss(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Binary cross-entropy of logits (batch, labels) against targets (batch, labels) of 0 or 1.

    ``smoothing`` moves the targets by half that share towards the other value.
    """
    wanted = targets * (1 - smoothing) + 0.5 * smoothing
    return functional.binary_cross_entropy_with_logits(logits, wanted)


def transcript_loss(logits: Tensor, targets: Tensor, _smoothing: float = 0.0) -> Tensor:
    """Connectionist temporal classification loss (Graves et al. 2006), per transcript token.

    Parameters
    ----------
    logits : Tensor (batch, frames, labels)
        Label 0 is the blank.
    targets : Tensor (batch, longest)
        Labels of the tokens, padded with zeros. A transcript with more tokens than frames has loss
        zero. There is no label smoothing, because alignments are free.

    """
    log_scores = functional.log_softmax(logits.float(), dim=-1)
    frames = torch.full((len(logits),), logits.shape[1], dtype=torch.long)
    lengths = (targets != 0).sum(dim=1).cpu()
    return functional.ctc_loss(
        log_scores.transpose(0, 1), targets, frames, lengths, blank=0, zero_infinity=True
    )


def tag_logit_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Binary divergence of softened logits (batch, labels), mean over labels as in ``tag_loss``.

    Each label is a softmax of two (Hinton, Vinyals, Dean 2015); the factor T^2 keeps the scale of
    the gradients, and the loss is zero where both agree.
    """
    soft = torch.sigmoid(teacher / temperature)
    cross = functional.binary_cross_entropy_with_logits(student / temperature, soft)
    least = functional.binary_cross_entropy_with_logits(teacher / temperature, soft)
    return (cross - least) * temperature**2


def frame_logit_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``logit_loss`` per frame: logits (batch, frames, labels), mean over frames."""
    return logit_loss(student.flatten(0, 1), teacher.flatten(0, 1), temperature)


def hidden_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """L1 distance and cosine loss of hidden states (batch, frames, hidden), as in DistilHuBERT.

    Chang, Yang, Lee 2022, arXiv 2110.01900: mean L1 minus the log-sigmoid of the cosine.
    """
    distance = functional.l1_loss(student, teacher)
    cosine = functional.cosine_similarity(student, teacher, dim=-1)
    return distance - functional.logsigmoid(cosine).mean()


def to_frames(states: Tensor, frames: int) -> Tensor:
    """Average hidden states (batch, n, hidden) over time to ``frames`` frames."""
    if states.shape[1] == frames:
        return states
    return functional.adaptive_avg_pool1d(states.transpose(1, 2), frames).transpose(1, 2)


def relation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the cosines between clips (batch, hidden); widths may differ.

    Relational knowledge distillation (Park et al. 2019, arXiv 1904.05068), with cosines instead of
    distances, so that no scale is needed.
    """
    own, theirs = (functional.normalize(x, dim=-1) for x in (student, teacher))
    return functional.mse_loss(own @ own.T, theirs @ theirs.T)


def state_loss(student: Tensor, teacher: Tensor, kind: str) -> Tensor:
    """Return the loss between hidden states (batch, frames, hidden): ``mse`` or ``l1-cosine``."""
    if kind == "mse":
        return functional.mse_loss(student, teacher)
    return hidden_loss(student, teacher)
