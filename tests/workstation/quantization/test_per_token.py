"""int8 products with a scale for every frame: numpy's arithmetic is the oracle."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeprune.export.onnx import INPUT, OUTPUT, onnx_runner
from edgeprune.quantization.per_token import per_token_int8

ROWS, COLUMNS, OUT = 6, 32, 16
SCOPE = "encoder/convs"


def graph(weights: list[NDArray[np.float32]]) -> bytes:
    """Return a graph of two products: of all rows, and of the first half of all but the first."""
    ends = {
        "starts": [1],
        "ends": [ROWS],
        "axes": [1],
        "half": [COLUMNS // 2],
        "zero": [0],
        "last": [2],
    }
    constants = [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in ends.items()]
    constants += [numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights)]
    nodes = [
        helper.make_node("MatMul", [INPUT, "w0"], ["y0"], name=f"/{SCOPE}.0/parts.0/MatMul"),
        helper.make_node("Slice", [INPUT, "starts", "ends", "axes"], ["later"]),
        helper.make_node("Slice", ["later", "zero", "half", "last"], ["part"]),
        helper.make_node("MatMul", ["part", "w1"], ["y1"], name=f"/{SCOPE}.0/parts.1/MatMul"),
        helper.make_node("Concat", ["y0", "y1"], [OUTPUT], axis=1),
    ]
    made = helper.make_graph(
        nodes, "two", [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [1, ROWS, COLUMNS])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [1, 2 * ROWS - 1, OUT])], constants,
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    data: bytes = model.SerializeToString()
    return data


@pytest.fixture(scope="module")
def weights() -> list[NDArray[np.float32]]:
    generator = np.random.default_rng(0)
    shapes = ((COLUMNS, OUT), (COLUMNS // 2, OUT))
    return [generator.standard_normal(shape).astype(np.float32) for shape in shapes]


@pytest.fixture(scope="module")
def frames() -> NDArray[np.float32]:
    """Loud and quiet frames, and one of zeros."""
    levels = np.array([1e-3, 1.0, 0.0, 100.0, 1e-2, 10.0])[:, None]
    noise = np.random.default_rng(1).standard_normal((ROWS, COLUMNS))
    return (levels * noise).astype(np.float32)[None]


def expected(x: NDArray[np.float32], weights: list[NDArray[np.float32]]) -> NDArray[np.float64]:
    scale = np.maximum(np.abs(x).max(axis=-1, keepdims=True), 1e-6)
    rows = np.rint(127 * (x / scale))

    def product(
        rows: NDArray[np.float64], scale: NDArray[np.float32], w: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        columns = np.abs(w).max(axis=0) / 127
        return np.asarray(scale * (rows @ np.rint(w / columns)) * columns / 127)

    later = product(rows[:, 1:, : COLUMNS // 2], scale[:, 1:], weights[1])
    return np.concatenate([product(rows, scale, weights[0]), later], axis=1)


def test_every_frame_has_a_scale_of_its_own(
    frames: NDArray[np.float32], weights: list[NDArray[np.float32]]
) -> None:
    found = onnx_runner(per_token_int8(graph(weights), [SCOPE]))(frames)
    size = np.abs(expected(frames, weights)).max(axis=-1, keepdims=True) + 1e-12
    np.testing.assert_allclose(found / size, expected(frames, weights) / size, atol=0.02)


def test_quiet_frames_are_as_right_as_loud_ones(
    frames: NDArray[np.float32], weights: list[NDArray[np.float32]]
) -> None:
    exact = onnx_runner(graph(weights))(frames)[0, :ROWS]
    found = onnx_runner(per_token_int8(graph(weights), [SCOPE]))(frames)[0, :ROWS]
    heard = np.abs(exact).max(axis=1) > 0
    wrong = np.abs(found - exact).max(axis=1)[heard] / np.abs(exact).max(axis=1)[heard]
    assert wrong.max() < 0.03
    assert not found[~heard].any()


def test_rows_that_two_products_read_are_quantized_once(weights: list[NDArray[np.float32]]) -> None:
    made = onnx.load_from_string(per_token_int8(graph(weights), [SCOPE])).graph
    kinds = [node.op_type for node in made.node]
    assert kinds.count("QuantizeLinear") == 1
    assert kinds.count("MatMulIntegerToFloat") == 2
    stored = {t.name: t.data_type for t in made.initializer}
    assert sum(kind == TensorProto.INT8 for name, kind in stored.items() if "weight" in name) == 2
    assert not {"w0", "w1"} & set(stored)


def test_products_outside_the_scopes_stay_as_they_are(weights: list[NDArray[np.float32]]) -> None:
    data = graph(weights)
    assert per_token_int8(data, ["decoder"]) == data
    assert per_token_int8(data, []) == data
