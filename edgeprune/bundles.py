"""Make bundles on the workstation: the manifest's model, audio and decision parts, golden outputs.

``edgeprune_device.bundle`` owns the format; this file fills it in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from edgeprune import __version__, models
from edgeprune.audio import Windows
from edgeprune.families import layers_of
from edgeprune.tasks import task_of
from edgeprune_device.bundle import golden_files, write_bundle

GOLDEN_CLIPS = 3
GOLDEN_TOLERANCE = {"none": 1e-3, "weights": 1e-3, "dynamic": 2e-2}
"""Largest difference of a score between this machine and the board. int8 kernels round
differently from one processor to the next."""
MODEL_FILE = "model.onnx"
UNSURE = 0.5  # threshold of a bundle whose thresholds were not set


def describe(
    name: str, classifier: Any, windows: Windows, *, quantization: str, opset: int, licence: str,
    hop_seconds: float,
) -> dict[str, Any]:  # fmt: skip
    """Return a manifest without files: what the model is, hears and says.

    Parameters
    ----------
    name : str
    classifier : transformers.PreTrainedModel
        For its labels and number of parameters.
    windows : Windows
        For task, rate and window.
    quantization : str
        ``none``, ``weights`` or ``dynamic``.
    opset : int
    licence : str
    hop_seconds : float
        0: a quarter of the window; of transcripts, the window.

    """
    labels = list(models.labels_of(classifier))
    seconds = windows.window_samples / windows.sample_rate
    task = task_of(windows.task)
    texts = task.activation == "ctc"
    thresholds = {} if texts else dict.fromkeys(labels, UNSURE)
    return {
        "name": name,
        "edgeprune_version": __version__,
        "runtime": {"name": "onnxruntime", "version": onnxruntime.__version__},
        "model": {
            "file": MODEL_FILE, "format": "onnx", "opset": opset, "quantization": quantization,
            "parameters": models.count_parameters(classifier),
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
        "requirements": {"runtime": "onnxruntime>=1.23"},
        "provenance": {},
        "licence": licence,
    }  # fmt: skip


def output_shape(classifier: Any, window_samples: int) -> list[int]:
    """Return the shape of a model's answer to one window: [1, labels], or [1, frames, labels]."""
    with torch.inference_mode():
        return list(models.logits_of(classifier.eval(), torch.zeros(1, window_samples)).shape)


def golden_inputs(windows: Windows) -> list[NDArray[np.float32]]:
    """Return a few windows of noise shaped like the data: golden inputs that are nobody's voice.

    The recordings themselves stay where they are: a bundle may be given away when they may not.
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
    folder: Path, manifest: dict[str, Any], data: bytes, inputs: list[NDArray[np.float32]]
) -> None:
    """Write a bundle whose golden outputs are what this file answers here."""
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    outputs = [session.run(None, {"samples": x[None]})[0][0] for x in inputs]
    tolerance = GOLDEN_TOLERANCE[manifest["model"]["quantization"]]
    files, entries = golden_files(inputs, outputs, tolerance)
    write_bundle(folder, {**manifest, "golden": entries}, {MODEL_FILE: data, **files})


def operators(data: bytes) -> dict[str, int]:
    """Count a graph's operators by type."""
    counts: dict[str, int] = {}
    for node in onnx.load_from_string(data).graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return counts
