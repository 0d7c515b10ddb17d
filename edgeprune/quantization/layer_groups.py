"""Parts of a model that are quantized to int8 or kept in float as a whole.

convolution 0 ...       each convolution of a waveform encoder
front end               everything else before the blocks: projections, embeddings
positional convolution
block 0 attention, block 0 feed-forward ...
head                    everything after the backbone

``deployed`` rounds them as the ONNX file does: one scale per window, and for the encoder's
convolutions one per frame if requested. The file's first convolution stays in float, and here also
the positional one: the file quantizes it if it has 16 taps or more (``grouped_conv``), with a
negligible effect.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from edgeprune.models.families import blocks_of, family_of
from edgeprune.nn.strided_conv import fits
from edgeprune.quantization.fake_quantize import OWN_ATTENTION, fake_int8, layers_in
from edgeprune_device.errors import EdgepruneError

CONVOLUTION, POSITIONS, FRONT_END, HEAD = (
    "convolution", "positional convolution", "front end", "head",
)  # fmt: skip
ATTENTION, FEED_FORWARD = "attention", "feed-forward"


@dataclass(frozen=True)
class LayerGroup:
    """Layers that are quantized to int8, or kept in float, together."""

    name: str
    kind: str
    layers: tuple[str, ...]
    """Paths of its linear layers and convolutions in the model."""
    scopes: tuple[str, ...]
    """The same as names of the ONNX file's nodes; empty: always float in the file."""


def layer_groups_of(model: Any) -> list[LayerGroup]:
    """Return the units of a model of a known family, in the order of the model's modules.

    Attention that never calls its layers (WavLM's) has no unit: ``fake_int8`` cannot round it.

    Raises
    ------
    EdgepruneError
        The model has no linear layer and no convolution over time.

    """
    there = dict(model.named_modules())
    names = {id(part): path for path, part in there.items()}
    blocks = [names[id(block)] for block in blocks_of(model)]
    base = model.base_model_prefix if model.base_model is not model else ""
    groups: dict[tuple[str, str], list[str]] = {}
    for path in _callable_layers(model, there):
        groups.setdefault(_place(model, path, blocks, base), []).append(path)
    if not groups:
        raise EdgepruneError(
            f"A {model.config.model_type} model has no linear layer or convolution over time that "
            "could be int8.", "Its weights can be stored in 8 bits (quantize.method = 'weights').",
        )  # fmt: skip
    return [
        LayerGroup(name, kind, tuple(layers), _scopes(model, kind, layers, there))
        for (name, kind), layers in groups.items()
    ]


@contextmanager
def deployed(
    model: Any, units: Sequence[LayerGroup], activations: str, bits: int = 8
) -> Iterator[None]:
    """Round some units of a model inside the context, as in a file from ``dynamic_onnx``.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Model.
    units : sequence of LayerGroup
        Units to round.
    activations : str
        Scales of the encoder's convolutions: ``rows`` or ``window``. Others have one per window.
    bits : int
        Bits of the weights.

    """
    convs = [path for unit in units if unit.kind == CONVOLUTION for path in unit.layers]
    rest = [path for unit in units if unit.kind != CONVOLUTION for path in unit.layers]
    with ExitStack() as stack:
        stack.enter_context(fake_int8(model, convs, activations, bits))
        stack.enter_context(fake_int8(model, rest, "window", bits))
        yield


def scope_of(path: str) -> str:
    """Convert a module's path to the form in node names, with a dot before a list's index."""
    return re.sub(r"/(\d+)", r".\1", path.replace(".", "/"))


def _callable_layers(model: Any, there: dict[str, nn.Module]) -> list[str]:
    """Return the layers that can be rounded."""
    kinds = (nn.Linear, nn.Conv1d)
    found = [path for path, part in there.items() if isinstance(part, kinds)
             and not hasattr(there[path.rpartition(".")[0]], OWN_ATTENTION)]  # fmt: skip
    return layers_in(model, found)


def _place(model: Any, path: str, blocks: Sequence[str], base: str) -> tuple[str, str]:
    """Return the name and kind of the unit that a layer belongs to."""
    family = family_of(model.config.model_type)
    for number, block in enumerate(blocks):
        if path.startswith(f"{block}."):
            inside = path[len(block) :].split(".")
            kind = ATTENTION if any("att" in part for part in inside) else FEED_FORWARD
            return f"block {number} {kind}", kind
    within = path.removeprefix(f"{base}.") if base else path
    if base and within == path:
        return HEAD, HEAD
    if family.frozen and within.startswith(f"{family.frozen}.") and isinstance(
        model.get_submodule(path), nn.Conv1d
    ):  # fmt: skip
        which = next(part for part in within.split(".") if part.isdigit())
        return f"{CONVOLUTION} {which}", CONVOLUTION
    if family.positions and within.startswith(f"{family.positions}."):
        return POSITIONS, POSITIONS
    return FRONT_END, FRONT_END


def _scopes(
    model: Any, kind: str, layers: Sequence[str], there: dict[str, nn.Module]
) -> tuple[str, ...]:  # fmt: skip
    """Return a unit's scopes in the exported file, after ``export.model_rewrites``."""
    family = family_of(model.config.model_type)
    if kind == CONVOLUTION:
        number = next(int(part) for part in layers[0].split(".") if part.isdigit())
        if number == 0 or not fits(model.base_model.get_submodule(family.frozen)):
            return ()
        return (f"{family.frozen}/convs.{number - 1}",)
    if any(isinstance(there[path], nn.Conv1d) for path in layers):
        layers = [path for path in layers if isinstance(there[path], nn.Linear)]
    fused = ("q_proj", "k_proj", "v_proj", "out_proj")
    parents = [path.rpartition(".")[0] if path.endswith(fused) else path for path in layers]
    return tuple(dict.fromkeys(scope_of(path) for path in parents))
