"""The runtimes: scores as numpy computes them, golden outputs, and what is refused."""

from __future__ import annotations

import dataclasses
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_recordings import TONES, tone

from edgeprune_device.bundle.reader import Bundle, read_bundle
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference import runtime
from edgeprune_device.inference.runtime import check_golden, open_model, runtime_name


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return read_bundle(tiny_bundle)


def changed(bundle: Bundle, **model: Any) -> Bundle:
    manifest = dict(bundle.manifest) | {"model": {**bundle.manifest["model"], **model}}
    return dataclasses.replace(bundle, manifest=manifest)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_loudest_tone_has_the_highest_score(bundle: Bundle, threads: int) -> None:
    run = open_model(bundle, threads)
    for index, pitch in enumerate(TONES.values()):
        scores = run(tone(pitch, 0.1, index))
        assert scores.dtype == np.float32
        assert scores.shape == (3,)
        assert scores.sum() == pytest.approx(1, abs=1e-5)
        assert scores.argmax() == index


def test_golden_outputs_are_those_of_numpy(bundle: Bundle) -> None:
    assert (
        check_golden(bundle, open_model(bundle)) < 1e-5
    )  # conftest computed them without a runtime


@pytest.mark.parametrize("answer", [np.array([1.0, 0, 0]), np.full(3, np.nan)])
def test_another_answer_to_a_golden_input_is_status_1(bundle: Bundle, answer: Any) -> None:
    with pytest.raises(EdgepruneError, match="has other scores on this machine") as error:
        check_golden(bundle, lambda _: answer.astype(np.float32))
    assert error.value.status == 1


def test_a_file_that_the_runtime_rejects_is_one_sentence(bundle: Bundle) -> None:
    with pytest.raises(EdgepruneError, match=r"onnxruntime .* rejects the model of bundle tiny"):
        open_model(dataclasses.replace(bundle, model_bytes=b"no model"))


def test_a_file_with_other_inputs_than_the_manifests_is_refused(bundle: Bundle) -> None:
    other = {**bundle.manifest["model"]["input"], "name": "audio"}
    with pytest.raises(EdgepruneError, match=r"another input than bundle\.json describes"):
        open_model(changed(bundle, input=other))


def test_a_runtime_that_is_missing_is_status_3(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EdgepruneError, match="needs onnxruntime, which is not installed") as error:
        open_model(bundle)
    assert error.value.status == 3
    for module, _ in runtime.LITERT_MODULES:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EdgepruneError, match="needs ai-edge-litert"):
        open_model(changed(bundle, format="tflite"))


class Interpreter:
    """Stands in for LiteRT's: answers the mean of what it was given, three times."""

    kind: type = np.float32
    scales = 1

    def __init__(self, model_content: bytes, num_threads: int) -> None:
        self.threads, self.tensors = num_threads, dict[int, Any]()

    def allocate_tensors(self) -> None: ...

    def get_input_details(self) -> list[dict[str, Any]]:
        return [{"index": 0, "shape": np.array([1, 1600]), "dtype": self.kind}]

    def get_output_details(self) -> list[dict[str, Any]]:
        return [{"index": 1, "shape": np.array([1, 3]), "dtype": np.float32}]

    def set_tensor(self, index: int, value: Any) -> None:
        assert value.shape == (1, 1600)
        self.tensors[index] = value

    def invoke(self) -> None:
        self.tensors[1] = np.full((1, 3), self.tensors[0].mean())

    def get_tensor(self, index: int) -> Any:
        return self.tensors[index]

    def get_tensor_details(self) -> list[dict[str, Any]]:
        scales = {"quantization_parameters": {"scales": np.ones(self.scales)}}
        return [
            {"index": 0, "dtype": np.float32, **scales},
            {"index": 5, "dtype": np.int8, **scales},
        ]

    def _get_ops_details(self) -> list[dict[str, Any]]:
        return [{"op_name": "FULLY_CONNECTED", "inputs": np.array([0, 5, -1])}]


def only(module: str, kind: type, patch: pytest.MonkeyPatch) -> None:
    """Have a stand-in for one runtime, and no other."""
    for name, _ in runtime.LITERT_MODULES:
        patch.setitem(sys.modules, name, None)
    stand_in = types.ModuleType(module)
    stand_in.Interpreter = kind  # type: ignore[attr-defined]
    patch.setitem(sys.modules, module.split(".")[0], types.ModuleType(module.split(".")[0]))
    patch.setitem(sys.modules, module, stand_in)


@pytest.mark.parametrize("module", [module for module, _ in runtime.LITERT_MODULES])
def test_either_litert_is_taken_where_it_is_the_one_installed(
    module: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(module, Interpreter, monkeypatch)
    run = open_model(changed(bundle, format="tflite"))
    np.testing.assert_allclose(run(np.full(1600, 0.25, np.float32)), [0.25] * 3)


@pytest.mark.parametrize("module", [module for module, _ in runtime.LITERT_MODULES])
def test_int8_weights_with_a_scale_for_each_output_are_refused_where_they_are_misread(
    module: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(Interpreter):
        scales = 3

    only(module, Other, monkeypatch)
    if module.startswith("ai_edge_litert"):
        open_model(changed(bundle, format="tflite"))
    else:
        with pytest.raises(EdgepruneError, match="would leave out matrix products") as error:
            open_model(changed(bundle, format="tflite"))
        assert error.value.status == 2
        assert "pip install ai-edge-litert in place of tflite-runtime" in error.value.hint


def test_a_runtime_built_for_another_numpy_is_status_3(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(Interpreter):
        def __init__(self, **_: Any) -> None:
            raise SystemError("<built-in method CreateWrapperFromFile> returned a result")

    only("tflite_runtime.interpreter", Other, monkeypatch)
    with pytest.raises(EdgepruneError, match=r"does not run with numpy \d") as error:
        open_model(changed(bundle, format="tflite"))
    assert error.value.status == 3


def test_a_wrong_answer_of_tflite_runtime_names_the_runtime_to_take(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "runtime_name", lambda _: "tflite-runtime 2.14.0")
    with pytest.raises(EdgepruneError, match="has other scores on this machine") as error:
        check_golden(bundle, lambda _: np.zeros(3, np.float32))
    assert "ai-edge-litert" in error.value.hint


@pytest.mark.parametrize("wrong", ["int8", "window", "refused"])
def test_a_tflite_file_that_is_not_what_the_manifest_says_is_refused(
    wrong: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(Interpreter):
        kind = np.int8 if wrong == "int8" else np.float32

        def allocate_tensors(self) -> None:
            if wrong == "refused":
                raise ValueError("no such operator\nand a long trace")

        def get_input_details(self) -> list[dict[str, Any]]:
            detail = super().get_input_details()[0]
            return [{**detail, "shape": np.array([1, 800])}] if wrong == "window" else [detail]

    only("ai_edge_litert.interpreter", Other, monkeypatch)
    sentence = (
        r"no such operator(\n|$)"
        if wrong == "refused"
        else r"other shapes or types than bundle\.json"
    )
    with pytest.raises(EdgepruneError, match=sentence) as error:
        open_model(changed(bundle, format="tflite"))
    assert error.value.status == 2


def test_the_runtimes_version_is_named() -> None:
    import onnxruntime

    assert runtime_name("onnx") == f"onnxruntime {onnxruntime.__version__}"
    assert runtime_name("tflite").startswith("ai-edge-litert 2")


def test_no_thread_is_refused(bundle: Bundle) -> None:
    with pytest.raises(EdgepruneError, match="threads = 0 is out of range"):
        open_model(bundle, 0)
