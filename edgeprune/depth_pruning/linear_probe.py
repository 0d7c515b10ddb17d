"""Linear probe: a head for a model whose own head does not know the labels.

Multinomial logistic regression on the last hidden state averaged over time, with the model frozen
(Alain and Bengio 2016, arXiv 1610.01644). Features are standardized, the weights regularized.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeprune.core.console import Ui
from edgeprune.data.windows import Windows
from edgeprune.depth_pruning.layer_stack import Stack, batches

DECAY = 1e-3  # weight of the squared weights, on standardized features
STEPS = 200


def fit_probe(
    stack: Stack, windows: Windows, labels: tuple[str, ...], device: torch.device, ui: Ui
) -> tuple[Tensor, Tensor]:
    """Fit a linear head on the training windows, which are read batch by batch.

    Returns
    -------
    weight : Tensor (labels, hidden)
    bias : Tensor (labels,)

    """
    train = windows.subset(windows.where("train"))
    pooled = []
    with torch.inference_mode():
        for batch in batches(train, device, ui, "linear probe"):
            pooled.append(stack.pooled(stack.states(stack.run_front_end(batch))[-1]).cpu())
    targets = train.targets(labels)
    weight, bias = logistic_regression(torch.cat(pooled), targets, len(labels))
    return weight.to(device), bias.to(device)


def logistic_regression(
    features: Tensor, targets: NDArray[np.int64], classes: int
) -> tuple[Tensor, Tensor]:
    """Fit multinomial logistic regression to convergence.

    Parameters
    ----------
    features : Tensor (n, hidden)
        Features.
    targets : array (n,)
        Class indices.
    classes : int
        Number of classes.

    Returns
    -------
    weight : Tensor (classes, hidden)
    bias : Tensor (classes,)

    """
    x = features.clone().double()
    mean, spread = x.mean(dim=0), x.std(dim=0).clamp_min(1e-8)
    x, y = (x - mean) / spread, torch.from_numpy(targets)
    weight = torch.zeros(classes, x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = nn.functional.cross_entropy(x @ weight.T + bias, y)
        value = value + DECAY * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    scaled = weight.detach() / spread
    return scaled.float(), (bias.detach() - scaled @ mean).float()
