"""What learns which units to keep: gates between 0 and 1, and the losses that close them.

Pure functions of tensors, one idea each. A gate is one number a unit, learned with the model:

- ``straight_through`` (Genova: open where it is over 0, and the gradient passes as if there were no
  step; Bengio, Leonard, Courville 2013, arXiv 1308.3432);
- ``hard_concrete`` (Louizos, Welling, Kingma 2018, arXiv 1712.01312): drawn at random, exactly 0 or
  1 with some probability, the middle of the draw when not training.

``lagrangian`` drives a share to what was asked (Wang, Wohlwend, Lei 2020, arXiv 1910.04732; CoFi,
Xia, Zhong, Chen 2022, arXiv 2204.00408; DPHuBERT, Peng et al. 2023, arXiv 2305.17651).
``genova`` is the loss of the masks' own paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

OPEN = {"straight-through": 1.0, "hard-concrete": 2.0}
"""Kind of gate -> its value to begin with; 2.0 as the logarithm of the odds opens 9 of 10."""
TEMPERATURE = 2.0 / 3.0  # beta, low and high: of Louizos et al., section 4.1
LOW, HIGH = -0.1, 1.1


def straight_through(gate: Tensor) -> Tensor:
    """Return 1 where a gate is over 0, else 0; its gradient is that of the gate itself."""
    return (gate > 0).to(gate.dtype) + (gate - gate.detach())


def hard_concrete(gate: Tensor, training: bool) -> Tensor:
    """Return a draw in [0, 1], or, when not training, its middle.

    Parameters
    ----------
    gate : Tensor
        Logarithm of the odds.
    training : bool
        Draw (from torch's generator).

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
    """Return the share to reach by a step: from 1 in a straight line to the target."""
    done = 1.0 if warmup <= 0 else min(1.0, step / warmup)
    return 1.0 + (target - 1.0) * done


def lagrangian(share: Tensor, target: float, multipliers: Tensor) -> Tensor:
    """Return the penalty l1 (s - t) + l2 (s - t)^2, which one optimizer solves for both sides.

    Parameters
    ----------
    share : Tensor ()
        What the gates leave of the cost.
    target : float
        What they should leave.
    multipliers : Tensor (2,)
        l1, l2. Their gradient is turned around, so that the optimizer that lowers the penalty by
        the gates raises it by the multipliers.

    """
    apart = share - target
    terms = torch.stack((apart, apart * apart))
    upward = multipliers * terms.detach()
    return (multipliers.detach() * terms).sum() - (upward - upward.detach()).sum()


def restart(multipliers: Tensor, apart: float) -> None:
    """Set l1 to zero, in place, where it still pushes a share away from its target.

    It grows while the gates are on their way, and would close far too many before it came down
    again (dual restarts; Gallego-Posada et al. 2022, arXiv 2208.04425).

    Parameters
    ----------
    multipliers : Tensor (2,)
    apart : float
        The share less its target.

    """
    with torch.no_grad():
        if float(multipliers[0]) * apart < 0:
            multipliers[0] = 0.0


def genova(gates: Sequence[Tensor], target: float) -> Tensor:
    """Return 100 (mean over groups of the mean of sigmoid(gate) - target)^2.

    Every group weighs the same, whatever it costs, so that the target is no share of any cost.
    """
    means = torch.stack([torch.sigmoid(gate).mean() for gate in gates])
    return 100.0 * (means.mean() - target) ** 2
