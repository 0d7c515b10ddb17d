"""What of each model family can be trimmed: one literal table of its *units*.

A unit is what goes or stays as one: an attention head, a column of a feed-forward layer, a channel
of a convolution, a coordinate of the hidden state. A group is units that stand beside each other
(the heads of block 3), with every place in the model that holds a coordinate of theirs. A row of
the table describes such a group, or one for every block:

    #, &    a number: one group for each that the first place is found under; #+1 is the next one
    *       every number: all of these places belong to the one group
    ?       the place may be missing (not every model of the family has it)
    last    only in the last group of the row
    /       from the model; else from its ``base_model``

A place is a role and a path:

    out      the module makes these coordinates: rows of its weight, and its bias
    in       the module reads them: columns of its weight; its input is what a mask multiplies
    gated    as ``out``, where what reads them is no module: its output is what a mask multiplies
    norm     the module normalises over them, or each by itself
    grouped  a grouped convolution reads and makes them: a unit is one coordinate of every group
    depthwise  a convolution of each coordinate by itself
    param N  a tensor whose dimension N they are
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from edgeprune import surgery

HEADS, FEED_FORWARD, CHANNELS, HIDDEN = "heads", "feed-forward", "channels", "hidden"
KINDS = (HEADS, FEED_FORWARD, CHANNELS, HIDDEN)


@dataclass(frozen=True)
class Row:
    """A line of the table: a group, or one for every block."""

    name: str
    kind: str
    places: tuple[str, ...]
    heads: str = ""
    """Attribute "path:name" that counts the units, where a unit is several neighbouring rows."""
    widths: tuple[str, ...] = ()
    """Attributes "path:name" that count the coordinates of the first place."""
    single: str = ""
    """Only where this attribute is 1."""


@dataclass(frozen=True)
class Slice:
    """One place in a model that holds coordinates of a group's units."""

    path: str
    """Of a module; with the role ``param``, of a tensor."""
    role: str
    index: NDArray[np.int64]
    """(coordinates,): which unit each of them belongs to."""
    dim: int = 0
    """With the role ``param``: the tensor's dimension."""


@dataclass(frozen=True)
class Group:
    """Units beside each other."""

    name: str
    kind: str
    units: int
    slices: tuple[Slice, ...]
    counts: tuple[tuple[str, int], ...] = ()
    """Attributes ("path:name") that count the kept units, times this."""


def _attention(block: str, parts: tuple[str, str, str, str], heads: str) -> Row:
    """Return the row of a block's heads; ``parts`` are query, key, value and output."""
    *made, output = parts
    return Row("heads.#", HEADS, (*(f"out {block}.{x}" for x in made), f"in {block}.{output}"),
               heads=f"{block}:{heads}")  # fmt: skip


_FRONT = Row("front.#", CHANNELS, (
    "out feature_extractor.conv_layers.#.conv", "norm? feature_extractor.conv_layers.#.layer_norm",
    "in? feature_extractor.conv_layers.#+1.conv",
    "last norm feature_projection.layer_norm", "last in feature_projection.projection",
))  # fmt: skip
_HEADS = _attention(
    "encoder.layers.#.attention", ("q_proj", "k_proj", "v_proj", "out_proj"), "num_heads"
)
_MIDDLE = Row("feed-forward.#", FEED_FORWARD, (
    "out encoder.layers.#.feed_forward.intermediate_dense",
    "in encoder.layers.#.feed_forward.output_dense",
))  # fmt: skip
_PROJECTOR = Row("projector", FEED_FORWARD, ("out /projector", "in /classifier"))
_READERS = ("in? /projector", "in? /head")
_WAVEFORM_HIDDEN = Row("hidden", HIDDEN, (
    "grouped encoder.pos_conv_embed.conv",
    "out feature_projection.projection", "param? masked_spec_embed 0", "norm encoder.layer_norm",
    "in encoder.layers.*.attention.q_proj", "in encoder.layers.*.attention.k_proj",
    "in encoder.layers.*.attention.v_proj", "out encoder.layers.*.attention.out_proj",
    "in? encoder.layers.*.attention.gate", "norm encoder.layers.*.layer_norm",
    "in encoder.layers.*.feed_forward.intermediate_dense",
    "out encoder.layers.*.feed_forward.output_dense", "norm encoder.layers.*.final_layer_norm",
    "in encoder.layers.*.bridge", "out encoder.layers.*.bridge", *_READERS,
))  # fmt: skip
_WAVEFORM = (_FRONT, _HEADS, _MIDDLE, _WAVEFORM_HIDDEN, _PROJECTOR)

ROWS: dict[str, tuple[Row, ...]] = {  # by config.model_type
    "wav2vec2": _WAVEFORM,
    "hubert": _WAVEFORM,
    "wavlm": (_FRONT, replace(_HEADS, places=(
        *_HEADS.places, "out encoder.layers.#.attention.gate",
        "param encoder.layers.#.attention.gru_rel_pos_const 1",
        "param encoder.layers.#.attention.heads 0",
    )), _MIDDLE, _WAVEFORM_HIDDEN, _PROJECTOR),
    "kwt": (
        _attention("blocks.#.attn", ("q", "k", "v", "out"), "heads"),
        # A block with one head: what can go are its coordinates.
        Row("keys.#", HEADS, ("gated blocks.#.attn.q", "out blocks.#.attn.k"),
            single="blocks.#.attn:heads"),
        Row("values.#", HEADS, ("out blocks.#.attn.v", "in blocks.#.attn.out"),
            single="blocks.#.attn:heads"),
        Row("feed-forward.#", FEED_FORWARD, ("out blocks.#.mlp.fc1", "in blocks.#.mlp.fc2")),
        Row("hidden", HIDDEN, (
            "out embed", "param cls_token 2", "param pos_embed 2",
            "in blocks.*.attn.q", "in blocks.*.attn.k", "in blocks.*.attn.v",
            "out blocks.*.attn.out", "norm blocks.*.norm1", "in blocks.*.mlp.fc1",
            "out blocks.*.mlp.fc2", "norm blocks.*.norm2", "in blocks.*.bridge",
            "out blocks.*.bridge", *_READERS,
        )),
    ),
}  # fmt: skip

READY = {"wavlm": "edgeprune.gated_attention"}
"""Families of which a part must be replaced by an equal one before it can be trimmed."""


def ready(model: Any) -> None:
    """Put equal parts in the place of those that cannot be trimmed, in place."""
    if name := READY.get(model.config.model_type):
        importlib.import_module(name).ready(model)


def groups_of(model: Any, kinds: Sequence[str] = KINDS) -> tuple[Group, ...]:
    """Return the groups of a model whose units can be trimmed, in the order of the table.

    A group of one unit has nothing to trim and is left out.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A classifier of a known family that is ``ready``, trimmed before or not.
    kinds : sequence of str
        Of ``KINDS``.

    """
    rows = ROWS[model.config.model_type]
    tree = _Tree(model)
    return tuple(
        group for row in rows if row.kind in kinds for group in _expand(row, tree) if group.units > 1
    )  # fmt: skip


class _Tree:
    """The names of a model's modules and tensors, relative to where its rows begin."""

    def __init__(self, model: Any) -> None:
        self.model = model
        prefix = model.base_model_prefix
        self.base = f"{prefix}." if prefix and hasattr(model, prefix) else ""
        tensors = (*model.named_parameters(), *model.named_buffers())
        self.tensors = dict(tensors)
        self.modules = dict(model.named_modules())

    def full(self, path: str) -> str:
        return path[1:] if path.startswith("/") else self.base + path

    def find(self, pattern: str) -> Iterator[tuple[str, dict[str, int]]]:
        """Yield every name that fits a pattern, with the numbers in it."""
        text = re.escape(self.full(pattern)).replace(r"\#", "(?P<a>[0-9]+)")
        fits = re.compile(text.replace(r"\&", "(?P<b>[0-9]+)").replace(r"\*", "[0-9]+"))
        for name in (*self.modules, *self.tensors):
            if found := fits.fullmatch(name):
                yield name, {key: int(value) for key, value in found.groupdict().items()}

    def attribute(self, path: str) -> int:
        path, _, name = path.partition(":")
        value = getattr(self.modules[path], name)
        if not isinstance(value, int):
            raise TypeError(f"{path}.{name} is {value!r}, not a count")
        return value

    def coordinates(self, path: str, role: str, dim: int) -> int:
        """Count the coordinates of a place."""
        if role == "param":
            return int(self.tensors[path].shape[dim])
        return width_of(self.modules[path], role)


def width_of(module: nn.Module, role: str) -> int:
    """Count the coordinates that a module makes, reads or normalises."""
    if isinstance(module, nn.Linear):
        return module.in_features if role == "in" else module.out_features
    if isinstance(module, nn.modules.conv._ConvNd):
        return module.in_channels if role == "in" else module.out_channels
    if isinstance(module, nn.LayerNorm) and len(module.normalized_shape) == 1:
        return module.normalized_shape[0]
    if isinstance(module, nn.GroupNorm) and module.num_groups == module.num_channels:
        return module.num_channels
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return module.num_features
    raise TypeError(f"a {type(module).__name__} cannot have the role {role!r}")


def _expand(row: Row, tree: _Tree) -> Iterator[Group]:
    """Find a row's groups in a model."""
    first = row.places[0].split()[1]
    found = [numbers for _, numbers in tree.find(first)]
    for numbers in found:
        if row.single and tree.attribute(tree.full(_filled(row.single, numbers))) != 1:
            continue
        last = {**numbers, "a": numbers.get("a", 0) + 1} not in found
        places = [place for text in row.places for place in _places(text, numbers, last, tree)]
        path, role, dim = places[0]
        width = tree.coordinates(path, role, dim)
        heads = tree.full(_filled(row.heads, numbers)) if row.heads else ""
        if heads:
            units = tree.attribute(heads)
        elif role == "grouped":
            units = width // int(tree.model.get_submodule(path).groups)
        else:
            units = width
        slices = tuple(
            Slice(path, role, _index(tree.coordinates(path, role, dim), units, bool(heads)), dim)
            for path, role, dim in places
        )
        counts = [(heads, 1)] if heads else []
        counts += [(tree.full(_filled(w, numbers)), width // units) for w in row.widths]
        yield Group(_filled(row.name, numbers), row.kind, units, slices, tuple(counts))


def _index(width: int, units: int, neighbours: bool) -> NDArray[np.int64]:
    """Say which unit each coordinate belongs to: neighbours to one, or every so many."""
    if width % units:
        raise ValueError(f"{width} coordinates are not {units} units")
    if neighbours:
        return np.arange(width) // (width // units)
    return np.arange(width) % units


def _filled(text: str, numbers: dict[str, int]) -> str:
    a, b = numbers.get("a", 0), numbers.get("b", 0)
    return text.replace("#+1", str(a + 1)).replace("#", str(a)).replace("&", str(b))


def _places(
    text: str, numbers: dict[str, int], last: bool, tree: _Tree
) -> Iterator[tuple[str, str, int]]:
    """Yield path, role and dimension of what one place of a row stands for."""
    if text.startswith("last "):
        if not last:
            return
        text = text.removeprefix("last ")
    role, path, *dim = text.split()
    pattern = _filled(path, numbers)
    found = [name for name, _ in tree.find(pattern)]
    if not found and not role.endswith("?") and "*" not in pattern:
        raise LookupError(f"the model has no {tree.full(pattern)}")
    for name in found:
        yield name, role.rstrip("?"), int(dim[0]) if dim else 0


def check_parts(model: Any, groups: Sequence[Group]) -> str:
    """Name a part of our own that reads the hidden state and is in no row; empty: there is none."""
    known = [part.path for group in groups if group.kind == HIDDEN for part in group.slices]
    for path in surgery.parts_of(model):
        if not any(name == path or name.startswith(f"{path}.") for name in known):
            return path
    return ""
