"""Bundles made on the workstation, in both formats: read, opened and answered as torch does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from model_stamps import read_stamp
from slow_cases import some_of
from tiny_recordings import RATE
from tiny_replacements import make_student_model
from tiny_windows import windows_for

from edgeprune.export.bundle_writer import describe, golden_inputs, write
from edgeprune.export.onnx import Scorer, to_onnx
from edgeprune.export.tflite import to_tflite
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.runtime import check_golden, open_model

RUNTIMES = {"onnx": "onnxruntime>=1.14", "tflite": "ai-edge-litert>=2.1"}


@pytest.mark.parametrize("format", ["onnx", "tflite"])
def test_a_bundle_of_either_format_goes_to_the_recorder(format: str, tmp_path: Path) -> None:
    model = make_student_model("plain stem")
    windows = windows_for(model)
    window = windows.samples.shape[1]
    data = to_onnx(model, window, 18) if format == "onnx" else to_tflite(model, window)
    manifest = describe(
        "tones", model, windows, quantization="none", opset=18 if format == "onnx" else None,
        licence="test", hop_seconds=0.0, format=format,
    )  # fmt: skip
    write(tmp_path / "b", manifest, data, golden_inputs(windows))
    bundle = read_bundle(tmp_path / "b")
    assert (tmp_path / "b" / f"model.{format}").is_file()
    assert bundle.format == format
    assert bundle.manifest["requirements"] == {"runtime": RUNTIMES[format]}
    assert bundle.manifest["runtime"]["name"] == RUNTIMES[format].partition(">")[0]
    assert (bundle.manifest["model"]["opset"] is None) == (format == "tflite")
    stamp = read_stamp(bundle.model_bytes, format)
    assert (stamp["name"], stamp["sample_rate"]) == ("tones", str(RATE))
    run = open_model(bundle)
    assert check_golden(bundle, run) == 0.0
    with torch.inference_mode():
        expected = Scorer(model)(torch.from_numpy(windows.samples)).numpy()
    for sample, scores in zip(windows.samples, expected, strict=True):
        np.testing.assert_allclose(run(sample), scores, rtol=0, atol=1e-4)


@pytest.mark.parametrize("format", some_of(("onnx", "tflite"), "onnx"))
def test_a_file_that_is_not_what_the_manifest_says_is_not_written(
    format: str, tmp_path: Path
) -> None:
    model = make_student_model("plain stem")
    windows = windows_for(model)
    manifest = describe(
        "tones", model, windows, quantization="none", opset=None if format == "tflite" else 18,
        licence="test", hop_seconds=0.0, format=format,
    )  # fmt: skip
    short = to_onnx(model, 3000, 18) if format == "onnx" else to_tflite(model, 3000)
    sentence = {"onnx": "has another input", "tflite": "other shapes or types"}[format]
    with pytest.raises(EdgepruneError, match=sentence):
        write(tmp_path / "b", manifest, short, golden_inputs(windows))
    assert not (tmp_path / "b").exists()
