"""transformers in torch, float32: one round in its own process, as ``bench.worker`` for a bundle.

    python torch_child.py FOLDER --window 16000 --threads 1 --seconds 2

FOLDER is a model folder. The last line of standard output is JSON as from ``bench.worker``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import transformers

from edgeprune.export.onnx import Scorer
from edgeprune.models import loading
from edgeprune.models.checkpoints import read_config
from edgeprune_device.bench.worker_client import (
    NOISE_LEVEL,
    NS_PER_MS,
    Samples,
    peak_bytes,
    status_bytes,
    time_windows,
    warm_up,
)


def main() -> None:
    """Measure as given on the command line and print one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--window", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    config = read_config(str(given.folder))
    _ = transformers.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING[type(config)]  # imports its code
    before = status_bytes("VmRSS")
    start = time.perf_counter_ns()
    scorer = Scorer(loading.load_model(str(given.folder))).eval()
    loaded = time.perf_counter_ns()
    rng = np.random.default_rng(0)

    def noise() -> Samples:
        drawn: Samples = rng.standard_normal(given.window, dtype=np.float32)
        drawn *= np.float32(NOISE_LEVEL)
        return drawn

    def run(samples: Samples) -> Samples:
        with torch.inference_mode():
            return np.asarray(scorer(torch.from_numpy(samples)[None]), dtype=np.float32)

    cold = time.perf_counter_ns()
    run(noise())
    first = time.perf_counter_ns() - cold
    warm_up(run, noise, given.seconds / 2)
    taken, cpu_ms = time_windows(run, noise, given.seconds)
    told = {
        "latencies_ns": taken, "cpu_ms_per_window": cpu_ms, "load_ms": (loaded - start) / NS_PER_MS,
        "first_ms": first / NS_PER_MS, "peak_rss_bytes": peak_bytes(), "before_rss_bytes": before,
        "golden_difference": 0.0,
    }  # fmt: skip
    print(json.dumps(told))


if __name__ == "__main__":
    main()
