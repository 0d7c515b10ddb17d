"""The ways of making a file that `graphs.py` measures side by side: one literal table.

A variant is a function from what there is of a model (`Work`) to the bytes of a .onnx or .tflite
file. The float32 files come first, since the others are made from them. Peers that cannot live in
our environment run in one of their own, made once under `PEERS`.
"""

from __future__ import annotations

import copy
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic

from edgeprune.export_onnx import Scorer, fold_weight_norm, to_onnx
from edgeprune.families import family_of
from edgeprune.quantize import METHODS

HERE = Path(__file__).resolve().parent / "peers_graphs"
PEERS = Path("/tmp/edgeprune-peers")
VENVS = {
    "optimum": ("torch==2.13.0", "optimum-onnx[onnxruntime]==0.1.0", "transformers<4.58"),
    "nncf": ("nncf==3.4.0", "onnx", "onnxruntime==1.31.1"),
}
"""Environment -> what pip installs in it, in this order."""
OPSET = 18


@dataclass(frozen=True)
class Work:
    """What there is of a model at a window when a variant is made."""

    classifier: Any
    window_samples: int
    files: dict[str, Path]
    """Variants made so far: name -> model file."""
    calibration: Path
    """A .npy of real windows (n, window)."""

    @property
    def float_scopes(self) -> tuple[str, ...]:
        """Modules whose products stay in float."""
        return family_of(self.classifier.config.model_type).float_scopes

    def bytes_of(self, name: str) -> bytes:
        """Read a variant that was made before."""
        return self.files[name].read_bytes()


@dataclass(frozen=True)
class Variant:
    """A row of the table."""

    format: str
    """``onnx``, ``tflite``, or ``torch``: nothing is made, transformers itself is measured."""
    make: Callable[[Work], bytes]
    ours: bool = False
    """Whether it is edgeprune's own way, not a peer's."""


ONNX, TFLITE = "ORT float32, as exported", "LiteRT float32, as exported"


def plain_onnx(work: Work) -> bytes:
    """Export by torch.onnx."""
    return to_onnx(work.classifier, work.window_samples, OPSET)


def plain_tflite(work: Work) -> bytes:
    """Convert by litert-torch."""
    import litert_torch

    folded = copy.deepcopy(work.classifier).eval()
    fold_weight_norm(folded)
    made = litert_torch.convert(
        Scorer(folded).eval(), (torch.randn(1, work.window_samples) * 0.1,)
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        made.export(f"{folder}/model.tflite")
        return Path(folder, "model.tflite").read_bytes()


def nothing(_work: Work) -> bytes:
    """Make no file: torch runs the model folder."""
    return b""


def ort_default(work: Work) -> bytes:
    """Quantize as ONNX Runtime does when it is not told what to leave alone."""
    graph = onnx.load_from_string(work.bytes_of(ONNX))
    del graph.graph.value_info[:]  # stale shapes make the quantizer's own inference fail
    logging.disable(logging.WARNING)  # it advises a preprocessing
    try:
        with tempfile.TemporaryDirectory() as folder:
            quantize_dynamic(graph, f"{folder}/model.onnx", weight_type=QuantType.QInt8)
            return Path(folder, "model.onnx").read_bytes()
    finally:
        logging.disable(logging.NOTSET)


def in_venv(venv: str, script: str, option: str, work: Work) -> bytes:
    """Run a script of ``peers_graphs/`` on the plain ONNX file in an environment of its own."""
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
    """Return an environment's Python; make the environment if it is not there."""
    folder = PEERS / venv
    python, ready = folder / "bin/python", folder / "ready"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        for requirement in VENVS[venv]:  # torch alone first, so that it is the one for processors
            subprocess.run([str(python), "-m", "pip", "-q", "install", requirement], check=True)
        ready.touch()
    return python


def ai_edge(recipe_name: str, work: Work) -> bytes:
    """Quantize by one of ai-edge-quantizer's own recipes; static ones keep float at both ends."""
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
    """Return the name of the one input in a TFLite file's signature."""
    from ai_edge_litert.interpreter import Interpreter

    (signature,) = Interpreter(str(path)).get_signature_list().values()
    (name,) = signature["inputs"]
    return str(name)


def own(method: str, work: Work) -> bytes:
    """Quantize the plain ONNX file by one of edgeprune's own methods."""
    return METHODS[method](work.bytes_of(ONNX), work.float_scopes)


optimum = partial(in_venv, "optimum", "optimum_int8.py")
nncf = partial(in_venv, "nncf", "nncf_int8.py")
VARIANTS = {
    ONNX: Variant("onnx", plain_onnx),
    TFLITE: Variant("tflite", plain_tflite),
    "transformers, torch float32": Variant("torch", nothing),
    "ORT quantize_dynamic, default": Variant("onnx", ort_default),
    "optimum dynamic int8, avx512_vnni": Variant("onnx", partial(optimum, "avx512_vnni")),
    "optimum dynamic int8, arm64": Variant("onnx", partial(optimum, "arm64")),
    "NNCF static int8, default": Variant("onnx", partial(nncf, "plain")),
    "NNCF static int8, transformer": Variant("onnx", partial(nncf, "transformer")),
    "ai-edge-quantizer dynamic_wi8_afp32": Variant("tflite", partial(ai_edge, "dynamic_wi8_afp32")),
    "ai-edge-quantizer static_wi8_ai8": Variant("tflite", partial(ai_edge, "static_wi8_ai8")),
    "edgeprune ONNX, dynamic": Variant("onnx", partial(own, "dynamic"), ours=True),
    "edgeprune ONNX, weights": Variant("onnx", partial(own, "weights"), ours=True),
}  # fmt: skip


def last_line(text: str) -> str:
    """Return the last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
