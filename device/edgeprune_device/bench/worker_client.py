"""Measures one variant in a child process: the pipe to it, and code shared by both ends.

`run_child` starts ``python -m edgeprune_device.bench.worker`` and reads its last line; the module
describes what runs there. Here are also the loops that time windows, and how a process reads its
own memory.
"""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.bundle.reader import Bundle, read_bundle
from edgeprune_device.errors import FAILED_CHECK, EdgepruneError
from edgeprune_device.system.child_process import run_module

FEWEST_WINDOWS = 20
MOST_WINDOWS = 20_000  # enough for a model that takes microseconds
CAP_SECONDS = 60.0  # a slow board stops after this time, even before FEWEST_WINDOWS
WARM_WINDOWS = 3
SETTLED = 0.05  # share of the latency: the last WARM_WINDOWS compared with those before them
HUNG_SECONDS = 600.0  # on top of all times above: load, golden outputs, warm-up on a slow board
NOISE_LEVEL = 0.1  # RMS, full scale 1; some kernels are unrealistically fast on silence
NS_PER_MS = 1e6
BYTES_PER_KIB = 1024

Samples = NDArray[np.float32]
Run = Callable[[Samples], Samples]


@dataclass(frozen=True)
class Round:
    """What one child process measured."""

    latencies_ms: NDArray[np.float64]  # (windows,), in order
    cpu_ms_per_window: float  # over all threads, mean
    load_ms: float  # bundle read and checked, model opened; without imports
    first_ms: float  # the first, cold window
    peak_rss_bytes: int  # of the whole process
    before_rss_bytes: int | None  # after the imports, before the bundle; None without /proc
    golden_difference: float  # largest difference from the stored outputs
    golden_agreement: float | None = None  # share of golden inputs with the same best label
    phases_ms: dict[str, list[float]] = field(
        default_factory=dict
    )  # see docs/reference/bench-json.md
    memory_bytes: dict[str, int | None] = field(default_factory=dict)
    paced_ms: dict[str, list[float]] | None = None
    paced_idle: float | None = None  # idle share of all cores' time in the paced part
    sustained: dict[str, Any] | None = None
    sustained_at: float | None = None  # monotonic seconds at which the sustained run began
    warm_windows: int | None = None
    sound: dict[str, Any] | None = None  # kind, name, seconds
    timed_at: float | None = None  # monotonic seconds at which `latencies_ms` begin


def run_child(
    path: Path, model_format: str, digest: str, threads: int, seconds: float, file: str = "",
    more: Sequence[str] = (),
) -> Round:  # fmt: skip
    """Measure one variant for one round in a child process.

    Parameters
    ----------
    path : Path
        The bundle, which the child reads again.
    model_format, digest : str
        Format and digest when the bundle was first read: which runtime to import, and to check that
        the bundle is still the same.
    threads : int
        Number of threads of the runtime.
    seconds : float
        Time to measure, without warm-up.
    file : str
        Model file of a bundle with two; empty: its first.
    more : sequence of str
        Further options of the child: its input audio, and what else it times.

    Returns
    -------
    Round

    Raises
    ------
    EdgepruneError
        The child fails (with its last line of output), or does not end.

    """
    options = ["--format", model_format, "--file", file, "--seconds", repr(float(seconds)), *more,
               "--started-ns", str(time.monotonic_ns())]  # fmt: skip
    told = ask_child(
        "edgeprune_device.bench.worker", path, digest, threads, seconds + HUNG_SECONDS, options
    )
    return Round(latencies_ms=np.array(told.pop("latencies_ns"), np.float64) / NS_PER_MS, **told)


def ask_child(
    module: str, path: Path, digest: str, threads: int, patience_seconds: float,
    options: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """Run an edgeprune module on a bundle in a child process and parse its last line, JSON.

    Raises
    ------
    EdgepruneError
        The child fails (with its last line of output), or does not end.

    """
    arguments = [str(path), "--digest", digest, "--threads", str(threads), *options]
    try:
        done = run_module(module, arguments, patience_seconds)
    except subprocess.TimeoutExpired as error:
        raise EdgepruneError(
            f"Measuring {path} did not finish within {error.timeout:.0f} s.",
            "Measure a smaller bundle on this machine.",
            FAILED_CHECK,
        ) from None
    if done.returncode:
        raise EdgepruneError(
            f"Measuring {path} at threads {threads} failed: {last_words(done)}", "", FAILED_CHECK
        )
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def last_words(done: subprocess.CompletedProcess[str]) -> str:
    """Return the last line a failed process wrote, or else how it ended."""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        short = " (out of memory?)" if name == "SIGKILL" else ""
        return f"killed by {name}{short}."
    return lines[-1] if lines else f"status {done.returncode}, no message."


def warm_up(run: Run, noise: Callable[[], Samples], seconds: float) -> int:
    """Run until the latency settles or the time is up; return the number of windows.

    Settled: the median of the last three is within 5 % of that of the three before.
    """
    taken: list[int] = []
    end = time.perf_counter() + seconds
    while len(taken) < WARM_WINDOWS or time.perf_counter() < end:
        window = noise()
        start = time.perf_counter_ns()
        run(window)
        taken.append(time.perf_counter_ns() - start)
        if len(taken) >= 2 * WARM_WINDOWS:
            before = float(np.median(taken[-2 * WARM_WINDOWS : -WARM_WINDOWS]))
            if abs(float(np.median(taken[-WARM_WINDOWS:])) - before) <= SETTLED * before:
                break
    return len(taken)


def time_windows(run: Run, noise: Callable[[], Samples], seconds: float) -> tuple[list[int], float]:
    """Time single windows, back to back.

    Parameters
    ----------
    run : callable
        The model.
    noise : callable
        Returns the next window.
    seconds : float
        Time to measure.

    Returns
    -------
    latencies_ns : list of int
        One per window, in order: at least 20, unless `CAP_SECONDS` are over before.
    cpu_ms : float
        Mean processor time per window in ms, all threads together.

    """
    taken: list[int] = []
    cpu = 0
    begun = time.perf_counter()
    while True:
        window = noise()
        cpu_start = time.process_time_ns()
        start = time.perf_counter_ns()
        run(window)
        taken.append(time.perf_counter_ns() - start)
        cpu += time.process_time_ns() - cpu_start
        passed = time.perf_counter() - begun
        enough = passed >= seconds and len(taken) >= FEWEST_WINDOWS
        if enough or passed >= max(CAP_SECONDS, seconds) or len(taken) >= MOST_WINDOWS:
            return taken, cpu / len(taken) / NS_PER_MS


def status_bytes(field: str, status: Path = Path("/proc/self/status")) -> int | None:
    """Return a memory field (VmRSS: now, VmHWM: peak) of this process in bytes; None if unknown."""
    try:
        lines = status.read_text("ascii", "replace").splitlines()
    except OSError:
        return None
    found = [line.split() for line in lines if line.startswith(f"{field}:")]
    return int(found[0][1]) * BYTES_PER_KIB if found else None


def peak_bytes() -> int:
    """Return the peak resident memory of this process in bytes.

    The fallback can be too high: Linux passes ru_maxrss on from the process that started this one,
    while VmHWM starts again with the program.
    """
    peak = status_bytes("VmHWM")
    if peak is not None:
        return peak
    scale = 1 if sys.platform == "darwin" else BYTES_PER_KIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def variant_of(path: Path, digest: str, file: str) -> Bundle:
    """Read a bundle and return the variant with a model file; ``file`` empty: the first.

    Raises
    ------
    EdgepruneError
        The bundle is not the one that was read before.

    """
    bundle = read_bundle(path)
    found = [variant for variant in bundle.variants if file in ("", variant.file)]
    if bundle.digest != digest or not found:
        raise EdgepruneError(f"{path} was changed while it was measured.")
    return found[0]


def pss_bytes(rollup: Path = Path("/proc/self/smaps_rollup")) -> int | None:
    """Return this process's proportional set size (PSS) in bytes; None if unknown."""
    try:
        lines = rollup.read_text("ascii", "replace").splitlines()
    except OSError:
        return None
    found = [line.split() for line in lines if line.startswith("Pss:")]
    return int(found[0][1]) * BYTES_PER_KIB if found else None
