"""How much the logits depend on a module's outputs: the weights of their errors.

For random directions v of the logits, the mean of (d v'z / dy)^2 over calibration clips: the
diagonal of the Gauss-Newton matrix of a squared error on the logits, without labels. Of an output
of shape (..., tokens, width) it is kept as one weight per token and one per coordinate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.models import loading

DIRECTIONS = 4
LEAST_TOKEN_WEIGHT = 0.01
"""Of the mean weight: no token is ignored altogether."""


@dataclass(frozen=True)
class LogitSensitivity:
    """Weights of the squared errors of a module's outputs."""

    tokens: Tensor
    """(tokens,): mean 1."""
    outputs: Tensor
    """(width,): expected squared change of a logit per squared error of the coordinate."""


def sensitivities(
    model: Any, modules: Mapping[str, nn.Module], batches: Iterable[Tensor], seed: int
) -> dict[str, LogitSensitivity]:
    """Return the sensitivity of a model's logits to the outputs of some of its modules.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Model in evaluation mode; its gradients are left as they are.
    modules : mapping
        Name -> module whose output is a Tensor (..., tokens, width) or (batch, width).
    batches : iterable of Tensor
        Windows (batch, samples).
    seed : int
        Random seed of the directions.

    Returns
    -------
    dict
        Name -> LogitSensitivity.

    """
    generator = torch.Generator().manual_seed(seed)
    sums: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}
    windows = 0

    def hook(name: str) -> Any:
        def keep(_: nn.Module, __: Any, out: Tensor) -> Tensor:
            outputs[name] = out if out.requires_grad else out.requires_grad_()
            return outputs[name]

        return keep

    hooks = [module.register_forward_hook(hook(name)) for name, module in modules.items()]
    model.eval()
    try:
        for samples in batches:
            outputs.clear()
            with torch.enable_grad():
                logits = loading.logits_of(model, samples)
                for number in range(DIRECTIONS):
                    direction = torch.randn(logits.shape, generator=generator).to(logits)
                    slopes = torch.autograd.grad(
                        (logits * direction).sum(), list(outputs.values()),
                        retain_graph=number < DIRECTIONS - 1,
                    )  # fmt: skip
                    for name, slope in zip(outputs, slopes, strict=True):
                        tokens = slope.shape[-2] if slope.dim() > 2 else 1
                        square = slope.detach().double().square()
                        square = square.reshape(-1, tokens, slope.shape[-1]).sum(dim=0).cpu()
                        sums[name] = sums[name] + square if name in sums else square
            windows += len(samples)
    finally:
        for handle in hooks:
            handle.remove()
    return {name: _split(square / (DIRECTIONS * windows)) for name, square in sums.items()}


def _split(square: Tensor) -> LogitSensitivity:
    """Split (tokens, width) into a weight per token and one per coordinate."""
    tokens = square.sum(dim=1)
    tokens = tokens / tokens.mean().clamp_min(torch.finfo(torch.float64).tiny)
    tokens = tokens.clamp_min(LEAST_TOKEN_WEIGHT)
    return LogitSensitivity(tokens / tokens.mean(), square.sum(dim=0))
