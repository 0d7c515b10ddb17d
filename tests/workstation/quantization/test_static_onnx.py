"""Static int8 of two products: fixed ranges, rounded as they say, and only where it is meant to be."""

from __future__ import annotations

import numpy as np
import pytest
from hand_graphs import (
    FIRST,
    SECOND,
    answers_by_hand,
    kinds_of,
    operators,
    sounds,
    two_products,
)
from onnx import TensorProto

from edgeprune.export.onnx import onnx_runner
from edgeprune.quantization.module_scopes import Scopes
from edgeprune.quantization.static_onnx import static_onnx
from edgeprune_device.errors import EdgepruneError

NO_SCOPES = Scopes()


def worst(data: bytes) -> float:
    run = onnx_runner(data)
    found = np.concatenate([run(clip[None]) for clip in sounds()])
    expected = answers_by_hand(sounds())
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def test_both_products_are_in_eight_bits_and_answer_nearly_alike() -> None:
    data = static_onnx(two_products(), NO_SCOPES, sounds(), "minmax")
    stored = [name for name, kind in kinds_of(data).items() if kind == TensorProto.INT8]
    assert len([name for name in stored if name.startswith("w")]) >= 2
    assert worst(data) < 0.03


def test_ranges_are_those_of_the_calibration_clips() -> None:
    """Of clips a tenth as loud, louder ones are cut off at the range's end."""
    quiet = static_onnx(two_products(), NO_SCOPES, 0.1 * sounds(), "minmax")
    run = onnx_runner(quiet)
    loud = np.concatenate([run(clip[None]) for clip in sounds()])
    assert np.abs(loud).max() < 0.3 * np.abs(answers_by_hand(sounds())).max()
    soft = np.concatenate([run(0.1 * clip[None]) for clip in sounds()])
    expected = answers_by_hand(0.1 * sounds())
    assert np.abs(soft - expected).max() < 0.03 * np.abs(expected).max()


def test_a_product_of_a_float_scope_stays_as_it_is() -> None:
    data = static_onnx(two_products(), Scopes(float_scopes=("first",)), sounds(), "minmax")
    assert kinds_of(data)["w0"] == TensorProto.FLOAT
    assert "w1" not in kinds_of(data) or kinds_of(data)["w1"] != TensorProto.FLOAT
    assert FIRST in operators(data)["MatMul"]
    assert worst(data) < 0.03


def test_a_product_of_a_row_scope_has_a_scale_for_every_frame_and_needs_no_clip_for_it() -> None:
    data = static_onnx(two_products(), Scopes(row_scopes=("encoder",)), sounds(), "minmax")
    assert not any(name == FIRST for name in operators(data).get("MatMul", []))
    assert kinds_of(data).get("w0") != TensorProto.FLOAT
    run = onnx_runner(data)
    clip = 1e-3 * sounds()[:1]  # its own scale, however quiet
    assert worst(data) < 0.03
    found, expected = run(clip), answers_by_hand(clip)
    assert np.abs(found - expected).max() < 0.02 * np.abs(answers_by_hand(sounds())).max()


def test_where_no_product_is_left_the_file_is_not_opened_for_ranges(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edgeprune.quantization.static_onnx.inner_tensors", None)
    everything = Scopes(float_scopes=("first", "second"))
    data = two_products()
    assert static_onnx(data, everything, sounds()) == data
    assert SECOND in operators(data)["MatMul"]


@pytest.mark.parametrize(
    ("calibrate", "most"), [("minmax", 0.03), ("percentile", 0.03), ("mse", 0.03), ("entropy", 0.4)]
)
def test_ranges_are_chosen_as_asked(calibrate: str, most: float) -> None:
    """Entropy cuts an even spread off, which this sound is."""
    found = worst(static_onnx(two_products(), NO_SCOPES, sounds(200), calibrate))
    assert found < most
    assert (found > 0.05) == (calibrate == "entropy")


def test_clips_of_no_use_and_unknown_ranges_are_refused_before_anything_is_made() -> None:
    with pytest.raises(EdgepruneError, match="silent"):
        static_onnx(two_products(), NO_SCOPES, 0 * sounds())
    with pytest.raises(EdgepruneError, match="the model's window 64"):
        static_onnx(two_products(), NO_SCOPES, sounds()[:, :-1])
    with pytest.raises(EdgepruneError, match=r"quantize\.calibrate = 'max' is not known"):
        static_onnx(b"", NO_SCOPES, sounds(), "max")
