"""Masks on a model: units switched off in place, exactly as if they were trimmed.

What reads a group's coordinates has its input multiplied by the mask, and a LayerNorm over them
takes its statistics from those that are on. With a mask of zeros and ones the model's answer is
that of the model trimmed to the ones; masks in between are for learning them (``gates``).

    with masks(model, groups, values):      # values: group's name -> Tensor (units,)
        logits_of(model, samples)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.width_pruning.units import Group, Slice

LEAST = 1e-6  # of a norm's weights: drawn masks may all be 0
BEYOND = 1.01  # of the bound: rounding must not reach it
Value = Callable[[], Tensor]
"""Gives a group's mask (units,) in [0, 1], at every forward pass."""


def attach(model: nn.Module, groups: Sequence[Group], values: Mapping[str, Value]) -> list[Any]:
    """Mask groups of a model from now on.

    Parameters
    ----------
    model : nn.Module
    groups : sequence of Group
        Of this model, as it is.
    values : mapping
        Group's name -> what gives its mask. Groups that are not named are not masked.

    Returns
    -------
    list
        Handles; ``detach`` takes them off again.

    """
    handles = []
    for group in groups:
        if group.name not in values:
            continue
        for part in group.slices:
            if part.role == "param":
                continue
            module = model.get_submodule(part.path)
            hook = _hook(module, part, values[group.name])
            if hook is not None:
                before = part.role in ("in", "grouped", "depthwise")
                register = (
                    module.register_forward_pre_hook if before else module.register_forward_hook
                )
                handles.append(register(hook))
    return handles


def detach(handles: Sequence[Any]) -> None:
    """Take masks off a model."""
    for handle in handles:
        handle.remove()


@contextmanager
def masks(
    model: nn.Module, groups: Sequence[Group], values: Mapping[str, Tensor]
) -> Iterator[None]:
    """Mask groups of a model for a while: group's name -> mask (units,)."""
    fixed = {name: (lambda value=value: value) for name, value in values.items()}
    handles = attach(model, groups, fixed)
    try:
        yield
    finally:
        detach(handles)


def masks_of(groups: Sequence[Group], keep: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Return masks of zeros and ones from the units to keep, for the groups that are named."""
    found = {}
    for group in groups:
        if group.name in keep:
            found[group.name] = torch.zeros(group.units)
            found[group.name][list(keep[group.name])] = 1.0
    return found


def masked_norm(norm: nn.LayerNorm, states: Tensor, mask: Tensor) -> Tensor:
    """Normalise states (..., n) over the coordinates that are on.

    Those that are off are held within what one that is on could reach, the root of their number:
    measured by the others' spread they would grow from norm to norm, beyond what a float holds.

    Parameters
    ----------
    norm : nn.LayerNorm
    states : Tensor (..., n)
    mask : Tensor (n,)
        Weights of the coordinates in mean and variance.

    """
    total = mask.sum().clamp_min(LEAST)
    mean = (states * mask).sum(-1, keepdim=True) / total
    centred = states - mean
    variance = (centred * centred * mask).sum(-1, keepdim=True) / total
    most = BEYOND * total.detach().sqrt()
    normed = (centred * torch.rsqrt(variance + norm.eps)).clamp(-most, most)
    if norm.weight is not None:
        normed = normed * norm.weight
    return normed if norm.bias is None else normed + norm.bias


def _hook(module: nn.Module, part: Slice, value: Value) -> Any:
    """Return what masks a place, or nothing where nothing need be done."""
    index = torch.from_numpy(part.index)
    places: dict[torch.device, Tensor] = {}

    def spread(states: Tensor) -> Tensor:
        device = states.device
        if device not in places:
            places[device] = index.to(device)
        return value().to(device)[places[device]]

    if part.role in ("in", "grouped", "depthwise"):
        axis = _axis(module)

        def before(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            mask = spread(args[0])
            return (args[0] * mask.reshape(-1, *[1] * (-axis - 1)), *args[1:])

        return before
    if part.role == "gated":

        def gate(_: nn.Module, __: Any, out: Tensor) -> Tensor:
            return out * spread(out)

        return gate
    if part.role == "norm" and isinstance(module, nn.LayerNorm):

        def norm(layer: nn.Module, args: tuple[Tensor, ...], _: Tensor) -> Tensor:
            assert isinstance(layer, nn.LayerNorm)
            return masked_norm(layer, args[0], spread(args[0]))

        return norm
    return None


def _axis(module: nn.Module) -> int:
    """Return the axis of the coordinates in what a module reads, counted from the last."""
    if isinstance(module, nn.Conv1d):
        return -2
    return -3 if isinstance(module, nn.Conv2d) else -1
