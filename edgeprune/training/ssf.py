"""Scaling and shifting the features of a frozen model (SSF), a baseline for learned masks.

Lian, Zhou, Feng, Wang 2022, "Scaling & Shifting Your Features", arXiv 2210.08823: one factor and
one offset per channel are trained after every linear layer, convolution and norm; apart from them,
only the head is trained. Both can be merged into the layer before them, as ``s (W x + b) + t =
(s W) x + (s b + t)``, so they are trained as a parametrization of its weights and folded in at the
end: shape and cost of the model do not change. A layer without bias gets the factor only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from edgeprune.models.families import family_of
from edgeprune.models.loading import head_parameters

KINDS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
)
LEARNING_RATE = 1e-3  # the factors start at 1, which tolerates the usual rate for new weights


class Scaled(nn.Module):
    """A weight with a factor per output channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight (channels, ...) as it is used."""
        return weight * self.scale.view(-1, *[1] * (weight.dim() - 1))


class Shifted(nn.Module):
    """A bias, times the weight's factors, plus an offset."""

    def __init__(self, scaled: Scaled) -> None:
        super().__init__()
        self.scaled = scaled
        self.shift = nn.Parameter(torch.zeros(len(scaled.scale)))

    def forward(self, bias: Tensor) -> Tensor:
        """Return the effective bias (channels,)."""
        return bias * self.scaled.scale + self.shift


def attach(model: Any) -> list[str]:
    """Freeze a model except for its head, and add factors and offsets to its layers, in place.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Model with a head. The front end that fine-tuning freezes gets none.

    Returns
    -------
    list of str
        Names of the layers that have them now.

    """
    head = {id(p) for p in head_parameters(model)}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in head)
    chosen = dict(_layers(model, head))
    for layer in chosen.values():
        scaled = Scaled(len(layer.weight))
        parametrize.register_parametrization(layer, "weight", scaled)
        if getattr(layer, "bias", None) is not None:
            parametrize.register_parametrization(layer, "bias", Shifted(scaled))
    return list(chosen)


def fold(model: Any) -> None:
    """Fold the factors and offsets into the weights, in place; all can be trained again."""
    for module in list(model.modules()):
        for name in ("bias", "weight"):  # the bias uses the weight's factors
            if parametrize.is_parametrized(module, name):
                _fold_one(module, name)
    model.requires_grad_(True)


def _fold_one(module: Any, name: str) -> None:
    """Replace the parametrization of a parameter by its current value."""
    chain = module.parametrizations[name]
    if not isinstance(chain[-1], Scaled | Shifted):
        return
    with torch.no_grad():
        value = getattr(module, name).detach().clone()
        if len(chain) > 1:  # a weight norm from before stays
            del chain[len(chain) - 1]
            setattr(module, name, value)
        else:
            parametrize.remove_parametrizations(module, name, leave_parametrized=True)


def _layers(model: Any, head: set[int]) -> Iterator[tuple[str, Any]]:
    """Yield the layers of the encoder that have channels, without head and front end."""
    frozen = family_of(model.config.model_type).frozen
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    for name, module in model.named_modules():
        fixed = name.startswith(("frontend", f"{prefix}frontend"))
        fixed = fixed or bool(frozen and name.startswith(f"{prefix}{frozen}"))
        weight = getattr(module, "weight", None) if isinstance(module, KINDS) else None
        if weight is not None and not fixed and not any(id(p) in head for p in module.parameters()):
            yield name, module
