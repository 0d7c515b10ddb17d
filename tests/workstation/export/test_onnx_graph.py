"""ONNX files taken apart: one thread, what is inside, and put together without what nobody reads."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprune.export.onnx_graph import CONTRIBUTED, inner_tensors, open_file, rewritten

SIZE = 4


def made() -> onnx.ModelProto:
    """Write scores = relu(samples * 2) + 3, with a constant that nobody reads."""
    nodes = [
        helper.make_node("Mul", ["samples", "two"], ["doubled"]),
        helper.make_node("Relu", ["doubled"], ["frames"]),
        helper.make_node("Add", ["frames", "three"], ["scores"]),
    ]
    value = helper.make_tensor_value_info
    sides = [[value(name, TensorProto.FLOAT, [1, SIZE])] for name in ("samples", "scores")]
    constants = [numpy_helper.from_array(np.full(SIZE, x, np.float32), name)
                 for x, name in ((2.0, "two"), (3.0, "three"), (9.0, "unread"))]  # fmt: skip
    graph = helper.make_graph(nodes, "g", *sides, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def names_in(data: bytes) -> set[str]:
    return {tensor.name for tensor in onnx.load_from_string(data).graph.initializer}


def test_a_file_runs_on_one_thread() -> None:
    options = open_file(made().SerializeToString()).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)


def test_tensors_inside_are_what_the_nodes_before_them_make_clip_by_clip() -> None:
    clips = np.random.default_rng(0).standard_normal((3, SIZE)).astype(np.float32)
    found = list(inner_tensors(made().SerializeToString(), ["frames", "scores", "doubled"], clips))
    assert len(found) == 3
    for clip, seen in zip(clips, found, strict=True):
        assert list(seen) == ["frames", "scores", "doubled"]
        np.testing.assert_allclose(seen["doubled"][0], 2 * clip)
        np.testing.assert_allclose(seen["frames"][0], np.maximum(0, 2 * clip))
        np.testing.assert_allclose(seen["scores"][0], np.maximum(0, 2 * clip) + 3)


def test_looking_inside_leaves_the_file_as_it_was() -> None:
    data = made().SerializeToString()
    list(inner_tensors(data, ["frames"], np.zeros((1, SIZE), np.float32)))
    assert data == made().SerializeToString()


def test_constants_that_no_node_reads_are_left_out_and_added_ones_are_there() -> None:
    model = made()
    nodes = [node for node in model.graph.node if node.op_type != "Relu"]
    nodes[-1].input[:] = ["doubled", "five"]
    five = numpy_helper.from_array(np.full(SIZE, 5.0, np.float32), "five")
    data = rewritten(model, nodes, [five])
    assert names_in(data) == {"two", "five"}
    samples = np.array([[-1.0, 0, 1, 2]], np.float32)
    (scores,) = open_file(data).run(None, {"samples": samples})
    np.testing.assert_allclose(scores, 2 * samples + 5)


@pytest.mark.parametrize("there", [False, True])
def test_the_runtimes_own_operators_bring_their_domain_once(there: bool) -> None:
    model = made()
    if there:
        model.opset_import.append(helper.make_opsetid(CONTRIBUTED, 1))
    nodes = list(model.graph.node)
    plain = rewritten(made(), list(made().graph.node), ())
    assert [x.domain for x in onnx.load_from_string(plain).opset_import] == [""]
    nodes[1] = helper.make_node("Gelu", ["doubled"], ["frames"], domain=CONTRIBUTED)
    data = rewritten(model, nodes, ())
    assert [x.domain for x in onnx.load_from_string(data).opset_import] == ["", CONTRIBUTED]
    samples = np.array([[-1.0, 0, 1, 2]], np.float32)
    (scores,) = open_file(data).run(None, {"samples": samples})
    assert scores[0, 1] == pytest.approx(3.0)
    assert scores[0, 0] == pytest.approx(3.0 - 0.0455, abs=1e-3)  # -2 Phi(-2)
