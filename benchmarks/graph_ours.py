"""edgeprune's own rows of `graph_variants.VARIANTS`; only this module uses its functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.export.onnx import to_onnx
from edgeprune.export.tflite import to_tflite
from edgeprune.models.families import Family, family_of
from edgeprune.quantization.methods import METHODS, method_of
from edgeprune.quantization.module_scopes import scopes_of

OPSET = 18


@dataclass(frozen=True)
class Work:
    """What a variant is made from: a model at a window."""

    classifier: Any
    window_samples: int
    files: dict[str, Path]
    """Variants made so far: name -> model file."""
    calibration: Path
    """A .npy file of real windows (n, window)."""

    @property
    def family(self) -> Family:
        """The model's family."""
        return family_of(self.classifier.config.model_type)

    def bytes_of(self, name: str) -> bytes:
        """Read a variant that was made before."""
        return self.files[name].read_bytes()


@dataclass(frozen=True)
class Variant:
    """A row of the table."""

    format: str
    """``onnx``, ``tflite``, or ``torch``: no file is made, transformers itself is measured."""
    make: Callable[[Work], bytes]
    ours: bool = False
    """Whether it is edgeprune's own method, not a peer's."""


ONNX, TFLITE = "edgeprune ONNX, float32", "edgeprune TFLite, float32"


def by_method(format: str, method: str, work: Work) -> bytes:
    """Make a file from edgeprune's float32 file by a row of ``quantization.methods``."""
    source = work.bytes_of(ONNX if format == "onnx" else TFLITE)
    make = method_of(format, method)
    return make(source, scopes_of(work.family), np.load(work.calibration))


OURS = {
    ONNX: Variant("onnx", lambda work: to_onnx(work.classifier, work.window_samples, OPSET), True),
    TFLITE: Variant("tflite", lambda work: to_tflite(work.classifier, work.window_samples), True),
    **{
        f"edgeprune {shown}, {method}": Variant(format, partial(by_method, format, method), ours=True)
        for format, shown in (("onnx", "ONNX"), ("tflite", "TFLite"))
        for method in METHODS[format] if method != "none"
    },
}  # fmt: skip
