"""Foreign files by the names of their tensors: run as the adapter says, or refused in a sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeprune_device.bundle.reader import Bundle, read_bundle
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.named_tensors import litert_call, onnx_call, runs_per_window

INPUT = {"name": "x", "shape": [1, 4], "dtype": "int8", "scale": 0.5, "zero_point": 3}
OUTPUT = {"name": "y", "shape": [1, 2], "dtype": "float32"}
ADAPTER = {
    "input": INPUT, "output": OUTPUT,
    "constants": [{"name": "rate", "dtype": "int64", "shape": [], "value": 16_000}],
    "state": [{"input": "h", "output": "n", "shape": [2]}],
}  # fmt: skip


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return with_adapter(read_bundle(tiny_bundle), ADAPTER)


def with_adapter(bundle: Bundle, adapter: dict[str, Any]) -> Bundle:
    model = {**bundle.manifest["model"], "adapter": adapter}
    return replace(bundle, manifest={**bundle.manifest, "model": model})


class Session:
    """Stands in for ONNX Runtime's: adds up its inputs."""

    def __init__(self, **change: tuple[str, list[Any]]) -> None:
        given = {"x": ("tensor(int8)", [1, 4]), "rate": ("tensor(int64)", []),
                 "h": ("tensor(float)", [2]), **change}  # fmt: skip
        self.inputs = [SimpleNamespace(name=name, type=kind, shape=shape)
                       for name, (kind, shape) in given.items() if kind]  # fmt: skip
        self.outputs = [SimpleNamespace(name=name) for name in ("y", "n", "unused")]
        self.asked: list[list[str]] = []

    def get_inputs(self) -> list[SimpleNamespace]:
        return self.inputs

    def get_outputs(self) -> list[SimpleNamespace]:
        return self.outputs

    def run(self, targets: list[str], feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        self.asked.append(targets)
        total = sum(int(value.sum()) for value in feeds.values())
        return [np.full((1, 2), total, np.float32), np.full(2, -total, np.float32)]


FEEDS = {"x": np.ones((1, 4), np.int8), "rate": np.array(10), "h": np.zeros(2, np.float32)}


def test_an_onnx_file_is_asked_for_the_outputs_that_are_needed(bundle: Bundle) -> None:
    session = Session()
    found = onnx_call(bundle, session)(FEEDS)
    assert session.asked == [["y", "n"]]
    assert {name: value.ravel().tolist() for name, value in found.items()} == {
        "y": [14, 14], "n": [-14, -14],
    }  # fmt: skip


def test_a_size_that_the_file_leaves_open_may_be_anything(bundle: Bundle) -> None:
    onnx_call(bundle, Session(x=("tensor(int8)", ["batch", None]), h=("tensor(float)", [2])))


@pytest.mark.parametrize(
    "change",
    [{"x": ("tensor(uint8)", [1, 4])}, {"x": ("tensor(int8)", [1, 5])},
     {"x": ("tensor(int8)", [1])}, {"h": ("", [])}, {"more": ("tensor(float)", [1])},
     {"h": ("tensor(double)", [2])}],
    ids=str,
)  # fmt: skip
def test_an_onnx_file_with_other_inputs_is_refused(bundle: Bundle, change: dict[str, Any]) -> None:
    with pytest.raises(EdgepruneError, match=r"(?m)other inputs or outputs than its adapter\.$"):
        onnx_call(bundle, Session(**change))


def test_an_onnx_file_without_an_output_that_is_needed_is_refused(bundle: Bundle) -> None:
    session = Session()
    session.outputs.pop(1)
    with pytest.raises(EdgepruneError, match=r"(?m)other inputs or outputs than its adapter\.$"):
        onnx_call(bundle, session)


def test_what_the_runtime_says_of_a_failed_run_is_one_line(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("bad shape\n" + "a long trace\n" * 100)

    session = Session()
    monkeypatch.setattr(session, "run", fail)
    with pytest.raises(EdgepruneError, match=r"(?m)cannot be run with its adapter: bad shape$"):
        onnx_call(bundle, session)(FEEDS)


class Interpreter:
    """Stands in for LiteRT's: gives the sum of its inputs, in memory that it uses again."""

    def __init__(self, **change: Any) -> None:
        own = {"x": {"dtype": np.int8, "shape": np.array([1, 4]), "quantization": (0.5, 3)},
               "rate": {"dtype": np.int64, "shape": np.array([]), "quantization": (0.0, 0)},
               "h": {"dtype": np.float32, "shape": np.array([2]), "quantization": (0.0, 0)}}  # fmt: skip
        own["x"].update(change)
        self.inputs = [
            {"name": name, "index": i, **held} for i, (name, held) in enumerate(own.items())
        ]
        self.outputs = [{"name": name, "index": 10 + i, "dtype": np.float32, "shape": np.array([1, 2]),
                         "quantization": (0.0, 0)} for i, name in enumerate(("y", "n"))]  # fmt: skip
        self.held: dict[int, Any] = {}
        self.memory = np.zeros((1, 2), np.float32)

    def get_input_details(self) -> list[dict[str, Any]]:
        return self.inputs

    def get_output_details(self) -> list[dict[str, Any]]:
        return self.outputs

    def set_tensor(self, index: int, value: Any) -> None:
        self.held[index] = value

    def invoke(self) -> None:
        self.memory[:] = sum(int(value.sum()) for value in self.held.values())

    def get_tensor(self, index: int) -> Any:
        return self.memory


def test_a_tflite_file_is_run_and_its_memory_is_not_handed_on(bundle: Bundle) -> None:
    call = litert_call(bundle, Interpreter())
    first = call(FEEDS)
    call({**FEEDS, "x": np.zeros((1, 4), np.int8)})
    assert first["y"].tolist() == [[14, 14]]


@pytest.mark.parametrize(
    "change",
    [{"dtype": np.uint8}, {"shape": np.array([1, 5])}, {"quantization": (0.25, 3)},
     {"quantization": (0.5, 0)}],
    ids=str,
)  # fmt: skip
def test_a_tflite_file_with_other_types_or_steps_is_refused(
    bundle: Bundle, change: dict[str, Any]
) -> None:
    with pytest.raises(EdgepruneError, match=r"(?m)other inputs or outputs than its adapter\.$"):
        litert_call(bundle, Interpreter(**change))


def test_a_window_is_one_run_or_one_for_each_frame(bundle: Bundle) -> None:
    """Windows of 1,600 samples."""
    assert runs_per_window(bundle) == 1
    frames = {"samples": 160, "context": 0, "run_in": 0}
    assert runs_per_window(with_adapter(bundle, {**ADAPTER, "frames": frames})) == 10
