"""4-bit weights and half precision for ONNX files, without calibration."""

from __future__ import annotations

import logging
from graphlib import TopologicalSorter

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from edgeprune.export.onnx_graph import CONTRIBUTED, rewritten
from edgeprune.quantization.module_scopes import Scopes, inside

BLOCK = 32  # weights of a column that share a scale and a zero point
ACCURACY_LEVEL = 4  # lets the kernel use int8 activations, one scale per block: the fastest kernel
LEVELS = 15  # greatest 4-bit integer
HALF_MOST = float(np.finfo(np.float16).max)


def weights4(data: bytes, scopes: Scopes, clips: NDArray[np.float32]) -> bytes:
    """Store the weights of matrix products in 4 bits, with a scale and a zero point per 32 weights.

    Uses ONNX Runtime's operator MatMulNBits, but not its tool, which needs onnx-ir.

    Parameters
    ----------
    data : bytes
        float32 ONNX file.
    scopes : Scopes
        Products of ``float_scopes`` stay in float.
    clips : array
        Not used.

    """
    model = onnx.load_from_string(data)
    graph = model.graph
    matrices = {x.name: x for x in graph.initializer if len(x.dims) == 2}
    nodes: list[onnx.NodeProto] = []
    stored: dict[str, list[TensorProto]] = {}
    for node in graph.node:
        product = node.op_type == "MatMul" and node.input[1] in matrices
        if product and not inside(node.name, scopes.float_scopes):
            name = node.input[1]
            if name not in stored:
                stored[name] = packed(name, numpy_helper.to_array(matrices[name]), BLOCK)
            rows, columns = matrices[name].dims
            nodes.append(helper.make_node(
                "MatMulNBits", [node.input[0], *(x.name for x in stored[name])], list(node.output),
                name=node.name, domain=CONTRIBUTED, K=rows, N=columns, bits=4, block_size=BLOCK,
                accuracy_level=ACCURACY_LEVEL,
            ))  # fmt: skip
        else:
            nodes.append(node)
    return rewritten(model, nodes, (x for tensors in stored.values() for x in tensors))


def packed(name: str, matrix: NDArray[np.float32], block: int) -> list[TensorProto]:
    """Return MatMulNBits' inputs for a matrix: its weights, scales and zero points.

    Parameters
    ----------
    name : str
        Name of the matrix, prefix of the tensors' names.
    matrix : array of float32, (rows, columns)
        Matrix.
    block : int
        Number of neighbouring rows of a column that share a scale and a zero point; even.

    Returns
    -------
    list of TensorProto
        Weights as uint8 (columns, blocks, block / 2), two per byte, the first in the low half;
        scales as float32 (columns * blocks); zero points, packed in the same way.

    """
    whole, scale, zero = to_int4(matrix, block)
    blocks = whole.shape[1]
    pairs = np.pad(zero, ((0, 0), (0, blocks % 2)))
    return [
        numpy_helper.from_array(_in_pairs(whole), f"{name}.int4"),
        numpy_helper.from_array(scale.reshape(-1), f"{name}.scale4"),
        numpy_helper.from_array(_in_pairs(pairs).reshape(-1), f"{name}.zero4"),
    ]


def to_int4(
    matrix: NDArray[np.float32], block: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]:
    """Round a matrix to 0..15, with a scale and a zero point per block of a column.

    Parameters
    ----------
    matrix : array of float32, (rows, columns)
        Matrix.
    block : int
        Rows per block.

    Returns
    -------
    whole : array of uint8, (columns, blocks, block)
    scale : array of float32, (columns, blocks)
    zero : array of uint8, (columns, blocks)

    """
    rows, columns = matrix.shape
    blocks = -(-rows // block)
    values = np.pad(matrix.T, ((0, 0), (0, blocks * block - rows))).reshape(columns, blocks, block)
    low, high = np.minimum(values.min(axis=2), 0), np.maximum(values.max(axis=2), 0)
    scale = np.where(high > low, (high - low) / LEVELS, 1).astype(np.float32)
    zero = np.clip(np.rint(-low / scale), 0, LEVELS)
    whole = np.clip(np.rint(values / scale[..., None]) + zero[..., None], 0, LEVELS)
    return whole.astype(np.uint8), scale, zero.astype(np.uint8)


def half(data: bytes, scopes: Scopes, clips: NDArray[np.float32]) -> bytes:
    """Convert a file to half precision, except where that would lose accuracy.

    The following stay in float: the samples, the scores, everything outside modules (normalization
    sums 16,000 squares per second), the modules in ``float_scopes``, and every operator with a
    constant beyond 65,504.

    Parameters
    ----------
    data : bytes
        float32 ONNX file.
    scopes : Scopes
        Modules of ``float_scopes`` stay in float.
    clips : array
        Not used.

    """
    model = onnx.load_from_string(data)
    del model.graph.value_info[:]  # stale names would be cast
    large = {tensor.name for tensor in model.graph.initializer if _overflows(tensor)}
    large |= {
        node.output[0] for node in model.graph.node if node.op_type == "Constant"
        and any(a.name == "value" and _overflows(a.t) for a in node.attribute)
    }  # fmt: skip
    keep = [
        node.name for node in model.graph.node
        if node.name.count("/") < 2 or inside(node.name, scopes.float_scopes)
        or large & {*node.input, *node.output}
    ]  # fmt: skip
    logging.getLogger("onnxruntime.transformers.float16").setLevel(logging.ERROR)
    smaller = convert_float_to_float16(model, keep_io_types=True, node_block_list=keep)
    del smaller.graph.value_info[:]
    _sort(smaller.graph)
    onnx.checker.check_model(smaller)
    converted: bytes = smaller.SerializeToString()
    return converted


def _in_pairs(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pack neighbours along the last axis into one byte, the first in its low half."""
    return np.asarray(values[..., 0::2] | values[..., 1::2] << 4, dtype=np.uint8)


def _sort(graph: onnx.GraphProto) -> None:
    """Sort nodes topologically, in place.

    The conversion appends its casts at the end, and writes several casts of the same tensor to one
    name.
    """
    nodes = list({node.output[0]: node for node in graph.node}.values())
    makers = {name: number for number, node in enumerate(nodes) for name in node.output}
    needs = {
        number: {makers[name] for name in node.input if name in makers}
        for number, node in enumerate(nodes)
    }
    del graph.node[:]
    graph.node.extend(nodes[number] for number in TopologicalSorter(needs).static_order())


def _overflows(tensor: TensorProto) -> bool:
    if tensor.data_type != TensorProto.FLOAT:
        return False
    values = numpy_helper.to_array(tensor)
    return bool(values.size and np.abs(values).max() > HALF_MOST)
