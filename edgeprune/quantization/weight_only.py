"""Weight-only 8-bit quantization of ONNX files: stored in 8 bits, computed in float.

Every weight of a product or convolution becomes integers and one scale per channel, restored by
Cast and Mul. A runtime folds the two when it loads the file, so accuracy and speed are those of a
float model with rounded weights, on any processor, and the file is a quarter of the size. What int8
would destroy (the fixed matrices of a front end) is stored in half precision.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeprune.quantization.module_scopes import inside

PRODUCTS = ("MatMul", "Gemm", "Conv", "LSTM", "GRU")
LEAST = 256  # smaller tensors cost more in nodes than they save


def store_int8(data: bytes, float_scopes: tuple[str, ...] = ()) -> bytes:
    """Return the same graph with its weights stored in 8 bits, with one scale per output channel.

    Parameters
    ----------
    data : bytes
        float32 ONNX file.
    float_scopes : tuple of str
        Modules whose matrices are stored in half precision instead.

    """
    model = onnx.load_from_string(data)
    graph = model.graph
    constants = {x.name: x for x in graph.initializer}
    axes = dict(_weights(graph, constants, float_scopes))
    nodes: list[onnx.NodeProto] = []
    kept: list[TensorProto] = []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < LEAST:
            kept.append(tensor)
        elif tensor.name in axes:
            small, scale = to_int8(values, axes[tensor.name])
            kept += [_named(small, f"{tensor.name}.int8"), _named(scale, f"{tensor.name}.scale")]
            nodes += _brought_back(tensor.name, scaled=True)
        elif np.abs(values).max() < np.finfo(np.float16).max:
            kept.append(_named(values.astype(np.float16), f"{tensor.name}.half"))
            nodes += _brought_back(tensor.name, scaled=False)
        else:
            kept.append(tensor)
    del graph.initializer[:], graph.value_info[:]
    graph.initializer.extend(kept)
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])
    onnx.checker.check_model(model)
    stored: bytes = model.SerializeToString()
    return stored


def to_int8(
    values: NDArray[np.float32], axis: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:  # fmt: skip
    """Round a weight to -127..127, with one scale per index along an axis.

    Returns
    -------
    whole : array of int8, the weight's shape
    scale : array of float32, 1 along every other axis

    """
    others = tuple(a for a in range(values.ndim) if a != axis)
    largest = np.abs(values).max(axis=others, keepdims=True)
    scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.clip(np.rint(values / scale), -127, 127).astype(np.int8), scale


def _weights(
    graph: onnx.GraphProto, constants: dict[str, TensorProto], float_scopes: tuple[str, ...]
) -> Iterator[tuple[str, int]]:
    """Yield the name of each weight of a product, and the axis of its output channels."""
    for node in graph.node:
        if node.op_type not in PRODUCTS or inside(node.name, float_scopes):
            continue
        for name in node.input[1:3] if node.op_type in ("LSTM", "GRU") else node.input[:2]:
            if name in constants and len(constants[name].dims) > 1:
                turned = any(a.name == "transB" and a.i for a in node.attribute)
                last = len(constants[name].dims) - 1
                by_row = node.op_type == "Conv" or turned
                yield name, 1 if node.op_type in ("LSTM", "GRU") else 0 if by_row else last


def _brought_back(name: str, *, scaled: bool) -> list[onnx.NodeProto]:
    if not scaled:
        return [helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT)]
    cast = helper.make_node("Cast", [f"{name}.int8"], [f"{name}.float"], to=TensorProto.FLOAT)
    return [cast, helper.make_node("Mul", [f"{name}.float", f"{name}.scale"], [name])]


def _named(values: NDArray[np.generic], name: str) -> TensorProto:
    tensor: TensorProto = numpy_helper.from_array(np.ascontiguousarray(values), name)
    return tensor
