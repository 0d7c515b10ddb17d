"""Measures bundles side by side on this machine: the latency report.

Every variant (a bundle at a thread count) runs in its own child process, in rounds:

    round 1   student-1  teacher-2  teacher-1  student-2
    round 2   teacher-2  student-1  student-2  teacher-1     ... the order is shuffled in each

so that a board that warms up or is disturbed slows all variants alike, and the medians of the
rounds show whether it was. A sustained run, if requested, follows for each variant.

    check          checks the arguments            machine_watch  the machine's state meanwhile
    input_sound    the input audio                 percentiles    samples to percentiles
    worker_client  the pipe to a child process     statistics     rounds to a variant's row
    worker         what runs in it                 verdict        rows to verdicts
    phases         up to disk, paced, sustained    profile        time of each operator
    compare        comparison with earlier results report         the files that are written

Every field of the result is described in docs/reference/bench-json.md. Ctrl-C writes nothing.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune_device.bench.check import ROUNDS, BenchOptions, check, described, names_of, nearest
from edgeprune_device.bench.compare import compare, read_earlier
from edgeprune_device.bench.input_sound import prepare
from edgeprune_device.bench.machine_watch import Watch
from edgeprune_device.bench.profile import operators_of
from edgeprune_device.bench.report import write_reports
from edgeprune_device.bench.statistics import (
    memory_of,
    phases_of,
    round_orders,
    sample_notes,
    speedup,
    summarize,
    sustained_of,
    thread_text,
    timeline_of,
)
from edgeprune_device.bench.verdict import disturbed, energy_of, pace_of, real_time, unsteady
from edgeprune_device.bench.worker_client import (
    CAP_SECONDS,
    FEWEST_WINDOWS,
    MOST_WINDOWS,
    Round,
    run_child,
)
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.system.machine import machine_facts, machine_state, state_notes

SCHEMA = 2
EXECUTION = {
    "onnx": "CPUExecutionProvider, all graph optimisations, intra-op threads as given, 1 inter-op, "
            "no spinning",
    "tflite": "LiteRT's default delegate (XNNPACK), threads as given",
}  # fmt: skip
"""Format -> how ``runtime.open_model`` opens a file."""
MISSING = {
    "git": "edgeprune runs from an installation, not from a checkout, or git is not installed",
    "edgeprune_version": "edgeprune runs from a checkout that is not installed",
}
"""Key -> reason if it is None."""


def bench(
    bundles: str | Path | Sequence[str | Path],
    out: str | Path = "bench",
    *,
    threads: Sequence[int] = (1, 2),
    seconds: float = 5.0,
    names: Sequence[str] | None = None,
    rounds: int = ROUNDS,
    profile: bool = False,
    options: BenchOptions | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measure bundles at thread counts, and write bench.json, .csv, .md and .html.

    Parameters
    ----------
    bundles : str or Path, or a sequence of them
        Bundles; the first is the baseline of the speed-ups. A bundle with two model files is
        measured with each.
    out : str or Path
        Folder for the four files, created if missing; written only when everything is measured.
    threads : sequence of int
        Thread counts, each from 1 to the number of cores this process may use.
    seconds : float
        Time per variant and round; a slow model takes longer, for 20 windows.
    names : sequence of str, optional
        One name per model file; by default the bundle's name, or its path if two are equal, and the
        file if a bundle has two.
    rounds : int
        Number of rounds, 3 to 7.
    profile : bool
        Whether to measure also, apart from the latencies, the time of each operator
        (``operators``).
    options : BenchOptions, optional
        Input audio, paced and sustained parts, and earlier results to compare with.
    say : callable
        Prints one line of progress.

    Returns
    -------
    dict
        Content of bench.json (docs/reference/bench-json.md).

    Raises
    ------
    EdgepruneError
        Bad input (status 2), or a failed child process (status 1).

    """
    options, out = options or BenchOptions(), Path(out)
    named = [bundles] if isinstance(bundles, str | Path) else bundles
    paths_of = [Path(one) for one in named]
    threads = check(paths_of, out, threads, seconds, rounds, options)
    earlier = [read_earlier(path) for path in options.earlier]
    files, paths = _described(paths_of, names)
    machine, before = machine_facts(), machine_state()
    created = datetime.now(UTC).isoformat(timespec="seconds")
    with tempfile.TemporaryDirectory(dir=nearest(out), prefix=".edgeprune-bench-") as folder:
        run = BenchRun(files, paths, threads, seconds, options, Path(folder), say)
        with Watch() as watch:
            run.rounds(rounds)
            run.sustained()
            environment = watch.summary()
    machine |= {"note": options.note or None, "before": before, "after": machine_state()}
    entries = [run.entry(variant, watch.began) for variant in run.variants]
    if profile:
        for (index, count), entry in zip(run.variants, entries, strict=True):
            entry["operators"] = operators_of(paths[index], files[index], count)
    result: dict[str, Any] = {
        "schema": SCHEMA, "kind": "edgeprune-bench", "run_id": uuid.uuid4().hex, "created": created,
        "command": options.command or None, "edgeprune_version": _own_version(), "git": _git(),
        "machine": machine, "environment": environment, "config": _config(threads, files, options),
        "seconds": seconds, "rounds": rounds, "verdict": _verdict(entries, environment),
        "notes": _notes(machine, environment, entries), "variants": entries,
    }  # fmt: skip
    result["missing"] = {key: why for key, why in MISSING.items() if result[key] is None}
    result["comparisons"] = [compare(result, one) for one in earlier]
    write_reports(result, out)
    return result


def _described(
    bundles: Sequence[Path], names: Sequence[str] | None
) -> tuple[list[dict[str, Any]], list[Path]]:
    """Describe every model file, with the bundle of each.

    Only the descriptions are kept: a small board has no memory for all models in this process.
    """
    files, paths = [], []
    for path in bundles:
        own = described(path)
        files += own
        paths += [path] * len(own)
    for entry, name in zip(files, names_of(files, paths, names), strict=True):
        entry["name"] = name
    return files, paths


def _notes(
    machine: dict[str, Any], environment: dict[str, Any], entries: Sequence[dict[str, Any]]
) -> list[str]:
    meanwhile = [f"During the measurement, {reason}." for reason in disturbed(environment)]
    state = state_notes(machine, machine["before"], machine["after"])
    return [*state, *meanwhile, *sample_notes(entries)]


def _config(
    threads: Sequence[int], files: Sequence[dict[str, Any]], options: BenchOptions
) -> dict[str, Any]:
    formats = sorted({entry["format"] for entry in files})
    return {
        "threads": list(threads),
        "arrival": ["back-to-back", *(["paced"] if options.paced else [])],
        "sustained_minutes": options.sustained_minutes,
        "sustained_arrival": "paced" if options.paced else "back-to-back",
        "execution": {name: EXECUTION[name] for name in formats},
        "warm_up": "until the median of three windows is within 5 % of that of the three before, "
                   "at most half of a round's seconds",
        "fewest_windows": FEWEST_WINDOWS, "most_windows": MOST_WINDOWS, "cap_seconds": CAP_SECONDS,
        "wav": None if options.wav is None else str(options.wav),
        "watts": None if options.watts is None else list(options.watts),
    }  # fmt: skip


def _verdict(entries: Sequence[dict[str, Any]], environment: dict[str, Any]) -> dict[str, Any]:
    """Return whether the run was stable, and set each variant's own verdict."""
    common = disturbed(environment)
    reasons = list(common)
    for entry in entries:
        own = unsteady(entry)
        entry["verdict"] = {
            "stable": not own and not common, "reasons": [*own, *common],
            "real_time": entry["real_time"]["keeps_up"], "because": entry["real_time"]["because"],
        }  # fmt: skip
        shown = f"{entry['name']} at {thread_text(entry['threads'])}"
        reasons += [f"{shown}: {reason}" for reason in own]
    return {"stable": not reasons, "reasons": reasons}


def _git() -> str | None:
    """Return the commit of the running checkout, with ``+`` if files differ; else None."""
    home = Path(__file__).resolve().parents[3]
    if not (home / ".git").exists():
        return None
    try:
        told = [
            subprocess.run(["git", "-C", str(home), *words], capture_output=True, text=True,
                           timeout=10, check=True).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "-uno"])
        ]  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return told[0] + ("+" if told[1] else "")


def _own_version() -> str | None:
    try:
        return importlib.metadata.version("edgeprune")
    except importlib.metadata.PackageNotFoundError:
        return None


SECONDS_PER_MINUTE = 60
Variant = tuple[int, int]
"""Index of a model file, and threads."""


class BenchRun:
    """The child processes of one benchmark and their results."""

    def __init__(
        self, files: list[dict[str, Any]], paths: list[Path], threads: Sequence[int],
        seconds: float, options: BenchOptions, folder: Path, say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._files, self._paths, self._seconds = files, paths, seconds
        self._options, self._folder, self._say = options, folder, say
        self.variants: list[Variant] = [(i, count) for count in threads for i in range(len(files))]
        self._measured: dict[Variant, list[Round]] = {variant: [] for variant in self.variants}
        self._sustained: dict[Variant, Round] = {}
        self._children = 0
        self._sounds: dict[int, Path] = {}
        if options.wav is not None:
            for path in dict.fromkeys(paths):
                rate = read_bundle(path).sample_rate
                if rate not in self._sounds:
                    self._sounds[rate] = prepare(options.wav, rate, folder)

    def rounds(self, rounds: int) -> None:
        """Measure every variant once in each round."""
        start, done, total = time.monotonic(), 0, rounds * len(self.variants)
        for number, order in enumerate(round_orders(len(self.variants), rounds), start=1):
            for variant in (self.variants[place] for place in order):
                result = self._child(variant, self._seconds)
                self._measured[variant].append(result)
                done += 1
                left = (time.monotonic() - start) / done * (total - done)
                self._say(
                    f"round {number} of {rounds}, {self._shown(variant)}: "
                    f"median {np.median(result.latencies_ms):.3g} ms, about {left:.0f} s left"
                )

    def sustained(self) -> None:
        """Run every variant for minutes, if requested."""
        minutes = self._options.sustained_minutes
        for variant in self.variants if minutes else ():
            self._say(f"sustained for {minutes:g} min, {self._shown(variant)}")
            self._sustained[variant] = self._child(
                variant, minutes * SECONDS_PER_MINUTE, "--sustained"
            )

    def entry(self, variant: Variant, began: float) -> dict[str, Any]:
        """Summarise one variant."""
        (index, count), rounds = variant, self._measured[variant]
        about = self._files[index]
        hop, window = about["hop_seconds"], about["window_seconds"]
        summed, phases = summarize(rounds, hop, window), phases_of(rounds)
        parts = [one.paced_ms for one in rounds if one.paced_ms is not None]
        pace = pace_of(parts, hop, [one.paced_idle for one in rounds]) if parts else None
        return {
            **about, "threads": count, "baseline": self._files[0]["name"], **summed,
            **speedup(self._measured[0, count], rounds),
            "golden_agreement": rounds[0].golden_agreement, "sound": rounds[0].sound,
            "warm_windows": [one.warm_windows for one in rounds],
            "phases": phases, "paced": pace,
            "real_time": real_time(phases["inference"], hop, window, pace),
            "memory": memory_of(rounds),
            "energy": energy_of(self._options.watts, summed["p50_ms"], hop),
            "timeline": timeline_of(rounds, began),
            "sustained": sustained_of(self._sustained.get(variant), began),
        }  # fmt: skip

    def _child(self, variant: Variant, seconds: float, *more: str) -> Round:
        index, count = variant
        about, path = self._files[index], self._paths[index]
        self._children += 1
        place = self._folder / str(self._children)
        place.mkdir()
        options = ["--folder", str(place), *more, *(["--paced"] if self._options.paced else [])]
        if self._options.wav is not None:
            sound = self._sounds[about["sample_rate"]]
            options += ["--sound", str(sound), "--sound-name", self._options.wav.name]
        return run_child(
            path, about["format"], about["digest"], count, seconds, about["file"], options
        )

    def _shown(self, variant: Variant) -> str:
        return f"{self._files[variant[0]]['name']}, {thread_text(variant[1])}"
