"""The units of a model that can be trimmed: finding the rows of ``unit_table`` in a model."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from edgeprune.models.families import ALIASES
from edgeprune.width_pruning.unit_table import KINDS, ROWS, UnitRow

READY = {"wavlm": "edgeprune.models.wavlm_attention"}
"""Family -> module whose ``make_trimmable`` replaces a part by an equal one that can be trimmed."""
READERS = ("in", "gated", "grouped", "depthwise")
"""Roles in which units are inputs, so that a mask applies to them."""
MODULES = (nn.Linear, nn.modules.conv._ConvNd, nn.LayerNorm, nn.GroupNorm, nn.Embedding, nn.LSTM,
           nn.modules.batchnorm._BatchNorm)  # fmt: skip


@dataclass(frozen=True)
class Slice:
    """One place in a model that holds coordinates of a group's units."""

    path: str
    """Path of a module or, with the role ``param``, of a tensor."""
    role: str
    index: NDArray[np.int64]
    """(coordinates,): index of the unit that each belongs to."""
    dim: int = 0
    """With the role ``param``: dimension of the tensor."""


@dataclass(frozen=True)
class Group:
    """A group of units."""

    name: str
    kind: str
    units: int
    slices: tuple[Slice, ...]
    counts: tuple[tuple[str, int], ...] = ()
    """Attributes ("path:name") with the number of kept units, times this factor."""
    states: bool = False
    """Whether these are the coordinates of the last hidden state."""


@dataclass(frozen=True)
class _Place:
    """A place of a row, found in a model."""

    path: str
    role: str
    side: bool
    dim: int


def make_trimmable(model: Any) -> None:
    """Replace parts that cannot be trimmed by equal ones, in place."""
    if name := READY.get(model.config.model_type):
        importlib.import_module(name).make_trimmable(model)


def groups_of(model: Any, kinds: Sequence[str] = KINDS) -> tuple[Group, ...]:
    """Return the groups of a model whose units can be trimmed, in the order of the table.

    A group with one unit cannot be trimmed and is left out.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Classifier of a known family after ``make_trimmable``, trimmed before or not.
    kinds : sequence of str
        Kinds of units, of ``unit_table.KINDS``.

    """
    tree = _Tree(model)
    return tuple(
        group for row in _rows(model) if row.kind in kinds and not _refused(row, model)
        for group in _expand(row, tree) if group.units > 1
    )  # fmt: skip


def refusals(model: Any, kinds: Sequence[str]) -> list[str]:
    """Return the reasons why groups of some kinds cannot be trimmed in this model."""
    return [
        row.why for row in _rows(model) if row.kind in kinds and row.why and _refused(row, model)
    ]  # fmt: skip


def _rows(model: Any) -> tuple[UnitRow, ...]:
    name = model.config.model_type
    return ROWS[ALIASES.get(name, name)]


def _refused(row: UnitRow, model: Any) -> bool:
    field, value = row.unless
    other, wanted = row.only
    return bool(
        (field and getattr(model.config, field, None) == value)
        or (other and getattr(model.config, other, None) != wanted)
    )


class _Tree:
    """The names of a model's modules and tensors, relative to the root of its rows."""

    def __init__(self, model: Any) -> None:
        prefix = model.base_model_prefix
        self.base = f"{prefix}." if prefix and hasattr(model, prefix) else ""
        self.tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        self.modules = dict(model.named_modules())
        self.names = [n for n, m in self.modules.items() if isinstance(m, MODULES)] + [
            *self.tensors
        ]

    def full(self, path: str) -> str:
        return path[1:] if path.startswith("/") else self.base + path

    def find(self, pattern: str) -> list[tuple[str, dict[str, int]]]:
        """Return every name that matches a pattern, with the numbers in it."""
        if "$" in pattern:
            before, _, after = pattern.partition("$")
            count = len(self.modules[self.full(before).rstrip(".")])
            pattern = f"{before}{count - 1}{after}"
        text = re.escape(self.full(pattern)).replace(r"\#", "(?P<a>[0-9]+)")
        fits = re.compile(text.replace(r"\&", "(?P<b>[0-9]+)").replace(r"\*", "[0-9]+"))
        return [
            (name, {key: int(value) for key, value in found.groupdict().items()})
            for name in self.names if (found := fits.fullmatch(name))
        ]  # fmt: skip

    def attribute(self, path: str) -> int:
        path, _, name = path.partition(":")
        value = getattr(self.modules[path], name)
        if not isinstance(value, int):
            raise TypeError(f"{path}.{name} is {value!r}, not a count")
        return value

    def width(self, place: _Place) -> int:
        """Return the number of coordinates of a place."""
        if place.role == "param":
            return int(self.tensors[place.path].shape[place.dim])
        return width_of(self.modules[place.path], place.role)


def width_of(module: nn.Module, role: str) -> int:
    """Return the number of coordinates that a module outputs, takes as input or normalizes."""
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
    if isinstance(module, nn.Embedding):
        return module.embedding_dim
    if isinstance(module, nn.LSTM) and role == "in":
        return module.input_size
    raise TypeError(f"a {type(module).__name__} cannot have the role {role!r}")


def _expand(row: UnitRow, tree: _Tree) -> Iterator[Group]:
    """Find a row's groups in a model."""
    first = row.places[0].split()[-1 if not row.places[0].split()[-1].isdigit() else -2]
    numbered = "#" in first or "&" in first
    found = [numbers for _, numbers in tree.find(first)] if numbered else [{}]
    for numbers in found:
        last = {**numbers, "a": numbers.get("a", 0) + 1} not in found
        listed = [_places(text, numbers, last, tree) for text in row.places]
        places = [place for part in listed for place in part]
        needed = "?" not in row.places[0]
        if (needed and not listed[0]) or not any(p.role in READERS for p in places):
            continue
        if row.single and tree.attribute(tree.full(_filled(row.single, numbers))) != 1:
            continue
        missing = [text for text, part in zip(row.places, listed, strict=True)
                   if not part and not re.search(r"\?|\*|^last |^with", text)]  # fmt: skip
        if missing:
            raise LookupError(f"the model has no {_filled(missing[0], numbers)}")
        yield _group(row, numbers, places, tree)


def _group(row: UnitRow, numbers: dict[str, int], places: Sequence[_Place], tree: _Tree) -> Group:
    """Make a group from the places that were found."""
    width = tree.width(places[0])
    grouped = [place for place in places if place.role == "grouped"]
    size = tree.full(_filled(row.size, numbers))
    if row.size and ":/" in size:
        units = tree.attribute(size.replace(":/", ":"))
    elif row.size:
        units = width // tree.attribute(size)
    elif grouped:
        module: Any = tree.modules[grouped[0].path]
        units = int(module.out_channels) // int(module.groups)
    else:
        units = width // row.each
    slices = tuple(
        Slice(p.path, p.role, _index(tree.width(p), units, bool(row.size) or p.side), p.dim)
        for p in places
    )
    counts = [(tree.full(_filled(path, numbers)), 1) for path in row.counts]
    counts += [(tree.full(_filled(path, numbers)), width // units) for path in row.widths]
    name = _filled(row.name, numbers)
    return Group(name, row.kind, units, slices, tuple(counts), row.states)


def _index(width: int, units: int, side: bool) -> NDArray[np.int64]:
    """Return the unit of each coordinate: contiguous (``side``) or interleaved."""
    if width % units:
        raise ValueError(f"{width} coordinates cannot be divided into {units} units")
    return np.arange(width) // (width // units) if side else np.arange(width) % units


def _filled(text: str, numbers: dict[str, int]) -> str:
    a, b = numbers.get("a", 0), numbers.get("b", 0)
    return text.replace("#+1", str(a + 1)).replace("#", str(a)).replace("&", str(b))


def _places(text: str, numbers: dict[str, int], last: bool, tree: _Tree) -> list[_Place]:
    """Return the places in a model that match one place of a row."""
    words = _filled(text, numbers).split()
    if words[0] == "last":
        if not last:
            return []
        words = words[1:]
    while words[0] in ("with", "without"):
        if bool(tree.find(words[1])) != (words[0] == "with"):
            return []
        words = words[2:]
    role, pattern, *dim = words
    role, _, side = role.rstrip("?").partition(":")
    return [
        _Place(name, role, bool(side), int(dim[0]) if dim else 0) for name, _ in tree.find(pattern)
    ]  # fmt: skip
