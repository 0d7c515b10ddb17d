"""Linear bridges over removed layers: ridge regressions in closed form, without training.

If layers i to j - 1 are removed, the layer after them gets hidden state i instead of j. A bridge is
the ridge regression of hidden state j on hidden state i over the frames of calibration clips,
regularized towards the identity: W minimizes |X W + b - Y|^2 + r |W - I|^2. It has hidden^2
weights, about a twelfth of a transformer block; ``models.bridges`` puts it into a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from edgeprune.core.console import Ui
from edgeprune.data.windows import Windows
from edgeprune.depth_pruning.layer_stack import Bridges, LayerSubset, Stack, batches

RIDGE = 1e-3  # as a share of the mean variance of the inputs


def fit_bridges(
    stack: Stack, windows: Windows, device: torch.device, ui: Ui
) -> dict[tuple[int, int], tuple[Tensor, Tensor]]:
    """Fit a bridge for every span of layers that does not contain layer 0.

    Parameters
    ----------
    stack : Stack
        The whole model.
    windows : Windows
        Calibration clips: training clips, so that they are in no measurement.

    Returns
    -------
    dict
        (i, j) -> weight (hidden, hidden) and bias (hidden,), 1 <= i < j <= layers.

    """
    size = len(stack) + 1
    moments: dict[tuple[int, int], Tensor] = {}
    offsets: list[Tensor] = []  # near the means, to reduce cancellation in single precision
    with torch.inference_mode():
        for batch in batches(windows, device, ui, "bridges"):
            states = stack.states(stack.run_front_end(batch))
            offsets = offsets or [state.mean(dim=(0, 1)) for state in states]
            frames = [_weighted(state - offset, stack.family.class_tokens)
                      for state, offset in zip(states, offsets, strict=True)]  # fmt: skip
            for i in range(1, size):
                for j in range(i, size):
                    found = (frames[i].T @ frames[j]).cpu().double()
                    moments[i, j] = moments[i, j] + found if (i, j) in moments else found
    return {(i, j): _solve(moments[i, i], moments[i, j], offsets[i], offsets[j])
            for i in range(1, size) for j in range(i + 1, size)}  # fmt: skip


def _weighted(state: Tensor, class_tokens: int) -> Tensor:
    """Flatten (batch, tokens, hidden) to rows with a 1 appended, with more weight on class tokens.

    Together, class tokens weigh as much as the frames: they are one token in a hundred, but a head
    may use them alone.
    """
    rows = torch.cat([state, torch.ones_like(state[..., :1])], dim=-1)
    if class_tokens:
        weight = torch.ones(state.shape[1], device=state.device)
        weight[:class_tokens] = (state.shape[1] - class_tokens) / class_tokens
        rows = rows * weight.sqrt()[:, None]
    return rows.flatten(0, 1)


def _solve(xx: Tensor, xy: Tensor, from_: Tensor, to: Tensor) -> tuple[Tensor, Tensor]:
    """Solve the regression from second moments about the offsets.

    Parameters
    ----------
    xx, xy : Tensor (hidden + 1, hidden + 1)
        Weighted sums of products; the last row and column are sums.
    from_, to : Tensor (hidden,)
        Offsets.

    Returns
    -------
    weight : Tensor (hidden, hidden)
    bias : Tensor (hidden,)

    """
    total = xx[-1, -1]
    mean_x, mean_y = xx[-1, :-1] / total, xy[-1, :-1] / total
    cov_xx = xx[:-1, :-1] / total - torch.outer(mean_x, mean_x)
    cov_xy = xy[:-1, :-1] / total - torch.outer(mean_x, mean_y)
    ridge = RIDGE * cov_xx.diagonal().mean() * torch.eye(len(cov_xx), dtype=torch.float64)
    weight = torch.linalg.solve(cov_xx + ridge, cov_xy + ridge)
    bias = (mean_y + to.cpu().double()) - (mean_x + from_.cpu().double()) @ weight
    device = from_.device
    return weight.T.float().contiguous().to(device), bias.float().to(device)


def removed_spans(keep: Sequence[int], layers: int) -> list[tuple[int, int]]:
    """Return the spans (i, j) of removed layers i to j - 1, in order."""
    ends = [-1, *keep, layers]
    return [(a + 1, b) for a, b in pairwise(ends) if b > a + 1]


def used_bridges(
    bridges: Bridges, keep: LayerSubset, layers: int
) -> dict[int, tuple[Tensor, Tensor]]:
    """Return the bridges of a layer subset, by the index (among the kept) of the block before."""
    return {
        keep.index(i - 1): bridges[i, j]
        for i, j in removed_spans(keep, layers)
        if (i, j) in bridges
    }
