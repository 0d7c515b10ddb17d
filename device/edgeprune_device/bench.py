"""Measure bundles side by side on this machine: latency, real-time factor, memory and size.

Every variant (a bundle at a thread count) runs in a child process of its own, in rounds:

    round 1   student-1  teacher-2  teacher-1  student-2
    round 2   teacher-2  student-1  student-2  teacher-1     ... the order is shuffled in each

so that a board that warms up or is disturbed slows all variants alike, and so that the rounds'
medians show whether it was. Both ends of the pipe to a child are in ``bench_child``, the arithmetic
on what comes back in ``bench_statistics``, the files that come out in ``bench_report``.
"""

from __future__ import annotations

import importlib.metadata
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune_device.bench_child import Round, run_child
from edgeprune_device.bench_report import write_reports
from edgeprune_device.bench_statistics import (
    round_orders,
    sample_notes,
    speedup,
    summarize,
    thread_text,
)
from edgeprune_device.bundle import read_bundle
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.machine import machine_facts, machine_state, state_notes, usable_cores
from edgeprune_device.operators import operators_of
from edgeprune_device.runtime import runtime_name

SCHEMA = 1
ROUNDS = 5
FEWEST_ROUNDS, MOST_ROUNDS = 3, 7  # 7: the bootstrap counts 1716 distinct resamples; 8: 6435


def bench(
    bundles: Sequence[Path],
    out: Path,
    *,
    threads: Sequence[int] = (1, 2),
    seconds: float = 5.0,
    names: Sequence[str] | None = None,
    rounds: int = ROUNDS,
    profile: bool = False,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Measure bundles at thread counts, and write bench.json, .csv, .md and .html.

    Parameters
    ----------
    bundles : sequence of Path
        Bundles; the first is the baseline of the speed-ups. One that holds two model files is
        measured with each.
    out : Path
        Folder for the four files, made if it is missing; written only when all is measured.
    threads : sequence of int
        Thread counts, each from 1 to the cores this process may use.
    seconds : float
        Time for each variant in each round; a slow model takes longer, for 20 windows.
    names : sequence of str, optional
        One for each model file; otherwise the bundle's own, or its path where two are the same,
        and the file where a bundle holds two.
    rounds : int
        Rounds, 3 to 7.
    profile : bool
        Also measure, apart from the latencies, which operators take the time (``operators``).
    say : callable
        Takes one line of progress.

    Returns
    -------
    dict
        What bench.json holds: machine, notes, and one entry of `variants` for each bundle and
        thread count (see `bench_statistics`).

    Raises
    ------
    EdgepruneError
        On bad input (status 2), and if a child fails (status 1).

    """
    threads = _check(bundles, out, threads, seconds, rounds)
    # Only the descriptions stay: a small board has no room for every model in this process.
    described, paths = [], []
    for path in bundles:
        own = _describe(path)
        described += own
        paths += [path] * len(own)
    for entry, name in zip(described, _names(described, paths, names), strict=True):
        entry["name"] = name
    variants = [(index, count) for count in threads for index in range(len(described))]

    machine, before = machine_facts(), machine_state()
    measured: dict[tuple[int, int], list[Round]] = {variant: [] for variant in variants}
    start, done, total = time.monotonic(), 0, rounds * len(variants)
    for number, order in enumerate(round_orders(len(variants), rounds), start=1):
        for index, count in (variants[place] for place in order):
            entry = described[index]
            result = run_child(
                paths[index], entry["format"], entry["digest"], count, seconds, entry["file"]
            )
            measured[index, count].append(result)
            done += 1
            left = (time.monotonic() - start) / done * (total - done)
            say(
                f"round {number} of {rounds}, {entry['name']}, {thread_text(count)}: "
                f"median {np.median(result.latencies_ms):.3g} ms, about {left:.0f} s left"
            )
    after = machine_state()

    entries = []
    for index, count in variants:
        entry, own_rounds = described[index], measured[index, count]
        entries.append({
            **entry,
            "threads": count,
            "baseline": described[0]["name"],
            **summarize(own_rounds, entry["hop_seconds"], entry["window_seconds"]),
            **speedup(measured[0, count], own_rounds),
        })  # fmt: skip
        if profile:
            entries[-1]["operators"] = operators_of(paths[index], entry, count)
    bench_result = {
        "schema": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "edgeprune_version": _own_version(),
        "machine": {**machine, "before": before, "after": after},
        "seconds": seconds,
        "rounds": rounds,
        "notes": [*state_notes(machine, before, after), *sample_notes(entries)],
        "variants": entries,
    }
    write_reports(bench_result, out)
    return bench_result


def _check(
    bundles: Sequence[Path],
    out: Path,
    threads: Sequence[int],
    seconds: float,
    rounds: int,
) -> list[int]:
    """Refuse bad input before anything is measured; return the thread counts, each once."""
    if not bundles:
        raise EdgepruneError("No bundle was given.", "Example: edgeprune bench runs/birds/bundle")
    cores = usable_cores()
    if not threads:
        raise EdgepruneError("No thread count was given.", "Example: --threads 1,2")
    for count in threads:
        if count < 1:
            raise EdgepruneError(f"{count} threads cannot be measured.", "Example: --threads 1,2")
        if count > cores:
            raise EdgepruneError(
                f"{thread_text(count)} were asked for, and this process may use {cores} of the cores.",
                f"Example: --threads {cores}",
            )
    if not (math.isfinite(seconds) and seconds > 0):
        raise EdgepruneError(f"{seconds:g} seconds cannot be measured.", "Example: --seconds 5")
    if not FEWEST_ROUNDS <= rounds <= MOST_ROUNDS:
        raise EdgepruneError(f"{rounds} rounds were asked for; {FEWEST_ROUNDS} to {MOST_ROUNDS}.")
    there = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not there.is_dir():
        raise EdgepruneError(f"{there} is a file, not a folder.", "Give a folder with --out.")
    if not os.access(there, os.W_OK):
        raise EdgepruneError(f"Nothing can be written in {there}.", "Give a folder with --out.")
    return list(dict.fromkeys(threads))


def _names(
    described: Sequence[dict[str, Any]], paths: Sequence[Path], names: Sequence[str] | None
) -> list[str]:
    """Give each model file a name that no other has."""
    if names is not None:
        if len(names) != len(described) or len(set(names)) != len(names):
            raise EdgepruneError(f"{len(described)} model files need as many different names.")
        return list(names)
    bundles = dict.fromkeys(
        (str(path), entry["name"]) for path, entry in zip(paths, described, strict=True)
    )
    own = [name for _, name in bundles]
    shown = []
    for entry, path in zip(described, paths, strict=True):
        name = entry["name"] if own.count(entry["name"]) == 1 else str(path)
        shown.append(f"{name}, {entry['file']}" if entry["one_of_two"] else name)
    name, times = Counter(shown).most_common(1)[0]
    if times > 1:
        raise EdgepruneError(f"{name} was given more than once.", "Give every bundle once.")
    return shown


def _describe(path: Path) -> list[dict[str, Any]]:
    """Read a bundle and keep what the result says about it, for each model file."""
    bundle = read_bundle(path)
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    return [
        {
            "name": variant.name,
            "digest": variant.digest,
            "file": variant.file,
            "one_of_two": bundle.alternative is not None,
            "format": variant.format,
            "runtime": runtime_name(variant.format),
            "quantization": variant.manifest["model"].get("quantization"),
            "parameters": variant.manifest["model"].get("parameters"),
            "layers": variant.manifest["model"].get("layers"),
            "model_bytes": len(variant.model_bytes),
            "bundle_bytes": size,
            "hop_seconds": variant.hop_samples / variant.sample_rate,
            "window_seconds": variant.window_samples / variant.sample_rate,
        }
        for variant in bundle.variants
    ]


def _own_version() -> str | None:
    try:
        return importlib.metadata.version("edgeprune")
    except importlib.metadata.PackageNotFoundError:
        return None
