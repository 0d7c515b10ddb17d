"""Adapters: another file's shapes, steps, constants and state, from samples to scores."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeprune_device.bundle.adapters import (
    adapted,
    adapter_files,
    adapter_problem,
    dequantized,
    frontend_problem,
    input_specs,
    output_names,
    quantized,
)

Feeds = dict[str, NDArray[Any]]
SOUND = {"name": "x", "shape": [1, 6], "dtype": "float32"}
SCORES = {"name": "y", "shape": [1, 2], "dtype": "float32"}
PLAIN = {"input": SOUND, "output": SCORES}


def model(**adapter: Any) -> dict[str, Any]:
    return {"adapter": {**PLAIN, **adapter}}


def test_samples_take_the_files_shape_and_scores_come_out_flat() -> None:
    adapter = {"input": {**SOUND, "shape": [1, 2, 3, 1]}, "output": {**SCORES, "shape": [2, 1]}}
    seen = list[Feeds]()

    def call(feeds: Feeds) -> Feeds:
        seen.append(feeds)
        return {"y": np.array([[0.25], [0.75]], np.float32)}

    scores = adapted(adapter, {}, call)(np.arange(6, dtype=np.float32))
    assert scores.tolist() == [0.25, 0.75]
    assert seen[0]["x"].shape == (1, 2, 3, 1)
    assert seen[0]["x"].ravel().tolist() == [0, 1, 2, 3, 4, 5]


def test_constants_are_given_with_every_call_in_their_own_type() -> None:
    adapter = {**PLAIN, "constants": [
        {"name": "rate", "dtype": "int64", "shape": [], "value": 16_000},
        {"name": "mask", "dtype": "bool", "shape": [1, 3], "value": 1},
    ]}  # fmt: skip
    seen = list[Feeds]()

    def call(feeds: Feeds) -> Feeds:
        seen.append(feeds)
        return {"y": np.zeros((1, 2), np.float32)}

    adapted(adapter, {}, call)(np.zeros(6, np.float32))
    rate, mask = seen[0]["rate"], seen[0]["mask"]
    assert (str(rate.dtype), rate.shape, int(rate)) == ("int64", (), 16_000)
    assert (str(mask.dtype), mask.tolist()) == ("bool", [[True, True, True]])
    assert input_specs(adapter) == {
        "x": ("float32", (1, 6)), "rate": ("int64", ()), "mask": ("bool", (1, 3)),
    }  # fmt: skip


STREAMED = {
    "input": {**SOUND, "shape": [1, 3]}, "output": {**SCORES, "shape": [1, 1]},
    "state": [{"input": "sum", "output": "next", "shape": [1]}],
    "frames": {"samples": 2, "context": 1, "run_in": 1},
}  # fmt: skip


def add_up(seen: list[list[float]]) -> Callable[[Feeds], Feeds]:
    """Return a model that hands on the sum of all it was given, and scores it."""

    def call(feeds: Feeds) -> Feeds:
        seen.append(feeds["x"].ravel().tolist())
        total = feeds["sum"] + feeds["x"].sum(dtype=np.float32)
        return {"y": total[None], "next": total}

    return call


def test_a_window_is_run_in_frames_with_the_sound_before_and_a_state_that_is_handed_on() -> None:
    seen = list[list[float]]()
    run = adapted(STREAMED, {}, add_up(seen))
    assert run(np.array([1, 2, 3, 4, 5, 6], np.float32)).tolist() == [3 + 9 + 15]
    assert seen == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]
    assert run(np.array([1, 2, 3, 4, 5, 6], np.float32)).tolist() == [27]  # begun anew
    assert output_names(STREAMED) == ["y", "next"]
    assert input_specs(STREAMED)["sum"] == ("float32", (1,))


def test_the_highest_score_of_the_frames_after_the_run_in_counts() -> None:
    run = adapted(STREAMED, {}, add_up([]))
    assert run(np.array([9, 9, -5, -5, 1, 1], np.float32)).tolist() == [17]  # of 18, 17, 14
    later = {**STREAMED, "frames": {**STREAMED["frames"], "run_in": 2}}  # type: ignore[dict-item]
    assert adapted(later, {}, add_up([]))(np.array([9, 9, -5, -5, 1, 1], np.float32)).tolist() == [
        14
    ]


@pytest.mark.parametrize(
    ("then", "wanted"),
    [("", [2.0, 0.0]), ("sigmoid", [1 / (1 + math.exp(-2)), 0.5]),
     ("softmax", [math.exp(2) / (1 + math.exp(2)), 1 / (1 + math.exp(2))])],
)  # fmt: skip
def test_logits_become_scores(then: str, wanted: list[float]) -> None:
    def call(_: Feeds) -> Feeds:
        return {"y": np.array([[2, 0]], np.float32)}

    run = adapted({**PLAIN, "then": then}, {}, call)
    assert run(np.zeros(6, np.float32)) == pytest.approx(wanted, abs=1e-6)


def test_logits_of_any_size_give_no_infinity() -> None:
    def call(_: Feeds) -> Feeds:
        return {"y": np.array([[1e4, -1e4]], np.float32)}

    for then in ("sigmoid", "softmax"):
        assert adapted({**PLAIN, "then": then}, {}, call)(np.zeros(6, np.float32)).tolist() == [
            1,
            0,
        ]


@pytest.mark.parametrize(
    ("dtype", "scale", "zero", "values", "steps"),
    [("int8", 0.5, -3, [0, 0.5, -0.26, -0.2, 1000, -1000], [-3, -2, -4, -3, 127, -128]),
     ("uint8", 1 / 128, 128, [0, 1, -1, 0.5], [128, 255, 0, 192]),
     ("int16", 1 / 32768, 0, [0.5, 1.0, -1.0], [16384, 32767, -32768])],
)  # fmt: skip
def test_values_are_rounded_to_the_files_steps_and_kept_in_its_range(
    dtype: str, scale: float, zero: int, values: list[float], steps: list[int]
) -> None:
    tensor = {"dtype": dtype, "scale": scale, "zero_point": zero}
    found = quantized(np.array(values, np.float32), tensor)
    assert (found.dtype, found.tolist()) == (np.dtype(dtype), steps)
    back = dequantized(found, tensor)
    assert back.dtype == np.float32
    assert back.tolist() == [np.float32((step - zero) * scale) for step in steps]


INT8 = {"name": "x", "shape": [1, 6], "dtype": "int8", "scale": 0.1, "zero_point": 0}


def test_a_model_without_an_adapter_and_one_that_fits_have_no_problem() -> None:
    assert adapter_problem({}, 6, 2) == ""
    assert adapter_problem(model(), 6, 2) == ""
    assert adapter_problem(model(input=INT8), 6, 2) == ""
    assert adapter_problem({"adapter": STREAMED}, 6, 1) == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [({"teleport": 1}, "has the unknown key 'teleport'"),
     ({"input": {**SOUND, "dtype": "int64"}}, "the input of its adapter has an invalid"),
     ({"input": {**SOUND, "shape": [1, True]}}, "the input of its adapter has an invalid"),
     ({"input": {**SOUND, "name": ""}}, "the input of its adapter has an invalid"),
     ({"input": {**INT8, "scale": 0.0}}, "the input of its adapter has an invalid"),
     ({"input": {**INT8, "zero_point": 0.5}}, "the input of its adapter has an invalid"),
     ({"input": {**SOUND, "shape": [2**30, 6]}}, "the input of its adapter has an invalid"),
     ({"then": "sharpen"}, "the activation of its adapter, 'sharpen', is not known"),
     ({"constants": [{"name": "k", "dtype": "int64", "shape": [1], "value": math.nan}]},
      "a constant of its adapter has an invalid"),
     ({"state": [{"input": "h", "output": 3, "shape": [1]}]}, "a state of its adapter has an invalid"),
     ({"state": [{"input": "h", "output": "n", "shape": [1]}]}, "a state but no frames"),
     ({"output": {**SCORES, "shape": [1, 3]}}, "it has 2 labels, but its model returns the shape [1, 3]"),
     ({"input": {**SOUND, "shape": [1, 7]}}, "its window is 6 samples, but its model expects 7"),
     ({"frames": {"samples": 4, "context": 2, "run_in": 0}}, "do not fit its window"),
     ({"frames": {"samples": 2, "context": 4, "run_in": 0}}, "do not fit its window"),
     ({"frames": {"samples": 6, "context": 0, "run_in": 1}}, "do not fit its window"),
     ({"frames": {"samples": 0, "context": 6, "run_in": 0}}, "do not fit its window"),
     ({"frontend": {"window": "../w.npy", "bands": "frontend/bands.npy"}}, "front end")],
    ids=str,
)  # fmt: skip
def test_an_adapter_that_does_not_fit_is_said(change: dict[str, Any], words: str) -> None:
    assert words in adapter_problem(model(**change), 6, 2)


def test_a_front_ends_files_are_named_and_its_features_are_what_the_model_gets() -> None:
    """Two frames of two samples, a transform of two: their sum and difference, as logarithms."""
    frontend = {"window": "frontend/window.npy", "bands": "frontend/bands.npy", "step": 2, "fft": 2,
                "add": 1.0}  # fmt: skip
    entry = model(input={**SOUND, "shape": [1, 2, 2]}, frontend=frontend)
    arrays = {"frontend/window.npy": np.ones(2, np.float32),
              "frontend/bands.npy": np.eye(2, dtype=np.float32)}  # fmt: skip
    assert adapter_files(entry) == list(arrays)
    assert adapter_files({}) == []
    assert adapter_problem(entry, 4, 2) == ""
    assert frontend_problem(entry, arrays, 4) == ""
    assert frontend_problem({}, {}, 4) == ""
    assert "gives 3 x 2 values, but the model expects 4" in frontend_problem(entry, arrays, 6)
    seen = list[Feeds]()

    def call(feeds: Feeds) -> Feeds:
        seen.append(feeds)
        return {"y": np.zeros((1, 2), np.float32)}

    adapted(entry["adapter"], arrays, call)(np.array([1, 2, 3, 5], np.float32))
    np.testing.assert_allclose(
        seen[0]["x"], np.log([[[1 + 3, 1 + 1], [1 + 8, 1 + 2]]]), rtol=1e-6
    )  # fmt: skip
