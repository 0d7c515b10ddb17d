"""The linear probe: logistic regression to the end, on training clips alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from measured_models import CPU, LABELS

from edgeprune.core.console import Silent
from edgeprune.data.windows import Windows
from edgeprune.depth_pruning.ablation import measure_subsets
from edgeprune.depth_pruning.evaluator import Evaluator
from edgeprune.depth_pruning.layer_stack import Stack
from edgeprune.depth_pruning.linear_probe import fit_probe, logistic_regression
from edgeprune.models import loading


def test_the_probe_is_logistic_regression_to_the_end() -> None:
    """The gradient of the decayed loss vanishes, on features of very different scales."""
    generator = np.random.default_rng(0)
    features = torch.from_numpy(generator.standard_normal((200, 5)) * [1e-3, 1, 50, 2, 1] + 7)
    targets = generator.integers(0, 3, 200)
    weight, bias = logistic_regression(features.float(), targets, 3)
    mean, spread = features.mean(0), features.std(0)
    x = (features - mean) / spread
    w = (weight.double() * spread).requires_grad_()
    b = (bias.double() + weight.double() @ mean).requires_grad_()
    loss = torch.nn.functional.cross_entropy(x @ w.T + b, torch.from_numpy(targets))
    (loss + 1e-3 * w.square().sum()).backward()  # type: ignore[no-untyped-call]
    assert w.grad is not None
    assert float(w.grad.abs().max()) < 1e-3


def test_a_probe_on_an_untrained_model_tells_tones_apart(
    model_folder: Path, windows: Windows
) -> None:
    stack = Stack(loading.load_model(str(model_folder)))
    stack.head = fit_probe(stack, windows, LABELS, CPU, Silent())
    right = measure_subsets(
        Evaluator(stack, windows.split("test"), LABELS, CPU, Silent()), [(0, 1, 2)]
    )
    assert right[0, 1, 2].mean() > 0.6
