"""Dynamic int8 for ONNX Runtime: int8 weights, activations quantized at run time.

Only MatMul, Gemm and positional convolutions are quantized, per channel. ONNX Runtime's default
would also quantize the first convolution of a waveform encoder, and use one scale per window
everywhere, which makes these models both slower and less accurate (see
docs/explanation/int8-convolutions.md).
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from edgeprune.quantization.grouped_conv import grouped_int8
from edgeprune.quantization.module_scopes import inside
from edgeprune.quantization.per_token import per_token_int8

INT8_OPERATORS = ["MatMul", "Gemm"]


def to_int8(
    data: bytes, float_scopes: tuple[str, ...] = (), row_scopes: tuple[str, ...] = ()
) -> bytes:
    """Quantize an ONNX file's matrix products to int8 weights, per channel.

    Positional convolutions are converted to such products first (``grouped_conv``).

    Parameters
    ----------
    data : bytes
        float32 ONNX file.
    float_scopes : tuple of str
        Modules whose products stay in float.
    row_scopes : tuple of str
        Modules whose activations have one scale per frame (``per_token``) instead of per window.

    """
    graph = onnx.load_from_string(grouped_int8(data))
    del graph.graph.value_info[:]  # stale shapes make the quantizer's own inference fail
    apart = (*float_scopes, *row_scopes)
    keep = [node.name for node in graph.graph.node if inside(node.name, apart)]
    keep += [f"{name}_MatMul" for name in keep]  # the quantizer converts Gemm and renames it
    with tempfile.TemporaryDirectory() as folder, no_advice():
        target = Path(folder) / "int8.onnx"
        quantize_dynamic(
            graph, target, op_types_to_quantize=INT8_OPERATORS, per_channel=True,
            weight_type=QuantType.QInt8, nodes_to_exclude=keep,
        )  # fmt: skip
        return per_token_int8(target.read_bytes(), row_scopes)


@contextmanager
def no_advice() -> Iterator[None]:
    """Suppress the quantizer's advice to preprocess, which these graphs do not need."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
