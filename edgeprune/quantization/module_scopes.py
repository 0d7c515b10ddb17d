"""Modules that a quantization method treats separately, and how to find them in a file.

Both exporters keep module paths in names, each in its own way:

onnx    /wav2vec2/feature_extractor/first/MatMul                                (a node)
tflite  ...WaveformEncoder_feature_extractor/edgeprune.nn.strided_conv.FirstConv_first;2  (a tensor)

where TFLite's names omit lists of modules: ``convs.0`` is ``StridedConv_0``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from edgeprune.models.families import Family


@dataclass(frozen=True)
class Scopes:
    """Modules of a model that are not quantized like the rest."""

    float_scopes: tuple[str, ...] = ()
    """Modules whose products stay in float: they take raw samples, or compute a spectrogram."""
    row_scopes: tuple[str, ...] = ()
    """Modules whose activations have one scale per frame, if the method has one per window."""


def scopes_of(family: Family) -> Scopes:
    """Return the scopes of a model family."""
    return Scopes(family.float_scopes, family.row_scopes)


def inside(node_name: str, scopes: Iterable[str]) -> bool:
    """Return whether an ONNX node belongs to one of some modules, by its name.

    Parameters
    ----------
    node_name : str
        Name of the node.
    scopes : iterable of str
        Module names or paths with slashes, such as ``first`` or ``feature_extractor/convs``.

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
