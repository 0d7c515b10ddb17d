"""Export of a model to TFLite: raw samples of one window in, scores out, as in ``export.onnx``.

litert-torch converts what ``torch.export`` traces. It is a separate extra (``edgeprune[tflite]``,
0.9 GB) and imported when a file is made; its output is shown only if it fails. An LSTM is unrolled
over its time steps; everything else becomes builtin operators for a fixed window.
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
from edgeprune_device.system.native_output import capture_native_output

MOST_STEPS = 16
"""Most time steps of an LSTM: 12 take 17 s to convert, 25 more than 7 minutes."""
UNKNOWN_OPERATOR = re.compile(r"Lowering not found: (?:aten\.)?(\S+)")


class Named(nn.Module):
    """A scorer with a named output: the converter keeps the names of keywords and keys."""

    def __init__(self, scorer: Scorer) -> None:
        super().__init__()
        self.scorer = scorer

    def forward(self, samples: Tensor) -> dict[str, Tensor]:
        """Return the scores of samples (1, window), under the manifest's name for them."""
        return {OUTPUT: self.scorer(samples)}


def to_tflite(classifier: Any, window_samples: int) -> bytes:
    """Return the TFLite file of a classifier; the model is not changed.

    Parameters
    ----------
    classifier : transformers.PreTrainedModel
        Model as returned by ``load_model``, which selects an attention implementation that can be
        traced.
    window_samples : int
        Samples per window.

    Raises
    ------
    EdgepruneError
        litert-torch is not installed (status 3), does not support an operator of the model or would
        make a file over 2 GB (2), or fails otherwise (1).

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
        Name -> example tensor, which fixes the shape.

    Raises
    ------
    EdgepruneError
        See ``to_tflite``.

    """
    failed: Exception | None = None
    data = b""
    # Warnings of torch, torchao and jax.
    with capture_native_output() as said, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        litert_torch = _litert_torch()
        try:
            data = litert_torch.convert(module, sample_kwargs=inputs).model_content()
        except Exception as error:  # torch, jax and MLIR have no common exception type
            failed = error
    if failed is None:
        return data
    if found := UNKNOWN_OPERATOR.search(str(failed)):
        raise EdgepruneError(
            f"litert-torch does not support the operator {found[1]}, which this model uses.",
            "Use --format onnx.",
        ) from failed
    sys.stderr.write("".join(said))
    reason = (str(failed).strip() or type(failed).__name__).splitlines()[0][:200]
    raise EdgepruneError(
        f"litert-torch cannot convert this model: {reason}",
        "Its output is shown above. --format onnx does not need litert-torch.",
        FAILED_CHECK,
    ) from failed


def tflite_runner(data: bytes) -> Any:
    """Return a function from samples (1, window) to scores for a TFLite file."""
    with capture_native_output():  # "Created TensorFlow Lite XNNPACK delegate for CPU."
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
    """Raise if an LSTM has too many time steps to be unrolled in reasonable time."""
    if not any(isinstance(part, nn.LSTM) for part in classifier.modules()):
        return
    steps = output_shape(classifier, window_samples)[1]
    if steps > MOST_STEPS:
        raise EdgepruneError(
            f"TFLite files unroll an LSTM, and this one has {steps} time steps per window (at most "
            f"{MOST_STEPS}).",
            "Use --format onnx, or another head (teach.head).",
        )


def _check_size(size: int) -> None:
    if size > MOST_BYTES:
        raise EdgepruneError(
            f"The TFLite file would have {size / 1e9:.1f} GB (allowed: at most 2 GB).",
            "Remove layers or trim the model first.",
        )
