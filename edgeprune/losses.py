"""What a student is trained against: pure functions of tensors, one idea each."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def label_loss(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy of logits (batch, labels) against classes (batch,), smoothed."""
    return functional.cross_entropy(logits, targets, label_smoothing=smoothing)


def logit_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of softened scores (Hinton, Vinyals, Dean 2015, 1503.02531).

    Both are logits (batch, labels); the factor T^2 keeps the gradient's size.
    """
    soft = functional.kl_div(
        functional.log_softmax(student / temperature, dim=-1),
        functional.log_softmax(teacher / temperature, dim=-1),
        reduction="batchmean",
        log_target=True,
    )
    return soft * temperature**2


def hidden_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """L1 distance and cosine of hidden states (batch, frames, hidden), as in DistilHuBERT.

    Chang, Yang, Lee 2022, arXiv 2110.01900: mean L1 minus the log-sigmoid of the cosine.
    """
    distance = functional.l1_loss(student, teacher)
    cosine = functional.cosine_similarity(student, teacher, dim=-1)
    return distance - functional.logsigmoid(cosine).mean()


def to_frames(states: Tensor, frames: int) -> Tensor:
    """Average states (batch, n, hidden) over time to so many frames, each over its share of them."""
    if states.shape[1] == frames:
        return states
    return functional.adaptive_avg_pool1d(states.transpose(1, 2), frames).transpose(1, 2)


def relation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the cosines between clips (batch, hidden), widths may differ.

    Relational knowledge distillation (Park et al. 2019, arXiv 1904.05068) with cosines for
    distances, so that it needs no scale.
    """
    own, theirs = (functional.normalize(x, dim=-1) for x in (student, teacher))
    return functional.mse_loss(own @ own.T, theirs @ theirs.T)


def state_loss(student: Tensor, teacher: Tensor, kind: str) -> Tensor:
    """Return how far states (batch, frames, hidden) are apart: ``mse``, or ``l1-cosine``."""
    if kind == "mse":
        return functional.mse_loss(student, teacher)
    return hidden_loss(student, teacher)
