"""A tiny bundle whose model is a graph written by hand: it tells tones by their pitch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tiny_recordings import RATE, TONES, tone


def make_bundle(folder: Path, labels: tuple[str, ...] = tuple(TONES), seed: int = 0) -> Path:
    """Write a bundle whose file answers softmax(samples @ matrix): 1,600 samples at 16 kHz."""
    from onnx import TensorProto, helper, numpy_helper

    from edgeprune_device.bundle.writer import golden_files, write_bundle

    window = 1600
    time = np.arange(window) / RATE
    pitches = [TONES.get(label, 500.0 + 400 * i) for i, label in enumerate(labels)]
    # The power around each label's pitch, whatever the phase: sine and cosine, squared and summed.
    near = [p * (1 + step / 200) for p in pitches for step in range(-12, 13)]
    waves = [f(2 * np.pi * p * time) for f in (np.sin, np.cos) for p in near]
    matrix = (np.stack(waves, axis=1) / window * (10 + seed)).astype(np.float32)
    fold = np.concatenate([np.repeat(np.eye(len(labels)), 25, axis=0)] * 2).astype(np.float32) * 20

    def answer(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = (samples @ matrix) ** 2 @ fold
        powers = np.exp(logits - logits.max())
        return np.asarray(powers / powers.sum(), dtype=np.float32)

    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["samples", "waves"], ["amplitudes"]),
            helper.make_node("Mul", ["amplitudes", "amplitudes"], ["powers"]),
            helper.make_node("MatMul", ["powers", "fold"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["scores"], axis=-1),
        ],
        "tiny",
        [helper.make_tensor_value_info("samples", TensorProto.FLOAT, [1, window])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, len(labels)])],
        [numpy_helper.from_array(matrix, "waves"), numpy_helper.from_array(fold, "fold")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    inputs = [tone(pitch, window / RATE, index) for index, pitch in enumerate(pitches)]
    files, golden = golden_files(inputs, [answer(x) for x in inputs], 1e-4)
    manifest = {
        "name": folder.name, "edgeprune_version": "0", "golden": golden,
        "model": {
            "file": "model.onnx", "format": "onnx", "opset": 17, "quantization": "none",
            "parameters": matrix.size + fold.size, "layers": 1, "family": "tiny",
            "input": {"name": "samples", "shape": [1, window], "dtype": "float32"},
            "output": {"name": "scores", "shape": [1, len(labels)], "dtype": "float32"},
        },
        "audio": {"sample_rate": RATE, "channels": 1, "window_seconds": window / RATE,
                  "hop_seconds": 0.05},
        "labels": list(labels), "activation": "softmax",
        "decision": {"thresholds": dict.fromkeys(labels, 0.8), "smoothing_windows": 1,
                     "refractory_seconds": 0.5, "ignore": []},
        "requirements": {"runtime": "onnxruntime>=1.23"}, "provenance": {}, "licence": "test",
    }  # fmt: skip
    write_bundle(folder, manifest, {"model.onnx": model.SerializeToString(), **files})
    return folder
