"""How long a model or a file takes for one window: the least of several runs, one thread."""

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
    """Return the ms of a window through a model's exported file: one thread, median."""
    return time_onnx(to_onnx(model, window_samples, OPSET), window_samples)


def time_onnx(data: bytes, window_samples: int) -> float:
    """Return the median ms of a window through an ONNX file on one thread, after a warm-up."""
    return time_run(onnx_runner(data), window_samples)


def time_run(run: Callable[[NDArray[np.float32]], Any], window_samples: int) -> float:
    """Return the median ms of a window through a file that is open, after a warm-up."""
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
