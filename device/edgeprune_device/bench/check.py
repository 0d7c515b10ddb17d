"""Checks the arguments of a benchmark: settings, bundles, names.

All checks are done before anything is measured, so that bad input costs no time and writes nothing.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune_device.bench.statistics import thread_text
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.runtime import runtime_name
from edgeprune_device.system.machine import usable_cores

ROUNDS = 5
FEWEST_ROUNDS, MOST_ROUNDS = 3, 7  # 7: the bootstrap counts 1716 distinct resamples; 8: 6435
MOST_MINUTES = 7 * 24 * 60.0


@dataclass(frozen=True)
class BenchOptions:
    """Options of a benchmark besides timing windows back to back."""

    wav: Path | None = None
    """Sound file whose windows are the input; None: the golden inputs."""
    paced: bool = False
    """Also run windows at the pace of a microphone, in each round and in the sustained run."""
    sustained_minutes: float = 0.0
    """Also run every variant for this many minutes, up to a week; 0: no."""
    note: str = ""
    """Note of the user on cooling, power supply, enclosure."""
    watts: tuple[float, float] | None = None
    """Idle and busy power read from a meter, W."""
    earlier: tuple[Path, ...] = ()
    """Results to compare with: bench.json, or a recorder's status.json."""
    command: str = ""
    """The command line, for the result."""


def check(
    bundles: Sequence[Path],
    out: Path,
    threads: Sequence[int],
    seconds: float,
    rounds: int,
    options: BenchOptions,
) -> list[int]:
    """Reject bad input before anything is measured; return the distinct thread counts.

    Raises
    ------
    EdgepruneError
        A setting is out of range, or a folder cannot be written.

    """
    if not bundles:
        raise EdgepruneError("No bundle was given.", "Example: edgeprune bench runs/birds/bundle")
    cores = usable_cores()
    if not threads:
        raise EdgepruneError("No thread count was given.", "Example: --threads 1,2")
    for count in threads:
        if count < 1:
            raise EdgepruneError(
                f"--threads {count} is out of range (allowed: 1 or more).", "Example: --threads 1,2"
            )
        if count > cores:
            raise EdgepruneError(
                f"{thread_text(count)} requested, but this process may use only {cores} cores.",
                f"Example: --threads {cores}",
            )
    if not (math.isfinite(seconds) and seconds > 0):
        raise EdgepruneError(
            f"--seconds {seconds:g} is out of range (allowed: over 0).", "Example: --seconds 5"
        )
    if not FEWEST_ROUNDS <= rounds <= MOST_ROUNDS:
        raise EdgepruneError(
            f"--rounds {rounds} is out of range (allowed: {FEWEST_ROUNDS} to {MOST_ROUNDS})."
        )
    minutes = options.sustained_minutes
    if not 0 <= minutes <= MOST_MINUTES:
        raise EdgepruneError(
            f"--sustained {minutes:g} is out of range (allowed: 0 to {MOST_MINUTES:g}).",
            "Example: --sustained 10",
        )
    if options.watts is not None:
        idle, busy = options.watts
        if not (math.isfinite(busy) and 0 <= idle <= busy and busy > 0):
            raise EdgepruneError(
                f"--watts {idle:g},{busy:g} is out of range (allowed: 0 <= idle <= busy, busy over 0).",
                "Example: --watts 2.6,4.9",
            )
    there = nearest(out)
    if not there.is_dir():
        raise EdgepruneError(f"{there} is a file, not a folder.", "Name a folder with --out.")
    if not os.access(there, os.W_OK):
        raise EdgepruneError(f"{there} cannot be written.", "Name another folder with --out.")
    return list(dict.fromkeys(threads))


def nearest(out: Path) -> Path:
    """Return a folder, or its nearest existing parent, which is on the same disk."""
    return next(place for place in (out, *out.absolute().parents) if place.exists())


def names_of(
    described: Sequence[dict[str, Any]], paths: Sequence[Path], names: Sequence[str] | None
) -> list[str]:
    """Return a unique name for each model file."""
    if names is not None:
        if len(names) != len(described) or len(set(names)) != len(names):
            raise EdgepruneError(
                f"{len(described)} different names are needed, one per model file."
            )
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


def described(path: Path) -> list[dict[str, Any]]:
    """Read a bundle and return its description in the result, for each model file."""
    bundle = read_bundle(path)
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    return [
        {
            "name": variant.name,
            "bundle": variant.name,
            "digest": variant.digest,
            "file": variant.file,
            "model_sha256": variant.manifest["files"][variant.file]["sha256"],
            "one_of_two": bundle.alternative is not None,
            "format": variant.format,
            "runtime": runtime_name(variant.format),
            "quantization": variant.manifest["model"].get("quantization"),
            "parameters": variant.manifest["model"].get("parameters"),
            "layers": variant.manifest["model"].get("layers"),
            "model_bytes": len(variant.model_bytes),
            "bundle_bytes": size,
            "sample_rate": variant.sample_rate,
            "hop_seconds": variant.hop_samples / variant.sample_rate,
            "window_seconds": variant.window_samples / variant.sample_rate,
        }
        for variant in bundle.variants
    ]
