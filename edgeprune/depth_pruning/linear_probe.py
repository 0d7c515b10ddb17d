"""Linear probe: a head for a model whose own head does not know the labels.

Logistic regression on the last hidden state averaged over time, with the model frozen (Alain and
Bengio 2016, arXiv 1610.01644), see ``training.logistic_regression``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgeprune.core.console import Ui
from edgeprune.data.tasks import task_of
from edgeprune.data.windows import Windows
from edgeprune.depth_pruning.layer_stack import Stack, batches
from edgeprune.training.logistic_regression import fit_linear_head


def fit_probe(
    stack: Stack, windows: Windows, labels: tuple[str, ...], device: torch.device, ui: Ui
) -> tuple[Tensor, Tensor]:
    """Fit a linear head on the training windows; its penalty is chosen on the validation windows.

    Returns
    -------
    weight : Tensor (labels, hidden)
    bias : Tensor (labels,)

    """
    given = {}
    for split in ("train", "valid"):
        part = windows.subset(windows.where(split))
        pooled = []
        with torch.inference_mode():
            for batch in batches(part, device, ui, f"linear probe, {split} clips"):
                pooled.append(stack.pooled(stack.states(stack.run_front_end(batch))[-1]).cpu())
        given[split] = (torch.cat(pooled).clone(), task_of(part.task).targets(part, labels))
    head = fit_linear_head(given["train"], given["valid"], len(labels))
    return head.weight.to(device), head.bias.to(device)
