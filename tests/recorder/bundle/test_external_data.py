"""Weights in other files: found in any corner of a model, without the onnx package."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from repository import shared

from edgeprune_device.bundle import external_data
from edgeprune_device.bundle.external_data import external_problem
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.bundle.writer import write_bundle
from edgeprune_device.errors import EdgepruneError


def outside(name: str = "w") -> Any:
    """Return a tensor whose data stand in another file, as onnx writes it."""
    tensor = numpy_helper.from_array(np.ones(4, np.float32), name)
    onnx.external_data_helper.set_external_data(tensor, "../../etc/passwd", 0, 16)
    tensor.ClearField("raw_data")
    return tensor


def graph(nodes: list[Any] = [], tensors: list[Any] = []) -> Any:  # noqa: B006
    return helper.make_graph(nodes, "g", [], [], tensors)


def model_of(**given: Any) -> Any:
    return helper.make_model(graph(**given))


def constant(**given: Any) -> Any:
    node = helper.make_node("Constant", [], ["c"])
    node.attribute.extend([helper.make_attribute(k, v) for k, v in given.items()])
    return node


def models() -> dict[str, Any]:
    inner = graph(tensors=[outside()])
    deep = graph([helper.make_node("Loop", [], [], body=inner)])
    sparse = onnx.SparseTensorProto(values=outside(), indices=numpy_helper.from_array(np.arange(4)))
    in_indices = onnx.SparseTensorProto(
        values=numpy_helper.from_array(np.ones(4, np.float32)), indices=outside()
    )
    function = helper.make_function(
        "f", "F", [], ["c"], [constant(value=outside())], [helper.make_opsetid("", 17)]
    )
    with_function, with_training, with_sparse, second = (model_of() for _ in range(4))
    with_function.functions.append(function)
    with_training.training_info.add().algorithm.CopyFrom(inner)
    with_sparse.graph.sparse_initializer.append(in_indices)
    second.graph.initializer.extend([numpy_helper.from_array(np.ones(9), "a"), outside()])
    only_place, only_data = outside(), outside()
    only_place.ClearField("external_data")
    only_data.ClearField("data_location")
    lists = helper.make_node("Constant", [], ["c"])
    lists.attribute.add(name="t", type=onnx.AttributeProto.TENSORS).tensors.append(outside())
    graphs = helper.make_node("If", [], ["c"])
    graphs.attribute.add(name="g", type=onnx.AttributeProto.GRAPHS).graphs.append(inner)
    return {
        "an initializer": model_of(tensors=[outside()]), "the second initializer": second,
        "an attribute": model_of(nodes=[constant(value=outside())]),
        "a list of tensors": model_of(nodes=[lists]), "a list of graphs": model_of(nodes=[graphs]),
        "a sparse attribute": model_of(nodes=[constant(sparse_value=sparse)]),
        "a sparse initializer's places": with_sparse,
        "a branch": model_of(nodes=[helper.make_node("If", ["c"], [], then_branch=inner)]),
        "a loop in a branch": model_of(nodes=[helper.make_node("If", ["c"], [], else_branch=deep)]),
        "a function": with_function, "training": with_training,
        "a location without data": model_of(tensors=[only_place]),
        "data without a location": model_of(tensors=[only_data]),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(models()))
def test_external_data_are_found_wherever_onnx_can_put_them(name: str) -> None:
    data = models()[name].SerializeToString()
    assert "external data" in external_problem("onnx", data)


def test_a_graph_written_in_two_halves_is_refused() -> None:
    """Protobuf puts repeated fields together, so that half of a graph could hide behind another."""
    data = model_of().SerializeToString() + model_of(tensors=[outside()]).SerializeToString()
    assert external_problem("onnx", data)
    harmless = model_of().SerializeToString()
    assert external_problem("onnx", harmless) == ""
    assert external_problem("onnx", harmless + harmless)


def test_a_bundle_whose_model_keeps_weights_elsewhere_is_refused(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    read = read_bundle(tiny_bundle)
    model = onnx.load_from_string(read.model_bytes)
    model.graph.initializer[0].CopyFrom(outside(model.graph.initializer[0].name))
    files = {name: (tiny_bundle / name).read_bytes() for name in read.manifest["files"]}
    with pytest.raises(EdgepruneError, match="keeps weights in another file"):
        write_bundle(
            tmp_path / "b", read.manifest, {**files, "model.onnx": model.SerializeToString()}
        )


def test_real_files_hold_all_of_themselves(pytestconfig: pytest.Config) -> None:
    names = ("silero_vad/silero_vad.onnx", "silero_vad/silero_vad_16k_op15.onnx",
             "yamnet/yamnet_audio_classifier_with_metadata.tflite",
             "mlperf_tiny/kws_ref_model.tflite", "kwt1_speech_commands/kwt1.tflite")  # fmt: skip
    for name in names:
        path = shared(f"models/{name}", pytestconfig)
        assert external_problem(path.suffix[1:], path.read_bytes()) == ""


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_get_an_answer(data: bytes) -> None:
    assert external_problem("onnx", data)
    assert external_problem("tflite", data)
    assert isinstance(external_problem("tflite", b"\x10\x00\x00\x00TFL3" + data), str)


def test_a_deeply_nested_model_is_refused_and_not_recursed_into() -> None:
    def field(number: int, content: bytes) -> bytes:  # by hand: onnx itself cannot write it
        size, length = b"", len(content)
        while length >= 0x80:
            size, length = size + bytes([length & 0x7F | 0x80]), length >> 7
        return bytes([number << 3 | 2]) + size + bytes([length]) + content

    for depth, found in ((20, ""), (2000, "its model is nested too deeply")):
        inner = b""
        for _ in range(depth):
            inner = field(1, field(5, field(6, inner)))  # a node's attribute is a graph
        assert external_problem("onnx", field(7, inner)) == found


def test_buffers_of_a_tflite_file_in_other_files_are_found() -> None:
    """A root table made by flatbuffers' own builder, with the field the schema gives the number 9."""
    import flatbuffers  # type: ignore[import-untyped]

    for field, found in ((9, True), (8, True), (7, False)):
        builder = flatbuffers.Builder(0)
        builder.StartVector(4, 0, 4)
        empty = builder.EndVector()
        builder.StartObject(10)
        builder.PrependUint32Slot(0, 3, 0)
        builder.PrependUOffsetTRelativeSlot(field, empty, 0)
        builder.Finish(builder.EndObject(), b"TFL3")
        problem = external_problem("tflite", bytes(builder.Output()))
        assert ("external buffers" in problem) is found


def test_the_walk_needs_nothing_but_the_standard_library() -> None:
    tree = ast.parse(Path(external_data.__file__).read_text("utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert modules <= {"__future__", "collections.abc"}
    assert TensorProto.EXTERNAL == 1  # what a location other than 0 means
