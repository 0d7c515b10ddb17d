"""What tests of several wings of the recorder share."""

from __future__ import annotations

from pathlib import Path

import pytest
from bundle_edits import pair
from tiny_replacements import make_student_model
from tiny_windows import windows_for

from edgeprune.export.bundle_writer import describe, golden_inputs, write
from edgeprune.export.onnx import to_onnx
from edgeprune.export.tflite import to_tflite
from edgeprune_device.bundle.reader import read_bundle


@pytest.fixture(scope="session")
def formats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a bundle of one network in both formats, each file's golden outputs its own; for reading."""
    folder = tmp_path_factory.mktemp("formats")
    network = make_student_model("plain stem")
    windows = windows_for(network)
    length = windows.samples.shape[1]
    files = {"onnx": to_onnx(network, length, 18), "tflite": to_tflite(network, length)}
    for format, data in files.items():
        manifest = describe(
            "tones", network, windows, quantization="none", opset=None, licence="test",
            hop_seconds=0.0, format=format,
        )  # fmt: skip
        write(folder / format, manifest, data, golden_inputs(windows))
    return pair(folder / "both", folder / "onnx", read_bundle(folder / "tflite"))
