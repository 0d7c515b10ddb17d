"""Gates between 0 and 1 that learn which units to keep, and the losses that close them.

A gate is one number per unit, learned with the model:

- ``straight_through`` (Genova, Esling and Hurlin): open if it is over 0; the gradient passes as if
  there were no step (Bengio, Léonard, Courville 2013, arXiv 1308.3432);
- ``hard_concrete`` (Louizos, Welling, Kingma 2018, arXiv 1712.01312): sampled, exactly 0 or 1 with
  some probability; outside training, the centre of the distribution.

``lagrangian`` drives a share to its target (Wang, Wohlwend, Lei 2020, arXiv 1910.04732; CoFi,
Xia, Zhong, Chen 2022, arXiv 2204.00408; DPHuBERT, Peng et al. 2023, arXiv 2305.17651).
``genova`` is the loss of Genova, Esling and Hurlin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

OPEN = {"straight-through": 1.0, "hard-concrete": 2.0}
"""Kind of gate -> its initial value; log-odds of 2.0 open 9 of 10 gates."""
TEMPERATURE = 2.0 / 3.0  # beta; with low and high as in Louizos et al., section 4.1
LOW, HIGH = -0.1, 1.1


def straight_through(gate: Tensor) -> Tensor:
    """Return 1 where a gate is over 0, else 0; the gradient is that of the gate itself."""
    return (gate > 0).to(gate.dtype) + (gate - gate.detach())


def hard_concrete(gate: Tensor, training: bool) -> Tensor:
    """Return a sample in [0, 1] or, outside training, the centre of its distribution.

    Parameters
    ----------
    gate : Tensor
        Log-odds.
    training : bool
        Whether to sample (with torch's global generator).

    """
    if training:
        draw = torch.rand_like(gate).clamp(1e-6, 1 - 1e-6)
        soft = torch.sigmoid((torch.log(draw) - torch.log(1 - draw) + gate) / TEMPERATURE)
    else:
        soft = torch.sigmoid(gate)
    return (soft * (HIGH - LOW) + LOW).clamp(0.0, 1.0)


def chance_open(gate: Tensor) -> Tensor:
    """Return the probability that a hard-concrete gate is not exactly 0."""
    return torch.sigmoid(gate - TEMPERATURE * math.log(-LOW / HIGH))


def warmed_target(step: float, warmup: float, target: float) -> float:
    """Return the target share at a step: linear from 1 to the final target."""
    done = 1.0 if warmup <= 0 else min(1.0, step / warmup)
    return 1.0 + (target - 1.0) * done


def lagrangian(share: Tensor, target: float, multipliers: Tensor) -> Tensor:
    """Return the penalty l1 (s - t) + l2 (s - t)^2, minimized by gates, maximized by multipliers.

    Parameters
    ----------
    share : Tensor ()
        Share of the cost that the gates keep.
    target : float
        Target share.
    multipliers : Tensor (2,)
        l1, l2. Their gradient is reversed, so that one optimizer lowers the penalty by the gates
        and raises it by the multipliers.

    """
    apart = share - target
    terms = torch.stack((apart, apart * apart))
    upward = multipliers * terms.detach()
    return (multipliers.detach() * terms).sum() - (upward - upward.detach()).sum()


def restart(multipliers: Tensor, apart: float) -> None:
    """Set l1 to zero, in place, if it pushes a share further away from its target.

    It grows while the gates are still closing, and would close far too many before it decreased
    again (dual restarts; Gallego-Posada et al. 2022, arXiv 2208.04425).

    Parameters
    ----------
    multipliers : Tensor (2,)
        l1, l2.
    apart : float
        The share minus its target.

    """
    with torch.no_grad():
        if float(multipliers[0]) * apart < 0:
            multipliers[0] = 0.0


def genova(gates: Sequence[Tensor], target: float) -> Tensor:
    """Return 100 (mean over groups of the mean of sigmoid(gate) - target)^2.

    Every group has the same weight, whatever its cost, so the target is not a share of any cost.
    """
    means = torch.stack([torch.sigmoid(gate).mean() for gate in gates])
    return 100.0 * (means.mean() - target) ** 2
