"""Logistic regression in closed training: one convex problem, solved to its end by L-BFGS.

Multinomial for one label per clip, one binary regression per tag otherwise. Features are
standardized; the penalty is chosen on validation clips along a path of penalties, from strong to
weak, each solution starting from the one before it (as in Friedman, Hastie, Tibshirani 2010).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

PENALTIES = (1.0, 0.3, 0.1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6)
"""Weights of the squared weights, on standardized features, relative to the mean loss of a clip."""
STEPS = 200
PATIENCE = 2
"""Weaker penalties without a lower validation loss after which the path ends."""
SMALLEST_SPREAD = 1e-8
"""A feature that varies less is constant; dividing by it would be dividing by rounding errors."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits (n, labels), targets) -> mean loss."""


@dataclass(frozen=True)
class LinearHead:
    """A linear head on features, and how it was chosen."""

    weight: Tensor
    """(labels, features), for features as they are, not standardized."""
    bias: Tensor
    """(labels,)"""
    penalty: float
    """The chosen penalty."""


def fit_linear_head(
    train: tuple[Tensor, Tensor],
    valid: tuple[Tensor, Tensor] | None,
    labels: int,
    penalties: Sequence[float] = PENALTIES,
) -> LinearHead:
    """Fit a linear head on training features; choose its penalty on validation features.

    Parameters
    ----------
    train, valid : tuple of Tensor
        Features (n, features), and targets: class indices (n,), or tags (n, labels) of 0 and 1.
        Without ``valid`` the first penalty is used.
    labels : int
        Number of labels.
    penalties : sequence of float
        Penalties to try, from strong to weak, until weaker ones are worse; of equally good ones the
        stronger is taken.

    Returns
    -------
    LinearHead

    """
    x, y = train[0].double(), train[1]
    loss = loss_of(y)
    mean, spread = x.mean(dim=0), x.std(dim=0, correction=0)
    scale = torch.where(spread > SMALLEST_SPREAD, 1 / spread.clamp_min(SMALLEST_SPREAD), 0.0)
    x = (x - mean) * scale
    start = torch.zeros(labels, x.shape[1] + 1, dtype=torch.float64)
    best, best_loss, chosen, worse = start, float("inf"), penalties[0], 0
    for penalty in penalties if valid is not None else penalties[:1]:
        start = _solve(x, y, start, penalty, loss)
        if valid is None:
            best = start
            break
        judged = (valid[0].double() - mean) * scale
        value = float(loss(judged @ start[:, :-1].T + start[:, -1], valid[1]))
        if value < best_loss:
            best, best_loss, chosen, worse = start, value, penalty, 0
        elif (worse := worse + 1) == PATIENCE:
            break
    weight = best[:, :-1] * scale
    return LinearHead(weight.float(), (best[:, -1] - weight @ mean).float(), chosen)


def loss_of(targets: Tensor) -> Loss:
    """Return the loss for targets: cross-entropy of classes, or binary cross-entropy of tags."""
    if targets.dim() == 1:
        return nn.functional.cross_entropy
    return lambda logits, wanted: nn.functional.binary_cross_entropy_with_logits(
        logits, wanted.to(logits.dtype)
    )


def _solve(x: Tensor, y: Tensor, start: Tensor, penalty: float, loss: Loss) -> Tensor:
    """Minimize the loss plus the penalty; the last column of the result is the bias."""
    weight = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([weight], max_iter=STEPS, line_search_fn="strong_wolfe")

    def value() -> Tensor:
        optimizer.zero_grad()
        total = loss(x @ weight[:, :-1].T + weight[:, -1], y)
        total = total + penalty * weight[:, :-1].square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(value)  # type: ignore[no-untyped-call]
    return weight.detach()
