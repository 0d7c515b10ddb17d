"""Weights in 8 bits, answers in float."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tiny_models import make_model
from tiny_recordings import RATE, TONES

from edgeprune.export.onnx import onnx_runner, to_onnx
from edgeprune.models import loading
from edgeprune.models.families import family_of
from edgeprune.quantization.weight_only import store_int8, to_int8


def test_rounding_is_to_the_nearest_of_255_steps_of_each_channel() -> None:
    values = np.array([[1.0, 0.5, -1.0], [100.0, 0.3, 0.0]], np.float32)
    whole, scale = to_int8(values, 0)
    assert whole.tolist() == [[127, 64, -127], [127, 0, 0]]
    np.testing.assert_allclose(scale[:, 0], [1 / 127, 100 / 127])
    assert np.abs(whole * scale - values).max() <= scale.max() / 2


def test_a_channel_of_zeros_stays_zeros() -> None:
    whole, scale = to_int8(np.zeros((2, 3), np.float32), 1)
    assert not whole.any()
    assert np.isfinite(scale).all()


@pytest.fixture
def exported(family_folder: Path) -> tuple[bytes, tuple[str, ...]]:
    model = loading.load_model(str(family_folder))
    return to_onnx(model, RATE, 18), family_of(model.config.model_type).float_scopes


def test_the_file_is_smaller_and_answers_like_the_rounded_weights(
    exported: tuple[bytes, tuple[str, ...]],
) -> None:
    """The oracle: the same graph with every weight rounded in place, in float."""
    data, scopes = exported
    stored = store_int8(data, scopes)
    assert len(stored) < len(data)
    names = {
        x.name: numpy_helper.to_array(x) for x in onnx.load_from_string(stored).graph.initializer
    }
    oracle = onnx.load_from_string(data)
    for tensor in oracle.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if f"{tensor.name}.int8" in names:
            value = names[f"{tensor.name}.int8"] * names[f"{tensor.name}.scale"]
        elif f"{tensor.name}.half" in names:
            value = names[f"{tensor.name}.half"]
        else:
            continue
        tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float32), tensor.name))
    sound = np.random.default_rng(0).standard_normal((1, RATE)).astype(np.float32) * 0.1
    expected = onnx_runner(oracle.SerializeToString())(sound)
    np.testing.assert_allclose(onnx_runner(stored)(sound), expected, atol=1e-5)


def test_every_large_weight_is_in_8_bits_and_the_front_end_in_16(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "kwt", "kwt", tuple(TONES))
    model = loading.load_model(str(folder))
    data = store_int8(to_onnx(model, RATE, 18), ("frontend",))
    kinds = {
        x.name: (x.data_type, np.prod(x.dims))
        for x in onnx.load_from_string(data).graph.initializer
    }
    large = {name: kind for name, (kind, size) in kinds.items() if size >= 256}
    assert set(large.values()) <= {onnx.TensorProto.INT8, onnx.TensorProto.FLOAT16, onnx.TensorProto.INT64,
                                   onnx.TensorProto.INT32}  # fmt: skip
    assert onnx.TensorProto.FLOAT16 in large.values()
