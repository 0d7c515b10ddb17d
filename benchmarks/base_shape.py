"""The recipe ``light`` on a wav2vec2-base with random weights: file sizes and latency.

    python benchmarks/base_shape.py --results benchmarks/results

The recipe ``light`` (a mimic in place of the twelve layers, log-mel in place of the waveform
encoder) and a frame-wise mimic as in arXiv 2409.16302 are compared with the float32 teacher, as
files in float32, with int8 products and with weights stored in 8 bits. All are measured alternately
in one process on one thread, on one second of noise.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

from edgeprune.core.recipe import build_settings, find_recipe, read_recipe
from edgeprune.core.settings import FrontEnd, Mimic
from edgeprune.core.tables import table, to_markdown
from edgeprune.export.onnx import to_onnx
from edgeprune.models.families import family_of
from edgeprune.models.loading import count_parameters
from edgeprune.quantization.methods import METHODS
from edgeprune.quantization.module_scopes import scopes_of
from edgeprune.replacement.frontend import features_of
from edgeprune.replacement.frontend_placement import insert_light_frontend
from edgeprune.replacement.mimic_placement import drop_positions, mimic_spec, put_mimic
from edgeprune.training.step_records import count_macs
from edgeprune_device.system.machine import machine_facts

RATE, OPSET, LABELS = 16000, 18, 20
KINDS = ("none", "dynamic", "weights")  # of methods


def main() -> None:
    """Make the files, measure them in turn, print the table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--results", type=Path, required=True, help="where the JSON goes")
    parser.add_argument("--rounds", type=int, default=60, help="times each file is run")
    options = parser.parse_args()
    torch.set_num_threads(1)
    light = build_settings(read_recipe(find_recipe("light")))
    made = {
        "teacher": (None, None), "mimic alone": (light.mimic, None),
        "light": (light.mimic, light.frontend), "frame-wise, log-mel": (Mimic(), light.frontend),
    }  # fmt: skip
    files: dict[str, bytes] = {}
    rows: dict[str, dict[str, Any]] = {}
    for name, (mimic, front) in made.items():
        model = make(mimic, front)
        size = {"parameters": count_parameters(model), "macs": count_macs(model, RATE)}
        data = to_onnx(model, RATE, OPSET)
        scopes = scopes_of(family_of(model.config.model_type))
        none = np.zeros((0, RATE), np.float32)
        kinds = {kind: METHODS["onnx"][kind](data, scopes, none) for kind in KINDS}
        for kind, content in kinds.items():
            files[f"{name}, {kind}"] = content
            rows[f"{name}, {kind}"] = {**size, "bytes": len(content)}
        del model
    for name, times in measure(files, options.rounds).items():
        p50, p90 = np.quantile(times, [0.5, 0.9])
        rows[name] |= {"p50_ms": float(p50), "p90_ms": float(p90), "n": len(times)}
    print(to_markdown(to_table(rows)))
    options.results.mkdir(parents=True, exist_ok=True)
    day = datetime.now(UTC).date().isoformat()
    (options.results / f"base-shape-{day}.json").write_text(
        json.dumps({"machine": machine_facts(), "threads": 1, "rows": rows}, indent=1) + "\n",
        "utf-8",
    )


def make(mimic: Mimic | None, front: FrontEnd | None) -> Any:
    """Return a wav2vec2-base with random weights and these parts replaced."""
    torch.manual_seed(0)
    config = Wav2Vec2Config(num_labels=LABELS, layerdrop=0.0, mask_time_prob=0.0)
    model = Wav2Vec2ForSequenceClassification._from_config(
        copy.deepcopy(config), attn_implementation="sdpa"
    ).eval()
    model.config.edgeprune_normalize = True
    if front is not None:
        usual = features_of(model, "feature_extractor", torch.zeros(1, RATE))
        insert_light_frontend(model, usual, RATE, front)
    if mimic is not None:
        depth = model.config.num_hidden_layers
        put_mimic(model, 0, depth, torch.zeros(1, RATE), **mimic_spec(mimic))
        drop_positions(model)
    return model.eval()


def measure(files: dict[str, bytes], rounds: int) -> dict[str, list[float]]:
    """Run every file in turn, ``rounds`` times after a warm-up; return the times in ms."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    sessions = {
        name: onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        for name, data in files.items()
    }
    sound = np.random.default_rng(0).standard_normal((1, RATE)).astype(np.float32) * 0.1
    times: dict[str, list[float]] = {name: [] for name in files}
    for turn in range(rounds + 1):
        for name, session in sessions.items():
            session.run(None, {"samples": sound})  # its weights are in the cache again
            begun = time.perf_counter()
            session.run(None, {"samples": sound})
            if turn:
                times[name].append(1000 * (time.perf_counter() - begun))
    return times


def to_table(rows: dict[str, dict[str, Any]]) -> Any:
    """Compare every file with the teacher's float32 one."""
    base = next(iter(rows.values()))
    lines = [
        (name, f"{r['parameters'] / 1e6:.2f} M", f"{r['macs'] / 1e6:.0f} M", f"{r['bytes'] / 1e6:.2f}",
         f"{base['bytes'] / r['bytes']:.0f} x", f"{r['p50_ms']:.2f} / {r['p90_ms']:.2f}",
         f"{base['p50_ms'] / r['p50_ms']:.1f} x")
        for name, r in rows.items()
    ]  # fmt: skip
    return table(("", "parameters", "MACs", "MB", "smaller", "p50 / p90 ms", "faster"), lines)


if __name__ == "__main__":
    main()
