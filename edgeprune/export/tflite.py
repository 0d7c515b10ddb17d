"""Export a model to TFLite: raw samples of one window in, scores out, as in ``export_onnx``.

litert-torch converts what ``torch.export`` traces. It is an extra of its own (``edgeprune[tflite]``,
0.9 GB) and imported when a file is made; what it prints is shown only where it fails. A sequence of
LSTM steps is written out one by one, everything else becomes builtin operators of a fixed window.
"""

from __future__ import annotations

import importlib
import re
import sys
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeprune.export.bundle_writer import output_shape
from edgeprune.export.model_rewrites import shape
from edgeprune.export.onnx import INPUT, MOST_BYTES, OUTPUT, Scorer
from edgeprune_device.errors import FAILED_CHECK, NOT_INSTALLED, EdgepruneError
from edgeprune_device.system.native_output import quiet

MOST_STEPS = 16
"""Of an LSTM: 12 take 17 s to convert, 25 more than 7 minutes."""
UNKNOWN_OPERATOR = re.compile(r"Lowering not found: (?:aten\.)?(\S+)")


class Named(nn.Module):
    """A scorer whose output has a name: the converter keeps the names of keywords and keys."""

    def __init__(self, scorer: Scorer) -> None:
        super().__init__()
        self.scorer = scorer

    def forward(self, samples: Tensor) -> dict[str, Tensor]:
        """Scores of samples (1, window), under the name the manifest has for them."""
        return {OUTPUT: self.scorer(samples)}


def to_tflite(classifier: Any, window_samples: int) -> bytes:
    """Return the TFLite file of a classifier; the model itself stays as it is.

    Parameters
    ----------
    classifier : transformers.PreTrainedModel
        As ``load_model`` gives it: a family that cannot be traced with fused attention is
        loaded with plain attention there.
    window_samples : int
        Samples of the one window the file takes.

    Raises
    ------
    EdgepruneError
        litert-torch is not installed (status 3), does not know one of the model's operators or
        would make a file over 2 GB (2), or fails otherwise (1).

    """
    _check_size(sum(p.numel() * p.element_size() for p in classifier.parameters()))
    _check_steps(classifier, window_samples)
    module = Named(Scorer(shape(classifier, window_samples, "tflite"))).eval()
    data = convert(module, {INPUT: torch.randn(1, window_samples) * 0.1})
    _check_size(len(data))
    return data


def convert(module: nn.Module, inputs: dict[str, Tensor]) -> bytes:
    """Return the TFLite file of a module with named inputs and outputs.

    Parameters
    ----------
    module : torch.nn.Module
        Takes ``inputs`` as keywords and returns a dictionary of tensors.
    inputs : dict
        Name to a tensor of the shape that the file is for.

    Raises
    ------
    EdgepruneError
        See ``to_tflite``.

    """
    failed: Exception | None = None
    data = b""
    with quiet() as said, warnings.catch_warnings():  # of torch, torchao and jax, to each other
        warnings.simplefilter("ignore")
        litert_torch = _litert_torch()
        try:
            data = litert_torch.convert(module, sample_kwargs=inputs).model_content()
        except Exception as error:  # torch, jax and MLIR raise their own types, of no common base
            failed = error
    if failed is None:
        return data
    if found := UNKNOWN_OPERATOR.search(str(failed)):
        raise EdgepruneError(
            f"litert-torch does not know the operator {found[1]}, which this model uses.",
            "Make an ONNX file of it (--format onnx).",
        ) from failed
    sys.stderr.write("".join(said))
    reason = (str(failed).strip() or type(failed).__name__).splitlines()[0][:200]
    raise EdgepruneError(
        f"litert-torch could not convert this model: {reason}",
        "What it printed stands above; an ONNX file (--format onnx) does not need it.",
        FAILED_CHECK,
    ) from failed


def tflite_runner(data: bytes) -> Any:
    """Return a function from samples (1, window) to scores (1, ...) for a TFLite file."""
    with quiet():  # "Created TensorFlow Lite XNNPACK delegate for CPU."
        interpreter_class = importlib.import_module("ai_edge_litert.interpreter").Interpreter
        interpreter = interpreter_class(model_content=data, num_threads=1)
        interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    target = interpreter.get_output_details()[0]["index"]

    def run(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        interpreter.set_tensor(source, np.asarray(samples, dtype=np.float32))
        interpreter.invoke()
        return np.array(interpreter.get_tensor(target), dtype=np.float32)

    return run


def _litert_torch() -> Any:
    try:
        return importlib.import_module("litert_torch")
    except ImportError:
        raise EdgepruneError(
            "TFLite files need litert-torch, which is not installed.",
            "pip install 'edgeprune[tflite]'", NOT_INSTALLED,
        ) from None  # fmt: skip


def _check_steps(classifier: Any, window_samples: int) -> None:
    """Raise where an LSTM would be written out step by step for longer than anybody waits."""
    if not any(isinstance(part, nn.LSTM) for part in classifier.modules()):
        return
    steps = output_shape(classifier, window_samples)[1]
    if steps > MOST_STEPS:
        raise EdgepruneError(
            f"TFLite files write an LSTM out step by step, and this one has {steps} steps a window; "
            f"{MOST_STEPS} are the most.",
            "Make an ONNX file of it (--format onnx), or teach another head (teach.head).",
        )


def _check_size(size: int) -> None:
    if size > MOST_BYTES:
        raise EdgepruneError(
            f"The TFLite file would have {size / 1e9:.1f} GB; 2 GB is the most.",
            "Drop layers or narrow the model first.",
        )
