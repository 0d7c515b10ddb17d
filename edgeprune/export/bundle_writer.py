"""Making bundles: the manifest's model, audio and decision sections, and golden outputs.

The format is defined by ``edgeprune_device.bundle.reader``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgeprune import __version__
from edgeprune.data.tasks import task_of
from edgeprune.data.windows import Windows
from edgeprune.export.model_metadata import runtime_needed, stamp_of, stamped
from edgeprune.models import loading
from edgeprune.models.families import layers_of
from edgeprune_device.bundle.reader import Bundle
from edgeprune_device.bundle.writer import golden_files, write_bundle
from edgeprune_device.inference.runtime import open_model, runtime_name

GOLDEN_CLIPS = 3
GOLDEN_TOLERANCE = {"none": 1e-3, "weights": 1e-3, "half": 1e-2, "dynamic": 2e-2,
                    "weights4": 2e-2, "static": 2e-2}  # fmt: skip
"""Largest allowed difference of a score between this machine and the board. int8 kernels round
differently from one processor to the next."""
MODEL_FILES = {"onnx": "model.onnx", "tflite": "model.tflite"}
"""Format -> name of the model file in a bundle."""
DEFAULT_THRESHOLD = 0.5  # threshold before thresholds are calibrated


def describe(
    name: str, classifier: Any, windows: Windows, *, quantization: str, opset: int | None,
    licence: str, hop_seconds: float, format: str = "onnx",
) -> dict[str, Any]:  # fmt: skip
    """Return a manifest without files: model, audio, labels and decision rule.

    Parameters
    ----------
    name : str
        Name of the bundle.
    classifier : transformers.PreTrainedModel
        For its labels and number of parameters.
    windows : Windows
        For task, sample rate and window.
    quantization : str
        Name of a quantization method (``quantization.methods``).
    opset : int or None
        ONNX operator set; None for TFLite.
    licence : str
        Licence of the model.
    hop_seconds : float
        Time between windows; 0: a quarter of the window (transcripts: the window).
    format : str
        ``onnx`` or ``tflite``.

    """
    labels = list(loading.labels_of(classifier))
    seconds = windows.window_samples / windows.sample_rate
    task = task_of(windows.task)
    texts = task.activation == "ctc"
    thresholds = {} if texts else dict.fromkeys(labels, DEFAULT_THRESHOLD)
    runtime, _, version = runtime_name(format).partition(" ")
    return {
        "name": name,
        "edgeprune_version": __version__,
        "runtime": {"name": runtime, "version": version},
        "model": {
            "file": MODEL_FILES[format], "format": format, "opset": opset,
            "quantization": quantization,
            "parameters": loading.count_parameters(classifier),
            "layers": len(layers_of(classifier)),
            "family": classifier.config.model_type,
            "input": {"name": "samples", "shape": [1, windows.window_samples], "dtype": "float32"},
            "output": {"name": "scores", "dtype": "float32",
                       "shape": output_shape(classifier, windows.window_samples)},
        },
        "audio": {"sample_rate": windows.sample_rate, "channels": 1, "window_seconds": seconds,
                  "hop_seconds": hop_seconds or (seconds if texts else seconds / 4)},
        "labels": labels,
        "activation": task.activation,
        **({"tokens": windows.tokens} if texts else {}),
        "decision": {"thresholds": thresholds, "smoothing_windows": 1,
                     "refractory_seconds": 0.0 if texts else 1.0, "ignore": []},
        "requirements": {},
        "provenance": {},
        "licence": licence,
    }  # fmt: skip


def output_shape(classifier: Any, window_samples: int) -> list[int]:
    """Return the shape of a model's output for one window: [1, labels] or [1, frames, labels]."""
    with torch.inference_mode():
        return list(loading.logits_of(classifier.eval(), torch.zeros(1, window_samples)).shape)


def golden_inputs(windows: Windows) -> list[NDArray[np.float32]]:
    """Return some windows of noise shaped like the data, as golden inputs without personal data.

    No recordings are included: a bundle may be distributed when the recordings may not.
    """
    generator = np.random.default_rng(0)
    level = float(np.sqrt(np.mean(np.square(windows.samples[: 4 * GOLDEN_CLIPS])))) or 0.05
    time = np.arange(windows.window_samples) / windows.sample_rate
    inputs = []
    for index in range(GOLDEN_CLIPS):
        tone = np.sin(2 * np.pi * (300 + 400 * index) * time * (1 + 0.1 * time / time[-1]))
        noise = generator.standard_normal(windows.window_samples)
        inputs.append((level * (tone + 0.3 * noise)).clip(-1, 1).astype(np.float32))
    return inputs


def write(
    folder: Path, manifest: dict[str, Any], data: bytes, inputs: list[NDArray[np.float32]],
    halves: Mapping[str, bytes] | None = None,
) -> None:  # fmt: skip
    """Write a bundle whose golden outputs are computed here, by the recorder's code.

    The file gets metadata from the manifest, and the manifest the runtime that the file needs.
    ``halves`` are the files of ``model.incremental``, by name.

    Raises
    ------
    EdgepruneError
        The runtime rejects the file, or its names and shapes differ from the manifest's.

    """
    format = manifest["model"]["format"]
    data = stamped(data, format, stamp_of(manifest))
    manifest = {**manifest, "requirements": {
        **manifest["requirements"], "runtime": runtime_needed(data, format),
    }}  # fmt: skip
    run = open_model(Bundle(folder, manifest, data, (), ""))
    tolerance = GOLDEN_TOLERANCE[manifest["model"]["quantization"]]
    files, entries = golden_files(inputs, [run(x) for x in inputs], tolerance)
    contents = {manifest["model"]["file"]: data, **files, **(halves or {})}
    write_bundle(folder, {**manifest, "golden": entries}, contents)
