"""The pipe to a measuring process: its loops on a clock that does not pass, its memory, its last words."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeprune_device.bench import worker_client
from edgeprune_device.errors import EdgepruneError


def test_warm_up_ends_when_the_latency_has_settled_and_at_the_bound_if_it_never_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = FakeClock(monkeypatch)
    noise, steady = (lambda: np.zeros(1, np.float32)), clock.taking(lambda turn: 10.0)
    assert worker_client.warm_up(steady, noise, 5.0) == 6
    settling = clock.taking(lambda turn: 100.0 if turn < 4 else 10.0)
    assert worker_client.warm_up(settling, noise, 5.0) > 6
    growing = clock.taking(lambda turn: 1.2**turn)
    assert 6 < worker_client.warm_up(growing, noise, 5.0) < 50
    assert worker_client.warm_up(clock.taking(lambda turn: 9000.0), noise, 5.0) == 3


def test_windows_are_timed_until_the_time_is_up_at_least_twenty_unless_the_cap_comes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, noise = FakeClock(monkeypatch), (lambda: np.zeros(1, np.float32))
    taken, cpu_ms = worker_client.time_windows(clock.taking(lambda turn: 10.0), noise, 2.0)
    assert cpu_ms == pytest.approx(20)
    assert len(taken) == pytest.approx(200, abs=1)
    assert set(taken) == {10_000_000}
    taken, _ = worker_client.time_windows(clock.taking(lambda turn: 1000.0), noise, 2.0)
    assert len(taken) == 20
    taken, _ = worker_client.time_windows(clock.taking(lambda turn: 9000.0), noise, 2.0)
    assert len(taken) == 7  # 63 s: the first to pass the cap of 60 s


class FakeClock:
    """Time that passes only in a model's run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ns = 0
        clocks = SimpleNamespace(
            perf_counter_ns=lambda: self.ns,
            perf_counter=lambda: self.ns / 1e9,
            process_time_ns=lambda: 2 * self.ns,
        )
        monkeypatch.setattr(worker_client, "time", clocks)

    def taking(self, cost_ms: Callable[[int], float]) -> worker_client.Run:
        turns = itertools.count()

        def run(samples: NDArray[np.float32]) -> NDArray[np.float32]:
            self.ns += round(cost_ms(next(turns)) * 1e6)
            return samples

        return run


def test_memory_is_read_in_bytes_and_absent_where_the_system_does_not_tell(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tx\nVmHWM:\t    2184 kB\nVmRSS:\t    1000 kB\n")
    assert worker_client.status_bytes("VmHWM", tmp_path / "status") == 2184 * 1024
    assert worker_client.status_bytes("VmSwap", tmp_path / "status") is None
    assert worker_client.status_bytes("VmHWM", tmp_path / "none") is None
    assert worker_client.peak_bytes() > 10_000_000


def test_child_that_fails_is_told_in_its_last_words(two_bundles: list[Path]) -> None:
    with pytest.raises(EdgepruneError, match=r"was changed while it was measured\.$") as caught:
        worker_client.run_child(two_bundles[0], "onnx", "0" * 64, 1, 0.1)
    assert caught.value.status == 1


@pytest.mark.parametrize(("code", "stderr", "words"), [
    (1, "Traceback\n  File\nValueError: no\n\n", "ValueError: no"),
    (-9, "", "killed by SIGKILL (out of memory?)."),
    (-11, "noise", "killed by SIGSEGV."),
    (3, "", "status 3, no message."),
])  # fmt: skip
def test_last_words_say_how_a_child_ended(code: int, stderr: str, words: str) -> None:
    done = subprocess.CompletedProcess([], code, "", stderr)
    assert worker_client.last_words(done) == words
