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
