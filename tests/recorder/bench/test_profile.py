"""Which operators take the time: the sums by hand, a real profile, and what has none."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from edgeprune_device.bench import tables
from edgeprune_device.bench.profile import operators_of, profile, summary_of
from edgeprune_device.bench.runner import bench
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.errors import EdgepruneError


def window(**kernels: int) -> list[dict[str, Any]]:
    """Return a window's events; ``MatMul_0=20``: microseconds of a node."""
    nodes = [
        {"cat": "Node", "name": f"{name}_kernel_time", "dur": dur,
         "args": {"op_name": name.split("_")[0]}} for name, dur in kernels.items()
    ]  # fmt: skip
    session = {"cat": "Session", "args": {}, "dur": 99}
    return [
        *nodes,
        {**session, "name": "SequentialExecutor::Execute"},
        {**session, "name": "model_run"},
    ]


def test_a_nodes_time_is_its_median_after_the_warm_up() -> None:
    events = [{"cat": "Session", "name": "session_initialization", "dur": 5, "args": {}}]
    events += window(MatMul_0=9000, Mul_1=9000, MatMul_2=9000)
    for first in (100, 300, 200):
        events += window(MatMul_0=first, Mul_1=100, MatMul_2=500)
    found = summary_of(events, warm=1)
    assert found["windows"] == 3
    assert found["ms"] == pytest.approx(0.8)
    assert [(row["type"], row["nodes"]) for row in found["types"]] == [("MatMul", 2), ("Mul", 1)]
    assert [row["share"] for row in found["types"]] == pytest.approx([7 / 8, 1 / 8])
    assert [row["node"] for row in found["slowest"]] == ["MatMul_2", "MatMul_0", "Mul_1"]
    assert [row["ms"] for row in found["slowest"]] == pytest.approx([0.5, 0.2, 0.1])


def test_ten_nodes_are_listed_and_all_are_counted() -> None:
    kernels = {f"Add_{index}": 10 + index for index in range(30)}
    found = summary_of(window(**kernels), warm=0)
    assert [row["node"] for row in found["slowest"]] == [f"Add_{29 - i}" for i in range(10)]
    assert found["types"][0]["nodes"] == 30


def test_a_profile_names_the_kernels_that_ran_and_leaves_no_file(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = summary_of(profile(read_bundle(tiny_bundle), 1, 5))
    assert found["windows"] == 5
    assert {row["type"]: row["nodes"] for row in found["types"]} == {
        "MatMul": 2,
        "Mul": 1,
        "Softmax": 1,
    }
    assert sum(row["share"] for row in found["types"]) == pytest.approx(1)
    assert found["slowest"][0]["type"] == "MatMul"  # 1,600 x 150 against 150 x 3
    assert list(tmp_path.iterdir()) == []


def test_a_tflite_file_has_no_operators_and_the_reason_is_given(tiny_bundle: Path) -> None:
    entry = {"format": "tflite", "runtime": "ai-edge-litert 2.1", "digest": "", "file": "m.tflite"}
    assert "has no operator profiler for Python" in operators_of(tiny_bundle, entry, 1)["missing"]


def test_operators_are_measured_apart_in_a_process_of_their_own(tiny_bundle: Path) -> None:
    bundle = read_bundle(tiny_bundle)
    entry = {"format": "onnx", "runtime": "", "digest": bundle.digest, "file": bundle.file}
    found = operators_of(tiny_bundle, entry, 1)
    assert {row["type"] for row in found["types"]} == {"MatMul", "Mul", "Softmax"}
    assert found["windows"] == 20


@pytest.mark.slow
def test_bench_shows_the_operators_of_onnx_and_says_why_tflite_has_none(
    formats: Path,
    tmp_path: Path,
) -> None:
    bench(
        [formats], tmp_path, threads=(1,), seconds=0.05, rounds=3, profile=True, say=lambda _: None
    )
    onnx, tflite = json.loads((tmp_path / "bench.json").read_text("utf-8"))["variants"]
    assert onnx["operators"]["windows"] == 20
    assert sum(row["share"] for row in onnx["operators"]["types"]) == pytest.approx(1)
    assert "has no operator profiler for Python" in tflite["operators"]["missing"]
    for text in (
        (tmp_path / "bench.md").read_text("utf-8"),
        (tmp_path / "bench.html").read_text("utf-8"),
    ):
        assert "Operators of tones, model.onnx, 1 thread, after the runtime" in text
        assert onnx["operators"]["types"][0]["type"] in text
        assert "model.tflite was not profiled" in text
    assert "operators" not in (tmp_path / "bench.csv").read_text("utf-8")


def test_without_the_option_there_is_no_profile(tiny_bundle: Path, tmp_path: Path) -> None:
    done = bench([tiny_bundle], tmp_path, threads=(1,), seconds=0.05, rounds=3, say=lambda _: None)
    assert "operators" not in done["variants"][0]
    assert tables.operator_parts(done) == []


def test_a_profile_that_fails_is_one_sentence(tiny_bundle: Path) -> None:
    entry = {"format": "onnx", "runtime": "", "digest": "0" * 64, "file": "model.onnx"}
    with pytest.raises(EdgepruneError, match="was changed while it was measured") as error:
        operators_of(tiny_bundle, entry, 1)
    assert error.value.status == 1
