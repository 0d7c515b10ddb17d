"""Masks on a model: units switched off in place, with the same result as trimming them.

The input of modules that use a group's coordinates is multiplied by the mask, and a LayerNorm over
them computes its statistics from those that are on. With a mask of zeros and ones, the outputs
equal those of the model trimmed to the ones; values in between are for learning masks (``gates``).

    with masks(model, groups, values):      # values: group -> Tensor (units,)
        logits_of(model, samples)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.width_pruning.units import Group, Slice

LEAST = 1e-6  # least sum of a norm's weights: sampled masks may all be 0
BEYOND = 1.01  # factor on the bound, because rounding must not reach it
Value = Callable[[], Tensor]
"""Returns a group's mask (units,) in [0, 1], in every forward pass."""


def attach(model: nn.Module, groups: Sequence[Group], values: Mapping[str, Value]) -> list[Any]:
    """Mask groups of a model.

    Parameters
    ----------
    model : nn.Module
        Model to mask.
    groups : sequence of Group
        Groups of this model's units.
    values : mapping
        Group -> function that returns its mask. Groups that are not listed are not masked.

    Returns
    -------
    list
        Handles for ``detach``.

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
    """Remove masks from a model."""
    for handle in handles:
        handle.remove()


@contextmanager
def masks(
    model: nn.Module, groups: Sequence[Group], values: Mapping[str, Tensor]
) -> Iterator[None]:
    """Mask groups of a model temporarily: group -> mask (units,)."""
    fixed = {name: (lambda value=value: value) for name, value in values.items()}
    handles = attach(model, groups, fixed)
    try:
        yield
    finally:
        detach(handles)


def masks_of(groups: Sequence[Group], keep: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Return masks of zeros and ones from the units to keep, for the groups that are listed."""
    found = {}
    for group in groups:
        if group.name in keep:
            found[group.name] = torch.zeros(group.units)
            found[group.name][list(keep[group.name])] = 1.0
    return found


def masked_norm(norm: nn.LayerNorm, states: Tensor, mask: Tensor) -> Tensor:
    """Normalize hidden states (..., n) over the coordinates that are on.

    Coordinates that are off are clamped to the greatest value that one that is on could have, the
    square root of their number: normalized by the spread of the others they would grow from norm to
    norm until they overflow.

    Parameters
    ----------
    norm : nn.LayerNorm
        Layer norm to apply.
    states : Tensor (..., n)
        Hidden states.
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
    """Return the hook that masks a slice, or None if none is needed."""
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
    """Return the axis of the coordinates in a module's input, counted from the last."""
    if isinstance(module, nn.Conv1d):
        return -2
    return -3 if isinstance(module, nn.Conv2d) else -1
