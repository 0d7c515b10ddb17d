"""ONNX graphs written by hand: two products named as modules, for what quantizes files."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeprune.export.onnx import INPUT, OUTPUT

FIRST, SECOND = "/encoder/first/MatMul", "/head/second/MatMul"
SIZES = (64, 96, 8)


def matrices(seed: int = 0) -> list[NDArray[np.float32]]:
    generator = np.random.default_rng(seed)
    return [
        (generator.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)
        for shape in pairwise(SIZES)
    ]


def two_products(weights: list[NDArray[np.float32]] | None = None, most: float = 1e4) -> bytes:
    """Return scores = relu(samples @ w0) @ w1, times the first of a constant that holds ``most``."""
    weights = weights or matrices()
    nodes = [
        helper.make_node("MatMul", [INPUT, "w0"], ["wide"], name=FIRST),
        helper.make_node("Relu", ["wide"], ["bent"], name="/encoder/relu/Relu"),
        helper.make_node("MatMul", ["bent", "w1"], ["plain"], name=SECOND),
        helper.make_node("Gather", ["most", "zero"], ["one"], name="/head/pick/Gather"),
        helper.make_node("Mul", ["plain", "one"], [OUTPUT], name="/head/scale/Mul"),
    ]
    constants = [numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights)]
    constants.append(numpy_helper.from_array(np.array([1.0, most], np.float32), "most"))
    constants.append(numpy_helper.from_array(np.array(0, np.int64), "zero"))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "two", [value(INPUT, TensorProto.FLOAT, [1, SIZES[0]])],
        [value(OUTPUT, TensorProto.FLOAT, [1, SIZES[-1]])], constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    data: bytes = model.SerializeToString()
    return data


def answers_by_hand(
    samples: NDArray[np.float32], weights: list[NDArray[np.float32]] | None = None
) -> NDArray[np.float64]:
    first, second = (w.astype(np.float64) for w in weights or matrices())
    return np.asarray(np.maximum(0, samples @ first) @ second)


def sounds(count: int = 20, seed: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-1, 1, (count, SIZES[0])).astype(np.float32)


def operators(data: bytes) -> dict[str, list[str]]:
    """Return the names of a file's nodes by operator."""
    found: dict[str, list[str]] = {}
    for node in onnx.load_from_string(data).graph.node:
        found.setdefault(node.op_type, []).append(node.name)
    return found


def kinds_of(data: bytes) -> dict[str, int]:
    """Return the element type of every constant, by name."""
    return {x.name: x.data_type for x in onnx.load_from_string(data).graph.initializer}
