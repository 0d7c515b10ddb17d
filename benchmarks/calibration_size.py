"""Static int8 accuracy against the number and choice of calibration clips.

    python benchmarks/calibration_size.py MODEL DATA -o benchmarks/results

Every tensor's extrema are recorded once per clip of a pool; the ranges of a set are the extrema of
its clips, so that many sets need one pass only. MatMul and Gemm are quantized to int8 per channel
with static ranges (QDQ). A set is judged by the share of test clips with the float file's decision,
by the mean over clips of the largest difference of a score (drift), and by the width of its ranges
relative to those of the whole pool. Each seed draws other training clips as the pool and other test
clips; ``random`` sets are drawn from the pool.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from edgeprune.core.tables import table, to_markdown
from edgeprune.export.onnx import onnx_runner, to_onnx
from edgeprune.models import loading
from edgeprune_calibration.clipping_ranges import tally
from edgeprune_calibration.dataset import read_data
from edgeprune_calibration.select_clips import RULES, pick
from edgeprune_calibration.sound_features import features, standardised
from edgeprune_calibration.splits import split_clips
from edgeprune_device.audio.sound_files import pad_to_window, read_clip
from edgeprune_device.system.machine import machine_facts

SIZES = (5, 10, 20, 40, 80, 160)
OPERATORS = ["MatMul", "Gemm"]
Extrema = NDArray[np.float64]
"""(clips, tensors, 2): minimum and maximum of each tensor."""


def main() -> None:
    """Record extrema, quantize with every set, measure agreement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--pool", type=int, default=300, help="Clips that a set is picked of.")
    parser.add_argument("--test", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # the quantizer advises a preprocessing
    parts = split_clips(read_data(options.data))
    data, rate, window = exported(options.model)
    rows: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        generator = np.random.default_rng(seed)
        pool = [parts["train"][i] for i in generator.permutation(len(parts["train"]))]
        pool = pool[: options.pool]
        sounds = [read_clip(c.path, rate) for c in pool]
        names, extrema = extrema_of(data, [fitted(x, window) for x in sounds])
        tests = [
            parts["test"][i] for i in generator.permutation(len(parts["test"]))[: options.test]
        ]
        heard = [fitted(read_clip(c.path, rate), window) for c in tests]
        float_run = onnx_runner(data)
        expected = np.array([float_run(x[None])[0] for x in heard])
        described = standardised(np.array([features(x, rate) for x in sounds]))
        kinds = [(c.label,) for c in pool]
        whole = width(extrema, range(len(pool)))
        for size in SIZES:
            for rule in ("random", *RULES):
                chosen = (generator.permutation(len(pool))[:size].tolist() if rule == "random"
                          else pick(described, kinds, size, rule))  # fmt: skip
                run = onnx_runner(quantized(data, names, extrema[chosen]))
                given = np.array([run(x[None])[0] for x in heard])
                same = given.argmax(axis=1) == expected.argmax(axis=1)
                rows.append({"seed": seed, "clips": size, "rule": rule,
                             "agreement": float(same.mean()),
                             "drift": float(np.abs(given - expected).max(axis=1).mean()),
                             "width": float(np.mean(width(extrema, chosen) / whole))})  # fmt: skip
                print(json.dumps(rows[-1]), flush=True)
    day = datetime.now(UTC).date().isoformat()
    result = {"day": day, "machine": machine_facts(), "onnxruntime": onnxruntime.__version__,
              "pool": options.pool, "test": options.test, "rows": rows}  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"calibration-size-{day}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(to_markdown(table(("clips", *(f"{r}, {what}" for r in ("random", *RULES)
                                        for what in ("agreement", "drift", "width"))),
                            [line(rows, size) for size in SIZES])))  # fmt: skip


def line(rows: Sequence[dict[str, Any]], size: int) -> list[str]:
    """Return a row of the table: means over the seeds, and the spread."""
    cells = [str(size)]
    for rule in ("random", *RULES):
        own = [row for row in rows if row["clips"] == size and row["rule"] == rule]
        for what in ("agreement", "drift", "width"):
            values = [100 * row[what] for row in own]
            cells.append(f"{np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})")
    return cells


def exported(model: Path) -> tuple[bytes, int, int]:
    """Return a model's float32 ONNX file for one second, its sample rate and window."""
    classifier = loading.load_model(str(model))
    return to_onnx(classifier, 16000, 18), 16000, 16000


def fitted(sound: NDArray[np.float32], window: int) -> NDArray[np.float32]:
    """Return a clip's first window; a short clip is centred."""
    return pad_to_window(sound[:window], window)[0]


def extrema_of(data: bytes, windows: Sequence[NDArray[np.float32]]) -> tuple[list[str], Extrema]:
    """Return the inputs and outputs of products, and their extrema per window."""
    graph = onnx.load_from_string(data)
    weights = {x.name for x in graph.graph.initializer}
    constants = {name for node in graph.graph.node if node.op_type == "Constant"
                 for name in node.output}  # fmt: skip
    names = sorted({name for node in graph.graph.node if node.op_type in OPERATORS
                    for name in (*node.input, *node.output)} - weights - constants)  # fmt: skip
    known = {x.name for x in graph.graph.output}
    graph.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in known)
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    rows = []
    for window in windows:
        values = session.run(names, {session.get_inputs()[0].name: window[None]})
        tallies = [tally(value) for value in values]
        rows.append([(t.lowest, t.highest) for t in tallies])
    return names, np.array(rows)


def width(extrema: Extrema, chosen: Sequence[int] | range) -> NDArray[np.float64]:
    """Return the widths of a set's ranges, (tensors,)."""
    own = extrema[list(chosen)]
    return np.asarray(own[:, :, 1].max(axis=0) - own[:, :, 0].min(axis=0))


def quantized(data: bytes, names: Sequence[str], extrema: Extrema) -> bytes:
    """Quantize the products to int8 with the ranges of a set."""
    graph = onnx.load_from_string(data)
    del graph.graph.value_info[:]
    graph = onnx.shape_inference.infer_shapes(graph)
    low, high = extrema[:, :, 0].min(axis=0), extrema[:, :, 1].max(axis=0)
    ranges = {name: (np.float32(a), np.float32(b))
              for name, a, b in zip(names, low, high, strict=True)}  # fmt: skip
    quantizer = QDQQuantizer(
        graph, True, False, QuantType.QInt8, QuantType.QUInt8,
        TensorsData(CalibrationMethod.MinMax, ranges), [], [], OPERATORS, {},
    )  # fmt: skip
    quantizer.quantize_model()
    done: bytes = quantizer.model.model.SerializeToString()
    return done


if __name__ == "__main__":
    main()
