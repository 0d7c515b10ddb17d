"""4-bit weights and half precision: what the operators read, and what must stay in float."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hand_graphs import (
    FIRST,
    SECOND,
    SIZES,
    answers_by_hand,
    kinds_of,
    matrices,
    operators,
    sounds,
    two_products,
)
from onnx import TensorProto, helper

from edgeprune.export.onnx import onnx_runner
from edgeprune.quantization.int4_fp16_onnx import BLOCK, half, packed, to_int4, weights4
from edgeprune.quantization.module_scopes import Scopes


def test_4_bit_weights_are_within_half_a_step_and_the_operator_reads_them_so() -> None:
    """The oracle: a product with the matrix that the whole numbers stand for."""
    matrix = np.random.default_rng(0).standard_normal((80, 6)).astype(np.float32)
    whole, scale, zero = to_int4(matrix, 32)
    values = (whole - zero[..., None].astype(np.float32)) * scale[..., None]
    stood_for = values.reshape(6, -1)[:, :80].T
    step = np.repeat(scale, 32, axis=1)[:, :80].T
    assert (np.abs(stood_for - matrix) <= 1.001 * step).all()  # the zero is rounded, too
    tensors = packed("w", matrix, 32)
    node = helper.make_node(
        "MatMulNBits", ["x", *(t.name for t in tensors)], ["y"], domain="com.microsoft",
        K=80, N=6, bits=4, block_size=32,
    )  # fmt: skip
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 80])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6])], tensors,
    )  # fmt: skip
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=domains, ir_version=10)
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString())
    x = np.random.default_rng(1).standard_normal((1, 80)).astype(np.float32)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], x @ stood_for, atol=1e-4)


def test_products_in_4_bits_answer_as_the_matrices_they_stand_for() -> None:
    data = weights4(two_products(), Scopes(float_scopes=("second",)), sounds())
    assert operators(data)["MatMulNBits"] == [FIRST]
    assert operators(data)["MatMul"] == [SECOND]
    assert "w0" not in kinds_of(data)
    whole, scale, zero = to_int4(matrices()[0], BLOCK)
    values = (whole - zero[..., None].astype(np.float32)) * scale[..., None]
    rounded = values.reshape(len(values), -1)[:, : SIZES[0]].T
    run = onnx_runner(data)
    found = np.concatenate([run(clip[None]) for clip in sounds()])
    expected = answers_by_hand(sounds(), [rounded, matrices()[1]])
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()  # int8 activations


def test_a_matrix_that_two_products_read_is_stored_once() -> None:
    model = onnx.load_from_string(two_products())
    again = onnx.NodeProto()
    again.CopyFrom(model.graph.node[0])
    again.name, again.output[0] = "/encoder/again/MatMul", "unused"
    model.graph.node.append(again)
    small = onnx.load_from_string(weights4(model.SerializeToString(), Scopes(), sounds()))
    names = [tensor.name for tensor in small.graph.initializer]
    assert len([x for x in names if x.startswith("w0.")]) == 3  # weights, scales and zeros
    assert len(names) == len(set(names))


@pytest.mark.parametrize("rows", [1, 31, 32, 33, 64])
def test_columns_of_any_length_and_of_one_value_are_rounded(rows: int) -> None:
    matrix = np.full((rows, 2), 0.75, np.float32)
    matrix[:, 1] = 0
    whole, scale, zero = to_int4(matrix, 32)
    values = ((whole - zero[..., None].astype(np.float32)) * scale[..., None]).reshape(2, -1)
    np.testing.assert_allclose(values[0, :rows], 0.75, atol=1e-6)
    assert not values[1].any()
    assert whole.max() <= 15


def test_half_precision_answers_nearly_alike_with_float_at_both_ends() -> None:
    data = half(two_products(), Scopes(), sounds())
    assert kinds_of(data)["w0"] == TensorProto.FLOAT16
    run = onnx_runner(data)
    found = np.concatenate([run(clip[None]) for clip in sounds()])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, answers_by_hand(sounds()), atol=5e-3)


def test_what_half_precision_would_spoil_stays_in_float() -> None:
    """A module that hears raw samples, and an operator whose constant is beyond 65,504."""
    for most, kind in ((1e4, TensorProto.FLOAT16), (1e5, TensorProto.FLOAT)):
        data = half(two_products(most=most), Scopes(float_scopes=("first",)), sounds())
        kinds = kinds_of(data)
        assert (kinds["most"], kinds["w0"]) == (kind, TensorProto.FLOAT)
        assert kinds["w1"] == TensorProto.FLOAT16
        found = onnx_runner(data)(sounds()[:1])
        np.testing.assert_allclose(found, answers_by_hand(sounds()[:1]), atol=5e-3)


def test_nodes_stand_behind_those_they_read_from() -> None:
    graph = onnx.load_from_string(half(two_products(), Scopes(), sounds())).graph
    there = {tensor.name for tensor in graph.initializer} | {x.name for x in graph.input}
    for node in graph.node:
        assert set(node.input) <= there, node.name
        there |= set(node.output)
