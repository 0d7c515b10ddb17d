"""Stamps: a model file says what it is, needs a runtime of the right age, and computes what it did."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from model_stamps import read_stamp
from tiny_bundle import make_bundle
from tiny_recordings import RATE, TONES, tone

from edgeprune.export.model_metadata import runtime_needed, stamp_of, stamped
from edgeprune.export.tflite import convert, tflite_runner
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.errors import EdgepruneError


class Loudness(torch.nn.Module):
    """Samples to two scores, by a matrix of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(160, 2)

    def forward(self, samples: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"scores": torch.softmax(self.linear(samples), dim=-1)}


@pytest.fixture(scope="module")
def tflite() -> bytes:
    torch.manual_seed(0)
    return convert(Loudness().eval(), {"samples": torch.zeros(1, 160)})


MANIFEST = {"name": "Fledermäuse", "edgeprune_version": "0.1", "labels": ["Zwergfledermaus", "leer"],
            "audio": {"sample_rate": RATE}}  # fmt: skip


def test_a_tflite_file_says_what_it_is_and_no_weight_moves(tflite: bytes) -> None:
    """LiteRT's own reader of the format is the oracle."""
    from ai_edge_litert import schema_py_generated as schema

    assert read_stamp(tflite, "tflite") == {}  # "MLIR Converted."
    data = stamped(tflite, "tflite", stamp_of(MANIFEST))
    found = json.loads(schema.Model.GetRootAs(data, 0).Description())
    assert found["edgeprune.name"] == "Fledermäuse"
    assert found["edgeprune.sample_rate"] == "16000"
    assert json.loads(found["edgeprune.labels"]) == MANIFEST["labels"]
    assert read_stamp(data, "tflite") == stamp_of(MANIFEST)
    changed = [i for i, (a, b) in enumerate(zip(tflite, data, strict=False)) if a != b]
    assert len(changed) <= 4  # the one offset
    sound = tone(500, 0.01, 0)[None]
    np.testing.assert_array_equal(tflite_runner(data)(sound), tflite_runner(tflite)(sound))


def test_a_stamp_can_be_renewed(tflite: bytes) -> None:
    once = stamped(tflite, "tflite", stamp_of(MANIFEST))
    again = stamped(once, "tflite", stamp_of({**MANIFEST, "name": "other"}))
    assert read_stamp(again, "tflite")["name"] == "other"


def test_an_onnx_file_says_what_it_is(tmp_path: Path) -> None:
    plain = read_bundle(make_bundle(tmp_path / "b")).model_bytes
    data = stamped(plain, "onnx", stamp_of(MANIFEST))
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    found = session.get_modelmeta().custom_metadata_map  # as the runtime reads it
    assert found["edgeprune.name"] == "Fledermäuse"
    assert read_stamp(data, "onnx") == stamp_of(MANIFEST)
    sound = tone(TONES["low"], 0.1, 0)[None]
    before = onnxruntime.InferenceSession(plain, providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(
        session.run(None, {"samples": sound})[0], before.run(None, {"samples": sound})[0]
    )


def test_what_is_no_tflite_file_is_refused() -> None:
    with pytest.raises(EdgepruneError, match="is not a TFLite file"):
        stamped(b"nonsense that is long enough", "tflite", {})


@pytest.mark.parametrize(("opset", "ir", "least"), [(17, 8, "1.12"), (18, 8, "1.14"), (18, 9, "1.16"),
                                                    (20, 9, "1.17"), (18, 10, "1.18")])  # fmt: skip
def test_an_onnx_file_needs_the_runtime_that_knows_its_operators(
    opset: int, ir: int, least: str
) -> None:
    assert runtime_needed(graph(opset, ir), "onnx") == f"onnxruntime>={least}"


def test_of_what_the_table_does_not_know_it_needs_the_runtime_that_ran_it_here() -> None:
    here = ".".join(onnxruntime.__version__.split(".")[:2])
    for data in (graph(99, 8), graph(18, 99), graph(18, 8, "com.microsoft")):
        assert runtime_needed(data, "onnx") == f"onnxruntime>={here}"


def graph(opset: int, ir: int, other: str = "") -> bytes:
    from onnx import helper

    sets = [helper.make_opsetid("", opset)]
    if other:
        sets.append(helper.make_opsetid(other, 1))
    empty = helper.make_graph([], "empty", [], [])
    data: bytes = helper.make_model(empty, opset_imports=sets, ir_version=ir).SerializeToString()
    assert onnx.load_from_string(data).ir_version == ir
    return data
