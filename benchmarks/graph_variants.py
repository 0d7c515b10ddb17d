"""Table of the ways to make a model file that `graphs.py` compares.

A variant is a function from a model at a window (`Work`) to the bytes of a .onnx or .tflite file.
The float32 files come first, because the others are made from them. Peers whose dependencies
conflict with edgeprune's run in environments of their own, made once under `PEERS`.
"""

from __future__ import annotations

import copy
import io
import os
import subprocess
import sys
import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from graph_ours import OPSET, OURS, Variant, Work
from onnxruntime.quantization import QuantType, quantize_dynamic

from edgeprune.export.model_rewrites import fold_weight_norm
from edgeprune.export.onnx import INPUT, OUTPUT, Scorer
from edgeprune.export.tflite import Named, convert
from edgeprune.quantization.dynamic_onnx import no_advice

HERE = Path(__file__).resolve().parent / "peers_graphs"
PEERS = Path("/tmp/edgeprune-peers")
VENVS = {
    "optimum": ("torch==2.13.0", "optimum-onnx[onnxruntime]==0.1.0", "transformers<4.58"),
    "nncf": ("nncf==3.4.0", "onnx", "onnxruntime==1.31.1"),
}
"""Environment -> packages to install with pip, in this order."""
ONNX, TFLITE = "ORT float32, as exported", "LiteRT float32, as exported"


def plain_onnx(work: Work) -> bytes:
    """Export by torch.onnx as traced by torch; weight norm folded, as quantizers need."""
    buffer: Any = io.BytesIO()  # torch types it as a path
    with warnings.catch_warnings():  # the tracer warns of every shape that is fixed on purpose
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Scorer(folded(work)).eval(), (torch.randn(1, work.window_samples) * 0.1,), buffer,
            input_names=[INPUT], output_names=[OUTPUT], opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    data: bytes = buffer.getvalue()
    return data


def plain_tflite(work: Work) -> bytes:
    """Convert by litert-torch as traced by torch; weight norm folded."""
    scorer = Named(Scorer(folded(work))).eval()
    return convert(scorer, {INPUT: torch.randn(1, work.window_samples) * 0.1})


def folded(work: Work) -> Any:
    """Return a copy of the model without weight norm."""
    copied = copy.deepcopy(work.classifier).eval()
    fold_weight_norm(copied)
    return copied


def nothing(_work: Work) -> bytes:
    """Make no file: torch runs the model folder."""
    return b""


def ort_dynamic(options: dict[str, Any], work: Work) -> bytes:
    """Quantize by ONNX Runtime's own dynamic quantization with default options."""
    graph = onnx.load_from_string(work.bytes_of(ONNX))
    del graph.graph.value_info[:]  # stale shapes make the quantizer's own inference fail
    with tempfile.TemporaryDirectory() as folder, no_advice():
        target = Path(folder, "model.onnx")
        quantize_dynamic(graph, target, weight_type=QuantType.QInt8, **options)
        return target.read_bytes()


def in_venv(venv: str, script: str, option: str, work: Work) -> bytes:
    """Run a script of ``peers_graphs/`` on the plain ONNX file in its environment."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model.onnx"
        arguments = [str(work.files[ONNX]), str(target), option]
        if venv == "nncf":
            arguments.append(str(work.calibration))
        done = subprocess.run(
            [str(python_of(venv)), str(HERE / script), *arguments], cwd=folder,
            check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL,
            env={**{k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(last_line(done.stderr) or f"{script}: status {done.returncode}")
        return target.read_bytes()


def python_of(venv: str) -> Path:
    """Return an environment's Python; make the environment if needed."""
    folder = PEERS / venv
    python, ready = folder / "bin/python", folder / "ready"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        for requirement in VENVS[venv]:  # torch alone first, so that it is the one for processors
            subprocess.run([str(python), "-m", "pip", "-q", "install", requirement], check=True)
        ready.touch()
    return python


def ai_edge(recipe_name: str, work: Work) -> bytes:
    """Quantize by one of ai-edge-quantizer's own recipes; inputs and outputs stay in float."""
    from ai_edge_quantizer import quantizer, recipe

    made = quantizer.Quantizer(str(work.files[TFLITE]))
    made.load_quantization_recipe(getattr(recipe, recipe_name)())
    ranges = None
    if recipe_name.startswith("static"):
        for end in ("INPUT", "OUTPUT"):  # the recorder hands over samples and takes scores
            made.update_quantization_recipe(
                regex=".*", operation_name=end, algorithm_key="no_quantize"
            )
        windows = np.load(work.calibration)
        name = input_name(work.files[TFLITE])
        data = {"serving_default": [{name: window[None]} for window in windows]}
        ranges = made.calibrate(data)
    return bytes(made.quantize(ranges).quantized_model)


def input_name(path: Path) -> str:
    """Return the name of the only input in a TFLite file's signature."""
    from ai_edge_litert.interpreter import Interpreter

    (signature,) = Interpreter(str(path)).get_signature_list().values()
    (name,) = signature["inputs"]
    return str(name)


optimum = partial(in_venv, "optimum", "optimum_int8.py")
nncf = partial(in_venv, "nncf", "nncf_int8.py")
PRODUCTS = {"op_types_to_quantize": ["MatMul", "Gemm"], "per_channel": True}
VARIANTS = {
    ONNX: Variant("onnx", plain_onnx),
    TFLITE: Variant("tflite", plain_tflite),
    "transformers, torch float32": Variant("torch", nothing),
    "ORT quantize_dynamic, default": Variant("onnx", partial(ort_dynamic, {})),
    "ORT dynamic int8, MatMul and Gemm, per channel": Variant(
        "onnx", partial(ort_dynamic, PRODUCTS)
    ),
    "optimum dynamic int8, avx512_vnni": Variant("onnx", partial(optimum, "avx512_vnni")),
    "optimum dynamic int8, arm64": Variant("onnx", partial(optimum, "arm64")),
    "NNCF static int8, default": Variant("onnx", partial(nncf, "plain")),
    "NNCF static int8, transformer": Variant("onnx", partial(nncf, "transformer")),
    "ai-edge-quantizer dynamic_wi8_afp32": Variant("tflite", partial(ai_edge, "dynamic_wi8_afp32")),
    "ai-edge-quantizer static_wi8_ai8": Variant("tflite", partial(ai_edge, "static_wi8_ai8")),
    **OURS,
}
"""In the order they are made: a variant may read the files of those above it."""


def last_line(text: str) -> str:
    """Return the last line that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
