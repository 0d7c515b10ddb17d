"""Which parts of a model a quantization method treats apart, and how to find them in a file.

Both exporters keep module paths in names, each its own way:

onnx    /wav2vec2/feature_extractor/first/MatMul                             of a node
tflite  ...WaveformEncoder_feature_extractor/edgeprune.strided.FirstConv_first;2   of a tensor

where TFLite's names leave out lists of modules: ``convs.0`` is ``StridedConv_0``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from edgeprune.models.families import Family


@dataclass(frozen=True)
class Scopes:
    """Modules of one model that are not quantized like the rest."""

    float_scopes: tuple[str, ...] = ()
    """Their products stay in float: they hear raw samples, or hold the matrices of a spectrum."""
    row_scopes: tuple[str, ...] = ()
    """Their activations have a scale for every frame, where the method has one for a window."""


def scopes_of(family: Family) -> Scopes:
    """Return the scopes that a row of the families' table names."""
    return Scopes(family.float_scopes, family.row_scopes)


def inside(node_name: str, scopes: Iterable[str]) -> bool:
    """Return whether an ONNX node belongs to one of some modules, by its name.

    Parameters
    ----------
    node_name : str
    scopes : iterable of str
        Module names or paths with slashes, as ``first`` or ``feature_extractor/convs``.

    """
    return any(f"/{scope}{end}" in node_name for scope in scopes for end in "/.")


def tflite_pattern(scope: str) -> str:
    """Return the regular expression that finds a module in the names of TFLite tensors.

    Parameters
    ----------
    scope : str
        As in ``inside``; its last part may be a list of modules.

    """
    *path, last = scope.split("/")
    before = "/".join(rf"[\w.<>]+?_{re.escape(part)}" for part in path)
    ends = r"(?:@\d+)?(?:[/;]|$)"  # @1: the module's second call
    name = rf"[\w.<>]+\.[A-Za-z0-9]+_{re.escape(last)}{ends}"
    item = rf"[\w.<>]+\.[A-Za-z0-9]+_\d+{ends}"
    return rf"(?:^|[/;]){before}/(?:{name}|{item})" if path else rf"(?:^|[/;]){name}"
