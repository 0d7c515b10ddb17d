"""The stage ``export``: a model's float32 bundle in every format that the recipe asks for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeprune.core.console import Ui
from edgeprune.core.deployment_settings import Export
from edgeprune.core.files import write_json
from edgeprune.data.windows import load_windows
from edgeprune.export.bundle_writer import describe, golden_inputs, write
from edgeprune.export.onnx import Scorer, agreement, onnx_runner, to_onnx
from edgeprune.export.tflite import tflite_runner, to_tflite
from edgeprune.models import loading

Runner = Callable[[NDArray[np.float32]], NDArray[np.float32]]

RUNNERS: dict[str, Callable[[bytes], Runner]] = {"onnx": onnx_runner, "tflite": tflite_runner}
"""Format -> a file's bytes to a function from samples (1, window) to scores (1, ...)."""


def export(
    model: Path, clips: Path, name: str, licence: str, hop_seconds: float, formats: list[str], *,
    out: Path, settings: Export, ui: Ui,
) -> None:  # fmt: skip
    """Write a model folder's float32 bundles (``bundle_name``) and ``export.json``.

    Parameters
    ----------
    model : Path
        A folder that ``load_model`` reads.
    clips : Path
        The ``clips`` stage's folder; golden inputs and the check come from its validation split.
    name : str
        The bundle's name.
    licence : str
        Of the model and what it was trained on, as far as it is known.
    hop_seconds : float
        Step between windows in the field; 0: a quarter of the window.
    formats : list of str
        ``onnx``, ``tflite``.

    """
    classifier = loading.load_model(str(model))
    valid = load_windows(clips).split("valid")
    scorer = Scorer(classifier)
    facts = {}
    for format in formats:
        ui.say(f"  {name}: {format}")
        if format == "onnx":
            data = to_onnx(classifier, valid.window_samples, settings.opset)
        else:
            data = to_tflite(classifier, valid.window_samples)
        worst = agreement(RUNNERS[format](data), scorer, valid)
        manifest = describe(
            name, classifier, valid, quantization="none", licence=licence, format=format,
            opset=settings.opset if format == "onnx" else None, hop_seconds=hop_seconds,
        )  # fmt: skip
        write(out / bundle_name(format), manifest, data, golden_inputs(valid))
        facts[format] = {"worst_difference_to_torch": worst, "bytes": len(data)}
        ui.say(f"  {name}: {format}, {len(data) / 1e6:.1f} MB, within {worst:.0e} of torch")
    write_json(out / "export.json", facts)


def bundle_name(format: str) -> str:
    """Return the name of a format's bundle in a stage's folder."""
    return "bundle" if format == "onnx" else f"bundle-{format}"
