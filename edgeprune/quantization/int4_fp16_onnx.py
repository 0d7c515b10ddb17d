"""ONNX files in fewer bits without calibration: 4-bit weights, and half precision."""

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

BLOCK = 32  # weights of a column that share a scale and a zero
ACCURACY_LEVEL = 4  # the kernel may take activations in int8, a scale a block: the fastest one
LEVELS = 15  # the largest whole number of 4 bits
HALF_MOST = float(np.finfo(np.float16).max)


def weights4(data: bytes, scopes: Scopes, clips: NDArray[np.float32]) -> bytes:
    """Store the weights of matrix products in 4 bits, a scale and a zero for every 32 of them.

    ONNX Runtime's own tool for this needs onnx-ir, which nothing else here does; its operator,
    MatMulNBits, is all that is used of it.

    Parameters
    ----------
    data : bytes
        A float32 ONNX file.
    scopes : Scopes
        Products of ``float_scopes`` stay in float.
    clips : array
        Not read.

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
    """Return what MatMulNBits reads for a matrix: its weights, scales and zeros.

    Parameters
    ----------
    name : str
        Of the matrix; the tensors' names begin with it.
    matrix : array of float32, (rows, columns)
    block : int
        Neighbouring rows of a column that share a scale and a zero; a multiple of 2.

    Returns
    -------
    list of TensorProto
        Weights as uint8 (columns, blocks, block / 2), two in a byte, the first in the low half;
        scales as float32 (columns * blocks); zeros, packed alike.

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
    """Round a matrix to 0..15, a scale and a zero for each block of a column.

    Parameters
    ----------
    matrix : array of float32, (rows, columns)
    block : int

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
    """Turn a file to half precision, but for what half precision would spoil.

    In float stay the samples, the scores, what is outside all modules (the normalisation of the
    samples sums 16,000 squares a second), the modules in ``float_scopes``, and every operator with
    a constant beyond 65,504.

    Parameters
    ----------
    data : bytes
        A float32 ONNX file.
    scopes : Scopes
    clips : array
        Not read.

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
    """Put neighbours along the last axis into one byte, the first in its low half."""
    return np.asarray(values[..., 0::2] | values[..., 1::2] << 4, dtype=np.uint8)


def _sort(graph: onnx.GraphProto) -> None:
    """Put nodes behind those that make what they read, in place.

    The conversion appends its casts, and casts what several nodes read once for each, to one name.
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
