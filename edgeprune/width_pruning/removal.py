"""Removing units from a model: rows and columns of weights, and the attributes that count them.

The result computes the same as the whole model with the other units masked (``masking``), and is
saved and reloaded as described in ``models.serialization``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from edgeprune.width_pruning.units import Group, Slice, groups_of, make_trimmable
from edgeprune_device.errors import EdgepruneError

SIZES: dict[type[nn.Module], dict[str, tuple[str, ...]]] = {
    nn.Linear: {"in": ("in_features",), "out": ("out_features",)},
    nn.modules.conv._ConvNd: {
        "in": ("in_channels",), "out": ("out_channels",),
        "grouped": ("in_channels", "out_channels"),
        "depthwise": ("in_channels", "out_channels", "groups"),
    },
    nn.GroupNorm: {"norm": ("num_groups", "num_channels")},
    nn.modules.batchnorm._BatchNorm: {"norm": ("num_features",)},
    nn.LSTM: {"in": ("input_size",)},
    nn.Embedding: {"out": ("embedding_dim",)},
}  # fmt: skip
"""Kind of module -> role -> attributes with its number of coordinates."""
ROWS_OF = {"out": ("weight", "bias"), "gated": ("weight", "bias"),
           "norm": ("weight", "bias", "running_mean", "running_var"),
           "depthwise": ("weight", "bias")}  # fmt: skip
"""Role -> tensors whose first dimension shrinks."""


def trim_to(model: Any, keep: Mapping[str, Sequence[int]]) -> None:
    """Trim a model to some units of its groups, in place.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Classifier of a known family.
    keep : mapping
        Name of a group (``units.groups_of``) -> units to keep, counted from 0, ascending. Groups
        that are not listed keep all units.

    Raises
    ------
    EdgepruneError
        There is no such group or unit, or no unit is kept.

    """
    make_trimmable(model)
    groups = {group.name: group for group in groups_of(model)}
    for name, units in keep.items():
        if name not in groups:
            raise EdgepruneError(
                f"The model has no group of units {name!r}.",
                f"Known: {', '.join(groups)}.",
            )
        known = groups[name].units
        if not units or list(units) != sorted(set(units)) or units[0] < 0 or units[-1] >= known:
            raise EdgepruneError(
                f"Units {list(units)[:8]} of {name} cannot be kept: it has {known} units.",
                f"Give at least one, in ascending order, from 0 to {known - 1}.",
            )
    for name, units in keep.items():
        _trim(model, groups[name], units)


def _trim(model: Any, group: Group, units: Sequence[int]) -> None:
    """Trim one group; the places of other groups are other dimensions."""
    kept = torch.zeros(group.units, dtype=torch.bool)
    kept[list(units)] = True
    for part in group.slices:
        chosen = kept[torch.from_numpy(part.index)].nonzero()[:, 0]
        if part.role == "param":
            path, _, leaf = part.path.rpartition(".")
            _shrink(model.get_submodule(path), leaf, part.dim, chosen)
        else:
            _trim_module(model.get_submodule(part.path), part, chosen)
    for path, each in group.counts:
        owner, _, name = path.partition(":")
        setattr(model.get_submodule(owner), name, len(units) * each)


def _trim_module(module: nn.Module, part: Slice, chosen: Tensor) -> None:
    """Trim one module in one role to the chosen coordinates."""
    if part.role == "grouped":
        _trim_grouped(module, chosen)
    elif part.role == "in" and isinstance(module, nn.LSTM):
        for name, _ in list(module.named_parameters()):
            if name.startswith("weight_ih_l0"):
                _shrink(module, name, 1, chosen)
        module.flatten_parameters()
    elif part.role == "in" or isinstance(module, nn.Embedding):
        _shrink(module, "weight", 1, chosen)
    else:
        for name in ROWS_OF[part.role]:
            if getattr(module, name, None) is not None:
                _shrink(module, name, 0, chosen)
    if isinstance(module, nn.LayerNorm):
        module.normalized_shape = (len(chosen),)
    for kind, sizes in SIZES.items():
        if isinstance(module, kind):
            for name in sizes.get("out" if part.role == "gated" else part.role, ()):
                setattr(module, name, len(chosen))


def _trim_grouped(module: Any, chosen: Tensor) -> None:
    """Trim a grouped convolution: every group keeps the same of its coordinates.

    With weight norm (Salimans and Kingma 2016, arXiv 1602.07868), the resulting weight is trimmed,
    because the norm covers removed coordinates, too.
    """
    inside = module.in_channels // module.groups
    within = chosen[chosen < inside]
    weight = module.weight.detach()[chosen][:, within]
    if is_parametrized(module, "weight"):
        norm = module.parametrizations.weight
        dim = norm[0].dim
        _replace(norm, "original0", torch.norm_except_dim(weight, 2, dim))
        _replace(norm, "original1", weight)
    else:
        _replace(module, "weight", weight)
    if module.bias is not None:
        _shrink(module, "bias", 0, chosen)
    module.in_channels = module.out_channels = len(chosen)


def _shrink(owner: nn.Module, name: str, dim: int, chosen: Tensor) -> None:
    """Keep some coordinates of a tensor's dimension."""
    tensor = getattr(owner, name)
    _replace(owner, name, tensor.detach().index_select(dim, chosen.to(tensor.device)))


def _replace(owner: nn.Module, name: str, value: Tensor) -> None:
    """Replace a parameter or buffer."""
    old = getattr(owner, name)
    value = value.clone().contiguous()
    if isinstance(old, nn.Parameter):
        owner._parameters[name] = nn.Parameter(value, requires_grad=old.requires_grad)
    else:
        owner._buffers[name] = value
