"""A model file's inputs and outputs, as its own runtime names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from repository import shared

from edgeprune.deployment.model_io import Tensor, tensors_of
from edgeprune_device.errors import EdgepruneError


def onnx_file(inputs: dict[str, tuple[int, list[Any]]]) -> onnx.ModelProto:
    """Write a graph that passes its first input on and ignores the others."""
    given = [helper.make_tensor_value_info(name, kind, shape)
             for name, (kind, shape) in inputs.items()]  # fmt: skip
    kind, shape = next(iter(inputs.values()))
    graph = helper.make_graph(
        [helper.make_node("Identity", [next(iter(inputs))], ["scores"])], "g", given,
        [helper.make_tensor_value_info("scores", kind, shape)],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def test_an_onnx_file_names_its_tensors_and_leaves_open_what_it_leaves_open() -> None:
    model = onnx_file({
        "sound": (TensorProto.FLOAT, ["batch", 1, None]), "rate": (TensorProto.INT64, []),
    })  # fmt: skip
    inputs, outputs = tensors_of("onnx", model.SerializeToString(), "m.onnx")
    assert inputs == [
        Tensor("sound", "float32", (None, 1, None)), Tensor("rate", "int64", ()),
    ]  # fmt: skip
    assert outputs == [Tensor("scores", "float32", (None, 1, None))]


def test_whole_numbers_of_a_tflite_file_come_with_their_scale(pytestconfig: pytest.Config) -> None:
    from ai_edge_litert.interpreter import Interpreter

    path = shared("models/mlperf_tiny/kws_ref_model.tflite", pytestconfig)
    (given,), (scores,) = tensors_of("tflite", path.read_bytes(), str(path))
    interpreter: Any = Interpreter(str(path))
    (found,) = interpreter.get_input_details()
    assert (given.dtype, given.shape) == ("int8", (1, 49, 10, 1))
    assert (given.scale, given.zero_point) == found["quantization"]
    assert (scores.dtype, scores.shape) == ("int8", (1, 12))
    assert scores.scale == pytest.approx(1 / 256)


def test_the_last_open_size_is_the_sounds_and_the_others_are_one() -> None:
    open_tensor = Tensor("sound", "float32", (None, 1, None))
    assert open_tensor.sizes == (1,)
    assert open_tensor.closed(800).shape == (1, 1, 800)
    assert Tensor("sound", "float32", (None, 16)).closed(800).shape == (800, 16)
    whole = Tensor("sound", "float32", (1, 16000))
    assert whole.closed(800) == whole
    assert whole.sizes == (1, 16000)


def test_a_manifest_names_scales_of_whole_numbers_alone() -> None:
    assert Tensor("x", "float32", (1, 4)).entry() == {
        "name": "x", "shape": [1, 4], "dtype": "float32",
    }  # fmt: skip
    assert Tensor("x", "int8", (1, 4), 0.5, -3).entry() == {
        "name": "x", "shape": [1, 4], "dtype": "int8", "scale": 0.5, "zero_point": -3,
    }  # fmt: skip


@pytest.mark.parametrize("form", ["onnx", "tflite"])
@pytest.mark.parametrize("data", [b"", b"not a model", bytes(64)], ids=["empty", "text", "zeros"])
def test_what_is_no_model_is_refused_in_one_line(form: str, data: bytes) -> None:
    with pytest.raises(EdgepruneError, match="some/file") as error:
        tensors_of(form, data, "some/file")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 250


def test_what_the_runtime_says_of_a_graph_it_cannot_run_is_cut_to_one_line() -> None:
    model = onnx_file({"sound": (TensorProto.FLOAT, [1, 4])})
    model.graph.node[0].op_type = "NoSuchOperator" * 40
    with pytest.raises(EdgepruneError, match=r"The runtime rejects m\.onnx: \S") as error:
        tensors_of("onnx", model.SerializeToString(), "m.onnx")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 250


def test_weights_kept_in_another_file_are_refused_before_any_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = onnx_file({"sound": (TensorProto.FLOAT, [1, 4])})
    weights = onnx.numpy_helper.from_array(np.ones(4, np.float32), "weights")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="weights.bin")
    model.graph.initializer.append(weights)
    monkeypatch.setattr("onnxruntime.InferenceSession", None)
    with pytest.raises(EdgepruneError, match=r"m\.onnx cannot be wrapped") as error:
        tensors_of("onnx", model.SerializeToString(), "m.onnx")
    assert error.value.hint == "Save it as a single file."
