"""Least squares for a projection that loses some of its inputs, as pure arithmetic.

A projection y = W x + b is fitted to targets by ridge regression towards its own weights W0,

    minimize  E |W x + b - y|^2 + r |W - W0|^2

so that without a loss of inputs and with its own outputs as targets it stays as it is. Inputs are
then removed by the rule of the Optimal Brain Surgeon (Hassibi and Stork 1993), as in ZipLM (Kurtic
et al. 2023, arXiv 2302.04089): what the removal of inputs g adds to the minimum is

    tr(W_g [A^-1]_gg^-1 W_g'),   A = cov(x) + r I

after which the minimum over the other inputs is known in closed form, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

RIDGE = 1e-3
"""The ridge r, as a share of the mean variance of the inputs."""
AT_A_TIME = 0.02
"""Largest share of the units left that is removed before the others are judged again."""


@dataclass
class Moments:
    """Weighted second moments of inputs x and targets y, summed about offsets near their means."""

    inputs: int
    outputs: int
    centred: bool = True
    """Whether the projection has a bias, which takes the means."""

    def __post_init__(self) -> None:
        """Start with no frames."""
        size = self.inputs + 1  # the last one is 1, for sums
        self.xx = torch.zeros(size, size, dtype=torch.float64)
        self.xy = torch.zeros(size, self.outputs, dtype=torch.float64)
        self._offsets: tuple[Tensor, Tensor] | None = None
        self.frames = 0
        """Number of frames added."""

    def add(self, x: Tensor, y: Tensor, weights: Tensor) -> None:
        """Add frames: x (n, inputs), y (n, outputs), weights (n,); sums are in double precision."""
        if self._offsets is None:
            self._offsets = (x.mean(dim=0), y.mean(dim=0))
            if not self.centred:
                self._offsets = (torch.zeros_like(x[0]), torch.zeros_like(y[0]))
        x = torch.cat([x - self._offsets[0], torch.ones_like(x[:, :1])], dim=1)
        weighted = x * weights.to(x.dtype)[:, None]
        self.xx += (weighted.T @ x).double().cpu()
        self.xy += (weighted.T @ (y - self._offsets[1])).double().cpu()
        self.frames += len(x)

    def covariances(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return cov(x) (inputs, inputs), cov(x, y) (inputs, outputs), and both means."""
        if self._offsets is None:
            raise ValueError("no frames were added")
        total = self.xx[-1, -1]
        mean_x, mean_y = self.xx[-1, :-1] / total, self.xy[-1] / total
        if not self.centred:
            mean_x, mean_y = torch.zeros_like(mean_x), torch.zeros_like(mean_y)
        cov_xx = self.xx[:-1, :-1] / total - torch.outer(mean_x, mean_x)
        cov_xy = self.xy[:-1] / total - torch.outer(mean_x, mean_y)
        offset_x, offset_y = (offset.double().cpu() for offset in self._offsets)
        return cov_xx, cov_xy, mean_x + offset_x, mean_y + offset_y


@dataclass(frozen=True)
class Regression:
    """The normal equations of a projection."""

    normal: Tensor
    """(inputs, inputs): A = cov(x) + r I."""
    right: Tensor
    """(inputs, outputs): cov(x, y) + r W0'."""
    mean_x: Tensor
    mean_y: Tensor


def regression(moments: Moments, weight: Tensor, ridge: float = RIDGE) -> Regression:
    """Return the normal equations of a projection.

    Parameters
    ----------
    moments : Moments
        Moments of its inputs and targets.
    weight : Tensor (outputs, inputs)
        Its weight W0.
    ridge : float
        The ridge, as a share of the mean variance of the inputs.

    """
    cov_xx, cov_xy, mean_x, mean_y = moments.covariances()
    spread = float(cov_xx.diagonal().mean())
    r = ridge * spread if spread > 0 else 1.0  # inputs that never change: the weight stays
    normal = cov_xx + r * torch.eye(len(cov_xx), dtype=torch.float64)
    return Regression(normal, cov_xy + r * weight.T.cpu().double(), mean_x, mean_y)


def solve(known: Regression, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight (outputs, inputs), 0 where an input is not kept, and bias (outputs,).

    Parameters
    ----------
    known : Regression
        The normal equations.
    kept : Tensor (inputs,) of bool
        Which inputs are kept.

    """
    found = torch.zeros_like(known.right)
    found[kept] = torch.linalg.solve(known.normal[kept][:, kept], known.right[kept])
    return found.T.contiguous(), known.mean_y - known.mean_x @ found


def removal_order(
    known: Regression, unit_of: Tensor, importance: Tensor
) -> tuple[list[int], list[float]]:
    """Remove one unit after the other, each time those that add least to the minimum.

    Parameters
    ----------
    known : Regression
        The normal equations.
    unit_of : Tensor (inputs,)
        Unit of each input: a head has several inputs, a feed-forward column one.
    importance : Tensor (outputs,)
        Weight of each output's squared error.

    Returns
    -------
    order : list of int
        All units but the last, in the order of their removal.
    added : list of float
        What each removal adds to the weighted minimum.

    """
    inverse = torch.linalg.inv(known.normal)
    weight = torch.linalg.solve(known.normal, known.right * importance.double().sqrt())
    units = int(unit_of.max()) + 1
    left = torch.arange(units)
    # Rows of the inverse and the weight, unit by unit, so that those of the units left are
    # cut out easily.
    rows = torch.argsort(unit_of, stable=True)
    inverse, weight = inverse[rows][:, rows], weight[rows]
    each = len(rows) // units
    if (torch.bincount(unit_of) != each).any():
        raise ValueError("units have different numbers of inputs")
    order: list[int] = []
    added: list[float] = []
    while len(left) > 1:
        cost = _increases(inverse, weight, each)
        count = min(max(1, int(AT_A_TIME * len(left))), len(left) - 1)
        ranked = torch.argsort(cost, stable=True)
        going, staying = ranked[:count], ranked[count:].sort().values
        inverse, weight, joint = _removed(
            inverse, weight, *(_rows_of(units, each) for units in (going, staying))
        )
        share = cost[going] / cost[going].sum().clamp_min(torch.finfo(torch.float64).tiny)
        order += left[going].tolist()
        added += (joint * share).tolist()
        left = left[staying]
    return order, added


def _rows_of(units: Tensor, each: int) -> Tensor:
    """Return the rows of some units, with ``each`` rows per unit."""
    return (units[:, None] * each + torch.arange(each)).reshape(-1)


def _increases(inverse: Tensor, weight: Tensor, each: int) -> Tensor:
    """Return what the removal of each unit alone adds to the minimum: (units,)."""
    rows = weight.reshape(-1, each, weight.shape[1])
    if each == 1:
        return rows[:, 0].square().sum(dim=1) / inverse.diagonal()
    square = inverse.reshape(len(rows), each, len(rows), each)
    blocks = torch.stack([square[unit, :, unit] for unit in range(len(rows))])
    added: Tensor = (rows * torch.linalg.solve(blocks, rows)).sum(dim=(1, 2))
    return added


def _removed(
    inverse: Tensor, weight: Tensor, going: Tensor, staying: Tensor
) -> tuple[Tensor, Tensor, float]:
    """Return inverse and weight of the rows that stay, and what the removal adds."""
    columns = inverse[staying][:, going]
    inner = torch.linalg.solve(inverse[going][:, going], weight[going])
    back = torch.linalg.solve(inverse[going][:, going], columns.T)
    added = float((weight[going] * inner).sum())
    left = inverse[staying][:, staying] - columns @ back
    return left, weight[staying] - columns @ inner, added
