"""tflite-runtime 2.14 itself, in an environment of its own: what it runs right, and what it is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from repository import ROOT
from tiny_models import enliven, make_model
from tiny_recordings import TONES
from tiny_windows import windows_for

from edgeprune.export.bundle_writer import describe, golden_inputs, write
from edgeprune.export.tflite import to_tflite
from edgeprune.models import loading
from edgeprune_device.system.native_output import capture_native_output

WHEELS = ("tflite-runtime==2.14.0", "numpy<2")
"""tflite-runtime's last version: Python 3.11 at most, numpy 1."""
RECIPES = {"float": None, "weights": ("CHANNELWISE", "FLOAT"), "per-tensor": ("TENSORWISE", "INTEGER"),
           "per-channel": ("CHANNELWISE", "INTEGER")}  # fmt: skip
RECORDER = """
import json, sys
from pathlib import Path
from edgeprune_device.inference import runtime
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.errors import EdgepruneError

if "--unchecked" in sys.argv:
    runtime._check_scales = lambda *_: None
found = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    bundle = read_bundle(path)
    try:
        found[path.name] = runtime.check_golden(bundle, runtime.open_model(bundle))
    except EdgepruneError as error:
        found[path.name] = [str(error), error.hint, error.status]
print(json.dumps([runtime.runtime_name("tflite"), found]))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an environment with tflite-runtime and nothing else of ours."""
    found = sys.executable if sys.version_info[:2] == (3, 11) else shutil.which("python3.11")
    if not found:
        pytest.skip("tflite-runtime is for Python 3.11 at most, which is not here")
    folder = tmp_path_factory.mktemp("venv") / "tflite"
    subprocess.run([found, "-m", "venv", str(folder)], check=True)
    subprocess.run(
        [folder / "bin" / "python", "-m", "pip", "install", "--quiet",
         "--disable-pip-version-check", *WHEELS], check=True,
    )  # fmt: skip
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one model's bundles, of each recipe one, as ai-edge-litert answers."""
    folder = tmp_path_factory.mktemp("bundles")
    model = loading.load_model(
        str(make_model(folder.with_name("source"), "wav2vec2", tuple(TONES), layers=2))
    )
    enliven(model)
    windows = windows_for(model)
    data = to_tflite(model, windows.samples.shape[1])
    for name, recipe in RECIPES.items():
        quantization = {"float": "none", "weights": "weights"}.get(name, "dynamic")
        manifest = describe(
            name, model, windows, quantization=quantization, opset=None, licence="test",
            hop_seconds=0.0, format="tflite",
        )  # fmt: skip
        file = data if recipe is None else quantized(data, *recipe)
        write(folder / name, manifest, file, golden_inputs(windows))
    return folder


def quantized(data: bytes, granularity: str, precision: str) -> bytes:
    """Quantize a file's matrix products with Google's quantizer."""
    with warnings.catch_warnings(), capture_native_output():
        warnings.simplefilter("ignore")
        from ai_edge_quantizer import qtyping, quantizer, recipe_manager

        weights = qtyping.TensorQuantizationConfig(
            num_bits=8, symmetric=True, granularity=qtyping.QuantGranularity[granularity]
        )
        manager = recipe_manager.RecipeManager()
        manager.add_quantization_config(
            regex=".*", operation_name=qtyping.TFLOperationName.FULLY_CONNECTED,
            op_config=qtyping.OpQuantizationConfig(
                weight_tensor_config=weights,
                compute_precision=qtyping.ComputePrecision[precision],
                explicit_dequantize=precision == "FLOAT",
            ),
            algorithm_key="min_max_uniform_quantize",
        )  # fmt: skip
        made = quantizer.Quantizer(bytearray(data), manager.get_quantization_recipe()).quantize()
    return bytes(made.quantized_model)


def on_the_recorder(python: Path, bundles: Path, *options: str) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "device")}
    done = subprocess.run(
        [python, "-c", RECORDER, bundles, *options], env=environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no INFO of a delegate
    runtime, found = json.loads(done.stdout)
    assert runtime == "tflite-runtime 2.14.0"
    answers: dict[str, Any] = found
    return answers


@pytest.mark.slow
def test_tflite_runtime_answers_as_ai_edge_litert_or_is_refused(
    python: Path, bundles: Path
) -> None:
    found = on_the_recorder(python, bundles)
    assert found["float"] < 1e-5
    assert found["weights"] < 1e-5
    assert found["per-tensor"] < 2e-2  # its kernels round the activations otherwise
    sentence, hint, status = found["per-channel"]
    assert "cannot read int8 weights with one scale per output" in sentence
    assert "pip install ai-edge-litert in place of tflite-runtime" in hint
    assert status == 2


@pytest.mark.slow
def test_the_golden_outputs_alone_would_have_shown_it(python: Path, bundles: Path) -> None:
    found = on_the_recorder(python, bundles, "--unchecked")
    sentence, hint, status = found["per-channel"]
    assert "has other scores on this machine than where it was created" in sentence
    assert "pip install ai-edge-litert in place of tflite-runtime" in hint
    assert status == 1
