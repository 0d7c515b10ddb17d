"""Why the convolutions stay in float: int8 variants of a wav2vec 2.0 base, measured side by side.

    python benchmarks/int8.py -o benchmarks/results

A model of the size of wav2vec2-base with seeded random weights (latency and bytes do not depend on
what it has learnt; the difference of its last hidden states to float32 shows what rounding does,
on real speech where ``../shared`` is there). Every variant runs on one window of one second, one
thread, interleaved in rounds.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import tempfile
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic
from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

from edgeprune import models
from edgeprune.dynamic_int8 import to_int8
from edgeprune.shaping import fold_weight_norm
from edgeprune.tables import table, to_markdown
from edgeprune_device.machine import machine_facts
from edgeprune_device.sound import read_clip

SPEECH = Path(__file__).resolve().parents[2] / "shared/data/librispeech_237/audio"
WINDOW, ROUNDS, RUNS = 16000, 5, 10


class States(torch.nn.Module):
    """The model up to its last hidden states."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """Return states (1, frames, hidden)."""
        states: torch.Tensor = self.model.base_model(
            models.prepare(self.model, samples)
        ).last_hidden_state
        return states


def main() -> None:
    """Export, quantize, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # the quantizer advises a preprocessing
    data = exported()
    variants = {
        "float32": data,
        "int8 dynamic, MatMul and Gemm, per channel (ours)": to_int8(data),
        "int8 dynamic, all operators (ONNX Runtime's default)": default_int8(data, QuantType.QInt8),
        "the same with unsigned weights": default_int8(data, QuantType.QUInt8),
    }
    inputs = windows()
    sessions = {name: session(file) for name, file in variants.items()}
    reference = [run(sessions["float32"], x) for x in inputs]
    times = measure(sessions, inputs[0])
    rows = []
    for name, file in variants.items():
        drift = np.mean([
            np.linalg.norm(run(sessions[name], x) - r) / np.linalg.norm(r)
            for x, r in zip(inputs, reference, strict=True)
        ])  # fmt: skip
        p50, p90 = np.percentile(times[name], [50, 90])
        rows.append({"variant": name, "mb": len(file) / 1e6, "p50_ms": p50, "p90_ms": p90,
                     "relative_difference_of_hidden_states": float(drift)})  # fmt: skip
    base = rows[0]["p50_ms"]
    shown = table(
        ("12 layers, 95 M parameters, 1 s, 1 thread", "MB", "p50 / p90 ms", "speed", "drift"),
        [(r["variant"], f"{r['mb']:.0f}", f"{r['p50_ms']:.0f} / {r['p90_ms']:.0f}",
          f"{base / r['p50_ms']:.2f} x", f"{r['relative_difference_of_hidden_states']:.3f}")
         for r in rows],
    )  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    day = datetime.now(UTC).date().isoformat()
    result = {"day": day, "machine": machine_facts(), "real_speech": SPEECH.exists(), "rows": rows}
    (options.out / f"int8-{day}.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(to_markdown(shown))


def exported() -> bytes:
    """Return a float32 ONNX file of a wav2vec2-base with random weights."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        Wav2Vec2ForSequenceClassification(Wav2Vec2Config()).save_pretrained(folder)
        model = models.load_classifier(folder)
    fold_weight_norm(model)
    buffer: Any = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            States(model).eval(), (torch.randn(1, WINDOW) * 0.1,), buffer, dynamo=False,
            input_names=["samples"], output_names=["states"], opset_version=18,
        )  # fmt: skip
    data: bytes = buffer.getvalue()
    return data


def default_int8(data: bytes, weights: QuantType) -> bytes:
    """Quantize as ONNX Runtime does when it is not told what to leave alone."""
    graph = onnx.load_from_string(data)
    del graph.graph.value_info[:]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "all.onnx"
        quantize_dynamic(graph, target, weight_type=weights)
        return target.read_bytes()


def windows() -> list[NDArray[np.float32]]:
    """Return one-second windows of real speech, or of noise where there is none."""
    files = sorted(SPEECH.rglob("*.flac"))[:8]
    if not files:
        return [np.float32(0.1) * np.random.default_rng(i).standard_normal(WINDOW, np.float32)
                for i in range(8)]  # fmt: skip
    return [read_clip(file, 16000, 0.5, 0.5 + WINDOW / 16000) for file in files]


def session(data: bytes) -> onnxruntime.InferenceSession:
    """Open a file on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def run(opened: onnxruntime.InferenceSession, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the states of one window."""
    return np.asarray(opened.run(None, {"samples": samples[None]})[0])


def measure(
    sessions: dict[str, onnxruntime.InferenceSession], samples: NDArray[np.float32]
) -> dict[str, list[float]]:
    """Return latencies in ms, the variants in turn."""
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(ROUNDS):
        for name, opened in sessions.items():
            run(opened, samples)
            for _ in range(RUNS):
                begin = time.perf_counter()
                run(opened, samples)
                times[name].append(1000 * (time.perf_counter() - begin))
    return times


if __name__ == "__main__":
    main()
