"""Bundles and rounds for the tests of the benchmark: small models, and latencies without a clock."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from edgeprune_device.bench import runner
from edgeprune_device.bench.check import BenchOptions
from edgeprune_device.bench.worker_client import Round
from edgeprune_device.bundle.writer import golden_files, write_bundle

Ran = tuple[dict[str, Any], Path, list[str]]
"""Of a real run: its result, its folder, and what was said."""
RATE, WINDOW, LABELS = 1000, 500, ["blackbird", "robin"]


RATE, WINDOW, LABELS = 1000, 500, ["blackbird", "robin"]


RATE, WINDOW, LABELS = 1000, 500, ["blackbird", "robin"]


def make_bundle(folder: Path, name: str, hidden: int, golden_shift: float = 0.0) -> Path:
    """Write a bundle whose model is two matrix products; half a second, hop a quarter."""
    rng = np.random.default_rng(hidden)
    first = rng.normal(size=(WINDOW, hidden)).astype(np.float32) / 30
    second = rng.normal(size=(hidden, len(LABELS))).astype(np.float32) / 30
    shapes = {"samples": [1, WINDOW], "scores": [1, len(LABELS)]}
    source, target = (
        onnx.helper.make_tensor_value_info(key, onnx.TensorProto.FLOAT, shape)
        for key, shape in shapes.items()
    )
    nodes = [
        onnx.helper.make_node("MatMul", ["samples", "first"], ["inside"]),
        onnx.helper.make_node("MatMul", ["inside", "second"], ["scores"]),
    ]
    weights = [onnx.numpy_helper.from_array(first, "first"),
               onnx.numpy_helper.from_array(second, "second")]  # fmt: skip
    graph = onnx.helper.make_graph(nodes, "tiny", [source], [target], weights)
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    sound = (rng.standard_normal(WINDOW) / 10).astype(np.float32)
    scores = np.asarray(sound @ first @ second + golden_shift, np.float32)
    files, entries = golden_files([sound], [scores], 1e-4)
    manifest = {
        "name": name,
        "labels": LABELS,
        "activation": "softmax",
        "audio": {"sample_rate": RATE, "window_seconds": WINDOW / RATE, "hop_seconds": 0.25},
        "decision": {"thresholds": dict.fromkeys(LABELS, 0.5), "smoothing_windows": 1,
                     "refractory_seconds": 1.0, "ignore": []},
        "golden": entries,
        "model": {
            "file": "model.onnx", "format": "onnx", "quantization": "float32", "layers": 2,
            "parameters": first.size + second.size,
            "input": {"name": "samples", "shape": [1, WINDOW], "dtype": "float32"},
            "output": {"name": "scores", "shape": [1, len(LABELS)]},
        },
    }  # fmt: skip
    write_bundle(folder, manifest, {"model.onnx": model.SerializeToString(), **files})
    return folder


def a_round(latencies_ms: NDArray[np.float64], **other: Any) -> Round:
    given: dict[str, Any] = {
        "cpu_ms_per_window": 2.0, "load_ms": 5.0, "first_ms": 9.0, "peak_rss_bytes": 80_000_000,
        "before_rss_bytes": 50_000_000, "golden_difference": 0.0,
    }  # fmt: skip
    return Round(latencies_ms=latencies_ms, **(given | other))


def rounds_of(seed: int, scale: float, rounds: int = 4) -> list[Round]:
    rng = np.random.default_rng(seed)
    return [a_round(scale * rng.gamma(9.0, size=rng.integers(21, 60))) for _ in range(rounds)]


def latencies(measured: list[Round]) -> list[NDArray[np.float64]]:
    return [one.latencies_ms for one in measured]


def measured_without_a_clock(
    bundles: list[Path], out: Path, earlier: tuple[Path, ...] = ()
) -> dict[str, Any]:
    """Run the benchmark with everything in it on latencies that are made up: the second is twice as fast."""
    turns = itertools.count()

    def child(path: Path, _format: str, _digest: str, threads: int, seconds: float, _file: str,
              options: list[str]) -> Round:  # fmt: skip
        scale = (4.0 if path == bundles[0] else 2.0) / threads
        rng = np.random.default_rng(next(turns))
        taken = scale * rng.normal(10, 0.1, 300)
        at = time.monotonic()
        run = {"slices": [{"at_seconds": n + 1.0, "n": 60, "p50_ms": 10 * scale, "max_ms": 11 * scale}
                          for n in range(60)],
               "first_ms": list(taken[:60]), "last_ms": list(1.2 * taken[60:120]), "n": 3600,
               "seconds": 60.0}  # fmt: skip
        due = [250.0 * (n + 1) for n in range(20)]
        return a_round(
            taken, golden_agreement=1.0, timed_at=at, warm_windows=6, paced_idle=0.75,
            sound={"kind": "golden", "name": "1 golden inputs", "seconds": 0.5},
            phases_ms={name: [10.0 + n] for n, name in enumerate(PHASES)},
            memory_bytes={"after_load": 60_000_000, "after_windows": 70_000_000, "pss": 65_000_000,
                          "swap": 0},
            paced_ms={"due_ms": due, "begun_ms": [ms + 1 for ms in due],
                      "done_ms": [ms + 12 * scale for ms in due]},
            sustained=run if "--sustained" in options else None, sustained_at=at,
        )  # fmt: skip

    options = BenchOptions(paced=True, sustained_minutes=1.0, watts=(2.0, 5.0), note="in a box",
                    command="edgeprune bench", earlier=earlier)  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "run_child", child)
        return runner.bench(
            bundles, out, threads=(1,), rounds=3, say=lambda _: None, options=options
        )


PHASES = ("python", "import", "verify", "load", "first", "cold_start", "journal", "first_detection",
          "window", "inference_on_way", "decide", "write", "end_to_end")  # fmt: skip
