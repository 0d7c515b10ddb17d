"""Measures one variant in the process of a round: ``python -m edgeprune_device.bench.worker``.

1. import the runtime, and read the process's memory: the cost of Python and the runtime alone;
2. read and hash the bundle (`verify`), open the model (`load`), run one cold window (`first`) and
   write its detection: what a recorder does after it was switched on;
3. check the golden outputs, so that a model with wrong scores is not timed;
4. warm up until the latencies settle;
5. time single windows of real audio (``input_sound``), back to back, until the time is up;
6. process windows up to disk, and at a microphone's pace if requested (``phases``);
7. read the memory.

The last line it writes is JSON with the fields of ``worker_client.Round``. Each measurement has its
own process, because peak memory never decreases again and because an allocator warmed by another
model is not the one the recorder starts with.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeprune_device.bench.input_sound import loop_of
from edgeprune_device.bench.phases import (
    Recorder,
    paced,
    sustained,
    time_to_disk,
    windows_of_pace,
)
from edgeprune_device.bench.worker_client import (
    CAP_SECONDS,
    NS_PER_MS,
    Samples,
    peak_bytes,
    pss_bytes,
    status_bytes,
    time_windows,
    variant_of,
    warm_up,
)
from edgeprune_device.bundle.reader import Bundle
from edgeprune_device.errors import FAILED_CHECK, EdgepruneError
from edgeprune_device.inference.runtime import LITERT_MODULES, Scorer, check_golden, open_model
from edgeprune_device.system.machine import cpu_times, idle_share

RUNTIME_MODULES = {"onnx": ("onnxruntime",), "tflite": tuple(name for name, _ in LITERT_MODULES)}


def main(arguments: list[str] | None = None) -> int:
    """Measure the variant in the arguments and write one line of JSON; return the exit status."""
    at_main = time.monotonic_ns()
    parser = argparse.ArgumentParser(prog="edgeprune_device.bench.worker")
    parser.add_argument("path", type=Path)
    parser.add_argument("--format", required=True)
    parser.add_argument("--digest", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--file", default="")
    parser.add_argument("--started-ns", type=int, default=at_main)
    parser.add_argument("--sound", type=Path)
    parser.add_argument("--sound-name", default="")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--paced", action="store_true")
    parser.add_argument("--sustained", action="store_true")
    given = parser.parse_args(arguments)
    try:
        told = _Child(given, at_main).measure()
    except EdgepruneError as error:
        sys.stderr.write(f"{error}\n")
        return FAILED_CHECK
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


class _Child:
    """One measurement, from the start of the process to its line of JSON."""

    def __init__(self, given: argparse.Namespace, at_main: int) -> None:
        self.given = given
        self.phases: dict[str, list[float]] = {}
        self.memory: dict[str, int | None] = {}
        self._clock = given.started_ns
        self._end_phase("python", at_main)

    def measure(self) -> dict[str, Any]:
        """Do all steps; return the fields of `Round`."""
        given = self.given
        for module in RUNTIME_MODULES[given.format]:
            with contextlib.suppress(ImportError):  # open_model reports what is missing
                importlib.import_module(module)
                break
        self._end_phase("import")
        before = status_bytes("VmRSS")
        bundle = variant_of(given.path, given.digest, given.file)
        self._end_phase("verify")
        run = open_model(bundle, threads=given.threads)
        self._end_phase("load")
        self.memory["after_load"] = status_bytes("VmRSS")
        loop = loop_of(bundle, given.sound, given.sound_name)
        windows = loop.windows(bundle.window_samples, bundle.hop_samples)
        blocks = loop.blocks(bundle.window_samples, bundle.hop_samples)
        recorder = self._switched_on(bundle, run, windows, blocks)
        told: dict[str, Any] = {
            "golden_difference": float(check_golden(bundle, run)),
            "golden_agreement": agreement(bundle, run),
            "sound": {"kind": loop.kind, "name": loop.name,
                      "seconds": len(loop.samples) / bundle.sample_rate},
        }  # fmt: skip
        hop = bundle.hop_samples / bundle.sample_rate
        if given.sustained:
            told["sustained_at"] = time.monotonic()
            told["sustained"] = sustained(run, windows, given.seconds, hop if given.paced else None)
            taken, cpu_ms = list[int](), 0.0
        else:
            told["warm_windows"] = warm_up(run, lambda: next(windows), given.seconds / 2)
            told["timed_at"] = time.monotonic()
            taken, cpu_ms = time_windows(run, lambda: next(windows), given.seconds)
        self.memory |= {"after_windows": status_bytes("VmRSS"), "pss": pss_bytes(),
                        "swap": status_bytes("VmSwap")}  # fmt: skip
        peak = peak_bytes()
        if recorder is not None and not given.sustained:
            self.phases |= time_to_disk(recorder, blocks, given.seconds)
            if given.paced:
                wanted = windows_of_pace(given.seconds, hop, CAP_SECONDS)
                idle = cpu_times()
                told["paced_ms"] = paced(recorder.step, blocks, hop, wanted)
                told["paced_idle"] = idle_share(idle, cpu_times())
            recorder.close()
        return told | {
            "latencies_ns": taken, "cpu_ms_per_window": cpu_ms,
            "load_ms": self.phases["verify"][0] + self.phases["load"][0],
            "first_ms": self.phases["first"][0], "peak_rss_bytes": peak,
            "before_rss_bytes": before, "phases_ms": self.phases, "memory_bytes": self.memory,
        }  # fmt: skip

    def _switched_on(
        self, bundle: Bundle, run: Scorer, windows: Iterator[Samples], blocks: Iterator[Samples]
    ) -> Recorder | None:
        """Score the first window and write its detection, as a recorder does after its start."""
        started, window, block = self.given.started_ns, next(windows), next(blocks)
        cold = time.monotonic_ns()
        run(window)
        scored = time.monotonic_ns()
        self.phases["first"] = [(scored - cold) / NS_PER_MS]
        self.phases["cold_start"] = [(scored - started) / NS_PER_MS]
        if self.given.folder is None:
            return None
        opened = time.monotonic_ns()
        recorder = Recorder(bundle, run, self.given.folder)
        first = recorder.step(block)  # its inference is the second; the cold one counts
        way = first.window + first.decide + first.write
        self.phases["journal"] = [(time.monotonic_ns() - opened - first.end_to_end) / NS_PER_MS]
        self.phases["first_detection"] = [
            self.phases["cold_start"][0] + self.phases["journal"][0] + way / NS_PER_MS
        ]
        return recorder

    def _end_phase(self, name: str, now: int | None = None) -> None:
        now = now or time.monotonic_ns()
        self.phases[name] = [(now - self._clock) / NS_PER_MS]
        self._clock = now


def agreement(bundle: Bundle, run: Scorer) -> float:
    """Return the share of golden inputs whose best label (or best label per frame) is as stored."""
    same = [
        bool((run(golden.samples).argmax(-1) == golden.scores.argmax(-1)).all())
        for golden in bundle.golden
    ]
    return sum(same) / len(same)


if __name__ == "__main__":
    raise SystemExit(main())
