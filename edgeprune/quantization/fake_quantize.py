"""Fake quantization: a model that computes in torch with the rounding of its int8 file.

Weights   symmetric int8 (or fewer bits), one scale per output channel
Inputs    8 bits, ``rows``: symmetric, one scale per frame (``per_token``; LiteRT's linear layers),
          or ``window``: from the least to the greatest value of a window (ONNX Runtime's dynamic
          int8)

A convolution over time is rounded as the products that ``strided_conv`` makes of it: its rows are
blocks of as many frames as its stride, and every block that its kernel covers has weights with
scales of their own. Gradients pass the rounding unchanged (straight-through estimator, Bengio et
al. 2013, arXiv 1308.3432; Jacob et al. 2018, arXiv 1712.05877), so the model can be trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeprune.quantization.per_token import TINY
from edgeprune_device.errors import EdgepruneError

ACTIVATIONS = ("rows", "window")
ACTIVATION_LEVELS = 127  # of a row, on either side of zero
WINDOW_STEPS = 255  # of a window, from its least value to its greatest
FEWEST_BITS, MOST_BITS = 2, 8
OWN_ATTENTION = "gru_rel_pos_const"
"""Attribute of WavLM's attention, which uses its layers' weights directly and never calls them."""


@contextmanager
def fake_int8(
    model: nn.Module, modules: Sequence[str], activations: str = "rows", bits: int = 8
) -> Iterator[None]:
    """Round the weights and inputs of some layers inside the context.

    The weights are kept in float and can be trained; names of parameters do not change. On exit,
    also by an exception, the model computes as before.

    Parameters
    ----------
    model : nn.Module
        Model.
    modules : sequence of str
        Layers (``nn.Linear`` or ``nn.Conv1d``), or modules with all layers inside; ``""`` is the
        whole model.
    activations : str
        ``rows`` or ``window``.
    bits : int
        Bits of the weights, 2 to 8; inputs have 8.

    Raises
    ------
    EdgepruneError
        The rounding is not known, a module does not exist or contains no such layer, or its layers
        are never called.

    """
    check_rounding(activations, bits)
    layers = [model.get_submodule(name) for name in layers_in(model, modules)]
    found = [(layer, layer.__dict__.get("forward")) for layer in layers]
    try:
        for layer in layers:
            kind = _linear_forward if isinstance(layer, nn.Linear) else _conv_forward
            # bound to its layer, so that a deep copy computes with the copy's weights
            layer.__dict__["forward"] = MethodType(_rounded(kind, activations, bits), layer)
        yield
    finally:
        for layer, before in found:
            layer.__dict__.pop("forward", None)
            if before is not None:
                layer.__dict__["forward"] = before


def layers_in(model: nn.Module, modules: Sequence[str]) -> list[str]:
    """Return the linear layers and convolutions over time in some modules, in the model's order.

    Raises
    ------
    EdgepruneError
        A module does not exist, contains no such layer, or one of its layers is never called.

    """
    there = dict(model.named_modules())
    chosen: set[str] = set()
    for name in modules:
        inside = [path for path, part in there.items() if _is_layer(part)
                  and (not name or path == name or path.startswith(f"{name}."))]  # fmt: skip
        if not inside:
            raise EdgepruneError(
                f"The model has no linear layer or convolution over time at {name!r}.",
                "Use a name from model.named_modules().",
            )
        for path in inside:
            owner = there[path.rpartition(".")[0]]
            if hasattr(owner, OWN_ATTENTION):
                raise EdgepruneError(
                    f"{type(owner).__name__} never calls its layer {path}, so its inputs cannot "
                    "be rounded.", "Exclude the attention of this model.",
                )  # fmt: skip
        chosen.update(inside)
    return [path for path in there if path in chosen]


def round_weight(weight: Tensor, bits: int = 8) -> Tensor:
    """Round a weight to integer multiples of one scale per index of its first dimension.

    Parameters
    ----------
    weight : Tensor (out channels, ...)
        Weight.
    bits : int
        8: -127 to 127 times the scale; 4: -7 to 7.

    """
    levels = 2 ** (bits - 1) - 1
    largest = weight.detach().abs().amax(dim=tuple(range(1, weight.dim())), keepdim=True)
    scale = torch.where(largest > 0, largest / levels, torch.ones_like(largest))
    return _straight(weight, (weight.detach() / scale).round().clamp(-levels, levels) * scale)


def round_rows(rows: Tensor) -> Tensor:
    """Round (..., columns) to 127 levels on either side of zero, with one scale per row."""
    given = rows.detach()
    scale = given.abs().amax(dim=-1, keepdim=True).clamp(min=TINY)
    return _straight(rows, (given / scale * ACTIVATION_LEVELS).round() * scale / ACTIVATION_LEVELS)


def round_window(values: Tensor) -> Tensor:
    """Round (batch, ...) to 256 levels from each window's least to greatest value; 0 is exact."""
    given = values.detach()
    every = tuple(range(1, given.dim()))
    least = given.amin(dim=every, keepdim=True).clamp(max=0)
    most = given.amax(dim=every, keepdim=True).clamp(min=0)
    step = ((most - least) / WINDOW_STEPS).clamp(min=torch.finfo(given.dtype).tiny)
    zero = (-least / step).round()
    whole = ((given / step).round() + zero).clamp(0, WINDOW_STEPS)
    return _straight(values, (whole - zero) * step)


def _rounded(kind: Callable[..., Tensor], activations: str, bits: int) -> Callable[..., Tensor]:
    def forward(layer: Any, hidden: Tensor) -> Tensor:
        return kind(layer, hidden, activations, bits)

    return forward


def _linear_forward(layer: Any, hidden: Tensor, activations: str, bits: int) -> Tensor:
    heard = round_rows(hidden) if activations == "rows" else round_window(hidden)
    return functional.linear(heard, round_weight(layer.weight, bits), layer.bias)


def _conv_forward(layer: Any, hidden: Tensor, activations: str, bits: int) -> Tensor:
    if (layer.padding, layer.dilation, layer.groups) == ((0,), (1,), 1):
        return _strided_forward(layer, hidden, activations, bits)
    turned = hidden.transpose(1, 2)
    heard = round_rows(turned) if activations == "rows" else round_window(turned)
    out: Tensor = layer._conv_forward(
        heard.transpose(1, 2), round_weight(layer.weight, bits), layer.bias
    )
    return out


def _strided_forward(layer: Any, hidden: Tensor, activations: str, bits: int) -> Tensor:
    """Compute the same as ``strided_conv.StridedConv``; each product uses a slice of the blocks."""
    (kernel,), (stride,) = layer.kernel_size, layer.stride
    batch, channels, time = hidden.shape
    frames = (time - kernel) // stride + 1
    count = frames + math.ceil(kernel / stride) - 1
    padded = functional.pad(hidden.transpose(1, 2), (0, 0, 0, max(0, count * stride - time)))
    rows = padded[:, : count * stride].reshape(batch, count, stride * channels)
    rounded = round_rows(rows) if activations == "rows" else round_window(rows)
    out = torch.zeros((), device=hidden.device, dtype=hidden.dtype)
    for number, part in enumerate(layer.weight.split(stride, dim=2)):
        where = slice(number, number + frames), slice(part.shape[2] * channels)
        heard = rounded[:, *where]
        if number and activations == "window":  # each product's input has a range of its own
            heard = round_window(rows[:, *where])
        weight = round_weight(part, bits).permute(0, 2, 1).reshape(len(part), -1)
        out = out + functional.linear(heard, weight, layer.bias if number == 0 else None)
    return out.transpose(1, 2)


def _straight(values: Tensor, rounded: Tensor) -> Tensor:
    """Return the rounded values with the gradient of the values (straight-through)."""
    return values + (rounded - values).detach() if values.requires_grad else rounded


def _is_layer(part: nn.Module) -> bool:
    return isinstance(part, nn.Linear | nn.Conv1d)


def check_rounding(activations: str, bits: int = MOST_BITS) -> None:
    """Raise if a rounding is not known (see ``fake_int8``)."""
    if activations not in ACTIVATIONS:
        raise EdgepruneError(
            f"activations = {activations!r} is not known.",
            f"Known: {', '.join(ACTIVATIONS)}.",
        )
    if not FEWEST_BITS <= bits <= MOST_BITS:
        raise EdgepruneError(
            f"bits = {bits} is out of range.", f"Allowed: {FEWEST_BITS} to {MOST_BITS}."
        )
