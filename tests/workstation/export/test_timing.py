"""How long a window takes: the median of enough runs, after a warm-up, by a clock of our own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_models import make_model
from tiny_windows import LABELS

from edgeprune.export import timing
from edgeprune.export.onnx import to_onnx
from edgeprune.export.timing import FEWEST_RUNS, time_run
from edgeprune.models import loading


class Clock:
    """Runs take what they are said to take, the first two (which warm up) a second each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, takes: Any) -> None:
        self.now, self.takes = 50.0, takes
        self.heard: list[NDArray[np.float32]] = []
        monkeypatch.setattr(
            "edgeprune.export.timing.time", SimpleNamespace(perf_counter=lambda: self.now)
        )

    def run(self, samples: NDArray[np.float32]) -> None:
        number = len(self.heard) - 2
        self.heard.append(samples)
        self.now += 1.0 if number < 0 else self.takes(number)


def test_it_is_the_median_of_the_runs_after_two_that_warm_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch, lambda number: 0.2 if number % 3 == 0 else 0.001)
    assert time_run(clock.run, 160) == pytest.approx(1.0)  # ms


def test_slow_models_get_the_fewest_runs_and_fast_ones_half_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timing, "TIMED_SECONDS", 0.5)
    slow = Clock(monkeypatch, lambda number: 3.0)
    time_run(slow.run, 160)
    assert len(slow.heard) == 2 + FEWEST_RUNS
    fast = Clock(monkeypatch, lambda number: 0.010)
    time_run(fast.run, 160)
    assert len(fast.heard) - 2 == pytest.approx(0.5 / 0.010, abs=1)


def test_every_run_hears_the_same_quiet_noise_of_one_window(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch, lambda number: 1.0)
    time_run(clock.run, 4000)
    assert {x.shape for x in clock.heard} == {(1, 4000)}
    assert clock.heard[0].dtype == np.float32
    assert all(np.array_equal(x, clock.heard[0]) for x in clock.heard)
    assert float(clock.heard[0].std()) == pytest.approx(0.1, rel=0.05)


def test_a_model_is_timed_as_its_exported_file_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = loading.load_model(str(make_model(tmp_path / "m", "edgeprune-student", LABELS)))
    timed: list[tuple[Any, int]] = []

    def time_run(run: Any, window: int) -> float:
        timed.append((run, window))
        return 4.5

    monkeypatch.setattr(timing, "time_run", time_run)
    assert timing.measure_latency(model, 4000) == 4.5
    assert timing.time_onnx(to_onnx(model, 4000, timing.OPSET), 4000) == 4.5
    samples = 0.1 * np.random.default_rng(0).standard_normal((1, 4000)).astype(np.float32)
    (first, window), (second, _) = timed
    assert window == 4000
    np.testing.assert_array_equal(first(samples), second(samples))
