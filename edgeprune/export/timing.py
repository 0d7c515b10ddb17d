"""Latency of a model or a file for one window: median of several runs on one thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.export.onnx import onnx_runner, to_onnx

OPSET = 18
TIMED_SECONDS = 0.5
FEWEST_RUNS = 7


def measure_latency(model: Any, window_samples: int) -> float:
    """Return the median latency in ms of a model's exported file for one window, on one thread."""
    return time_onnx(to_onnx(model, window_samples, OPSET), window_samples)


def time_onnx(data: bytes, window_samples: int) -> float:
    """Return the median latency in ms of an ONNX file for one window on one thread, warmed up."""
    return time_run(onnx_runner(data), window_samples)


def time_run(run: Callable[[NDArray[np.float32]], Any], window_samples: int) -> float:
    """Return the median latency in ms of a loaded file for one window, after a warm-up."""
    generator = np.random.default_rng(0)
    samples = (generator.standard_normal((1, window_samples)) * 0.1).astype(np.float32)
    for _ in range(2):
        run(samples)
    spent: list[float] = []
    end = time.perf_counter() + TIMED_SECONDS
    while len(spent) < FEWEST_RUNS or time.perf_counter() < end:
        start = time.perf_counter()
        run(samples)
        spent.append(time.perf_counter() - start)
    return 1000 * float(np.median(spent))
