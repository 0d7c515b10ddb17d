"""A convolution in groups as one int8 product a group: torch's convolution is the oracle."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional

from edgeprune.export.onnx import INPUT, OUTPUT, onnx_runner
from edgeprune.quantization.grouped_conv import grouped_int8

CHANNELS, FRAMES = 12, 20


def graph(groups: int, taps: int, pads: tuple[int, int], bias: bool, **given: object) -> bytes:
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((CHANNELS, CHANNELS // groups, taps)).astype(np.float32)
    constants = [numpy_helper.from_array(weight, "w")]
    if bias:
        added = generator.standard_normal(CHANNELS).astype(np.float32)
        constants.append(numpy_helper.from_array(added, "b"))
    conv = helper.make_node("Conv", [INPUT, "w", *(["b"] if bias else [])], [OUTPUT], name="/pos/conv",
                            group=groups, pads=list(pads), **given)  # fmt: skip
    frames = (FRAMES + sum(pads) - taps) // int(str(given.get("strides", [1])).strip("[]")) + 1
    made = helper.make_graph(
        [conv], "one", [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [1, CHANNELS, FRAMES])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [1, CHANNELS, frames])], constants,
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    data: bytes = model.SerializeToString()
    return data


def sound() -> NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal((1, CHANNELS, FRAMES)).astype(np.float32)


@pytest.mark.parametrize("groups", [2, 3, 6])
@pytest.mark.parametrize(("taps", "pads"), [(16, (8, 8)), (17, (8, 8)), (20, (3, 0))])
@pytest.mark.parametrize("bias", [True, False])
def test_it_answers_as_the_convolution_does(
    groups: int, taps: int, pads: tuple[int, int], bias: bool
) -> None:
    data = graph(groups, taps, pads, bias)
    model = onnx.load_from_string(data)
    weight, *added = (torch.tensor(numpy_helper.to_array(t)) for t in model.graph.initializer)
    padded = functional.pad(torch.from_numpy(sound()), pads)
    expected = functional.conv1d(padded, weight, added[0] if added else None, groups=groups).numpy()
    found = onnx_runner(grouped_int8(data))(sound())
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()


def test_its_weights_are_stored_in_eight_bits() -> None:
    data = graph(2, 18, (9, 9), True)
    small = onnx.load_from_string(grouped_int8(data)).graph
    stored = [t for t in small.initializer if t.data_type == TensorProto.INT8]
    assert [list(t.dims) for t in stored] == [[2, 18 * CHANNELS // 2, CHANNELS // 2]]
    assert "w" not in {t.name for t in small.initializer}


@pytest.mark.parametrize(
    "data",
    [graph(1, 18, (9, 9), True), graph(2, 9, (4, 4), True), graph(2, 18, (9, 9), True, strides=[2]),
     graph(CHANNELS, 18, (9, 9), True)],
    ids=["one group", "few taps", "a stride", "depth-wise"],
)  # fmt: skip
def test_other_convolutions_stay_as_they_are(data: bytes) -> None:
    assert grouped_int8(data) == data
