"""The stage ``export``: a model's float32 bundle in every requested format."""

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
from edgeprune.export.onnx import Scorer, largest_difference, onnx_runner, to_onnx
from edgeprune.export.tflite import tflite_runner, to_tflite
from edgeprune.models import loading

Runner = Callable[[NDArray[np.float32]], NDArray[np.float32]]

RUNNERS: dict[str, Callable[[bytes], Runner]] = {"onnx": onnx_runner, "tflite": tflite_runner}
"""Format -> function from a file's bytes to a function from samples (1, window) to scores."""


def export(
    model: Path, clips: Path, name: str, licence: str, hop_seconds: float, formats: list[str], *,
    out: Path, settings: Export, ui: Ui,
) -> None:  # fmt: skip
    """Write a model folder's float32 bundles (``bundle_name``) and ``export.json``.

    Parameters
    ----------
    model : Path
        Folder that ``load_model`` reads.
    clips : Path
        Folder of the stage ``clips``; golden inputs and the comparison with torch use its
        validation split.
    name : str
        Name of the bundle.
    licence : str
        Licence of the model and its training data, as far as known.
    hop_seconds : float
        Time between windows on the recorder; 0: a quarter of the window.
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
        worst = largest_difference(RUNNERS[format](data), scorer, valid)
        manifest = describe(
            name, classifier, valid, quantization="none", licence=licence, format=format,
            opset=settings.opset if format == "onnx" else None, hop_seconds=hop_seconds,
        )  # fmt: skip
        write(out / bundle_name(format), manifest, data, golden_inputs(valid))
        facts[format] = {"worst_difference_to_torch": worst, "bytes": len(data)}
        ui.say(f"  {name}: {format}, {len(data) / 1e6:.1f} MB, within {worst:.0e} of torch")
    write_json(out / "export.json", facts)


def bundle_name(format: str) -> str:
    """Return the folder name of a format's bundle."""
    return "bundle" if format == "onnx" else f"bundle-{format}"
