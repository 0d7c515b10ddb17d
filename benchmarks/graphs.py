"""Comparison of all ways to make a model file: latency, file size, memory, predictions.

    python benchmarks/graphs.py make    -o runs/graphs     make the files; existing ones are kept
    python benchmarks/graphs.py measure -o runs/graphs     measure them
    python benchmarks/graphs.py table   -o runs/graphs --results benchmarks/results

Models are the rows of `graph_subjects.SUBJECTS`, files those of `graph_variants.VARIANTS`. All files
of one model are measured in one run: each with each number of threads in its own process, in rounds
of shuffled order, as ``edgeprune bench`` does. Then they are tested on real clips through the
recorder's runtime, and the instructions of small models are counted for a Raspberry Pi 4 and 5
(`arm64.py`). The table gives the reason for variants that could not be made; ``failed/`` keeps it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import arm64
import numpy as np
from graph_ours import Work
from graph_subjects import RATE, SUBJECTS, Subject, calibration, questions
from graph_table import to_text
from graph_variants import ONNX, VARIANTS, last_line

from edgeprune.deployment.evaluate import BundleScores, compare, measure, score_clips
from edgeprune.models import loading
from edgeprune_calibration.dataset import untracked
from edgeprune_device.bench.statistics import round_orders, summarize
from edgeprune_device.bench.worker_client import Round, last_words, run_child
from edgeprune_device.bundle.reader import Bundle, read_bundle
from edgeprune_device.bundle.writer import golden_files, write_bundle
from edgeprune_device.inference.runtime import open_model, runtime_name
from edgeprune_device.system.machine import machine_facts, machine_state

TORCH_CHILD = Path(__file__).resolve().parent / "peers_graphs/torch_child.py"
TOLERANCE = 0.05  # of golden outputs: only to see that a file still answers as when it was made
CPUS = ("a72", "a76")


@dataclass(frozen=True)
class Task:
    """One model at one window, and the folder of its files."""

    name: str
    subject: Subject
    seconds: int
    folder: Path

    def path(self, variant: str) -> Path:
        """Return a variant's bundle (torch: its model folder)."""
        return self.folder / re.sub(r"[^a-z0-9]+", "-", variant.lower()).strip("-")

    def failure(self, variant: str) -> Path:
        """Return the file with the reason why a variant could not be made."""
        return self.folder / "failed" / f"{self.path(variant).name}.txt"

    @property
    def made(self) -> list[str]:
        """Existing variants, in the order of the table."""
        return [name for name in VARIANTS if self.path(name).exists()]


def main() -> None:
    """Run the command for the requested models and windows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("command", choices=["make", "measure", "table"])
    parser.add_argument("-o", "--out", type=Path, required=True, help="where files and numbers lie")
    parser.add_argument("--models", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--windows", type=int, nargs="+", default=[1, 5], help="seconds")
    parser.add_argument("--variants", default="", help="a regular expression; make only these")
    parser.add_argument("--again", action="store_true", help="make once more what failed")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=2.0, help="for each file in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-arm64", action="store_true", help="count no instructions")
    parser.add_argument("--results", type=Path, help="of table: where the dated JSON goes")
    options = parser.parse_args()
    for task in tasks_of(options):
        if options.command == "make":
            make(task, re.compile(options.variants), options.again)
        elif options.command == "measure" and task.made:
            result = measured(task, options)
            (task.folder / "measured.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    if options.command != "make":
        gather(options)


def tasks_of(options: argparse.Namespace) -> Iterator[Task]:
    """Return the requested models at the requested windows, as far as a model has them."""
    for name in options.models:
        for seconds in options.windows:
            if seconds in SUBJECTS[name].seconds:
                yield Task(name, SUBJECTS[name], seconds, options.out / f"{name}-{seconds}s")


def make(task: Task, wanted: re.Pattern[str], again: bool) -> None:
    """Make all variants of a model that neither exist nor are known to fail."""
    missing = [
        name for name in VARIANTS
        if wanted.search(name) and name not in task.made
        and (again or not task.failure(name).exists())
    ]  # fmt: skip
    if not missing:
        return
    task.folder.mkdir(parents=True, exist_ok=True)
    sounds = task.folder / "calibration.npy"
    if not sounds.exists():
        np.save(sounds, calibration(task.subject, task.seconds))
    classifier = task.subject.load(task.seconds * RATE).eval()
    for name in missing:
        print(f"{task.folder.name}: {name}", flush=True)
        files = {
            made: file_of(task.path(made)) for made in task.made if VARIANTS[made].format != "torch"
        }
        work = Work(classifier, task.seconds * RATE, files, sounds)
        chatter = io.StringIO()
        try:
            with contextlib.redirect_stdout(chatter), contextlib.redirect_stderr(chatter):
                put(task, name, work)
        except Exception as error:  # whatever a peer raises is what the table says of it
            words = f"{type(error).__name__}: {last_line(str(error))[:300]}"
            task.failure(name).parent.mkdir(exist_ok=True)
            task.failure(name).write_text(words + "\n", "utf-8")
            print(f"  fails: {words}", flush=True)


def put(task: Task, name: str, work: Work) -> None:
    """Make one variant and write it as a bundle (torch: as a model folder)."""
    variant, path = VARIANTS[name], task.path(name)
    if variant.format == "torch":
        loading.save(work.classifier, path)
        return
    data = variant.make(work)
    labels = list(loading.labels_of(work.classifier))
    manifest: dict[str, Any] = {
        "name": path.name, "runtime": runtime_name(variant.format),
        "model": {
            "file": f"model.{variant.format}", "format": variant.format, "quantization": name,
            "input": {"name": "samples", "shape": [1, work.window_samples], "dtype": "float32"},
            "output": {"name": "scores", "shape": [1, len(labels)], "dtype": "float32"},
        },
        "audio": {"sample_rate": RATE, "channels": 1, "window_seconds": float(task.seconds),
                  "hop_seconds": float(task.seconds)},
        "labels": labels, "activation": "softmax",
        "decision": {"thresholds": dict.fromkeys(labels, 0.5), "smoothing_windows": 1,
                     "refractory_seconds": 0.0, "ignore": []},
        "requirements": {}, "provenance": {}, "licence": "for measuring only",
    }  # fmt: skip
    run = open_model(Bundle(path, manifest, data, (), ""))
    inputs = list(np.load(work.calibration)[:2])
    files, golden = golden_files(inputs, [run(x) for x in inputs], TOLERANCE)
    write_bundle(path, {**manifest, "golden": golden}, {manifest["model"]["file"]: data, **files})


def file_of(bundle: Path) -> Path:
    """Return a bundle's model file."""
    (found,) = bundle.glob("model.*")
    return found


def measured(task: Task, options: argparse.Namespace) -> dict[str, Any]:
    """Measure all files of one model in turn; return all values of the table."""
    variants = [(name, threads) for name in task.made for threads in options.threads]
    digests = {
        name: read_bundle(task.path(name)).digest
        for name in task.made if VARIANTS[name].format != "torch"
    }  # fmt: skip
    answers = asked(task)  # before the long part: a file that is broken shows here
    instructions = counted(task) if task.subject.small and not options.no_arm64 else {}
    rounds: dict[tuple[str, int], list[Round]] = {variant: [] for variant in variants}
    before = machine_state()
    for number, order in enumerate(round_orders(len(variants), options.rounds), start=1):
        for name, threads in (variants[place] for place in order):
            one = run_one(task, name, digests.get(name, ""), threads, options.seconds)
            rounds[name, threads].append(one)
            print(f"{task.folder.name}, round {number}, {name}, {threads} threads: "
                  f"{np.median(one.latencies_ms):.3g} ms", flush=True)  # fmt: skip
    after = machine_state()
    rows = {
        name: {
            "format": VARIANTS[name].format, "ours": VARIANTS[name].ours, "bytes": bytes_of(task, name),
            "threads": {str(threads): summed(rounds[name, threads], task.seconds)
                        for threads in options.threads},
        }
        for name in task.made
    }  # fmt: skip
    for name, said in answers.items():
        rows[name] |= said
    for name, counts in instructions.items():
        rows[name]["arm64"] = counts
    return {
        "model": task.name, "seconds": task.seconds, "rows": rows,
        "failed": {name: task.failure(name).read_text("utf-8").strip()
                   for name in VARIANTS if task.failure(name).exists() and name not in task.made},
        "machine": {**machine_facts(), "before": before, "after": after},
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": {"rounds": options.rounds, "seconds": options.seconds},
    }  # fmt: skip


def run_one(task: Task, name: str, digest: str, threads: int, seconds: float) -> Round:
    """Measure one variant for one round in its own process."""
    variant, path = VARIANTS[name], task.path(name)
    if variant.format != "torch":
        return run_child(path, variant.format, digest, threads, seconds)
    done = subprocess.run(
        [sys.executable, str(TORCH_CHILD), str(path), "--window", str(task.seconds * RATE),
         "--threads", str(threads), "--seconds", repr(seconds)],
        check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
             "OMP_NUM_THREADS": str(threads)},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{name}: {last_words(done)}")
    told = json.loads(done.stdout.splitlines()[-1])
    return Round(latencies_ms=np.array(told.pop("latencies_ns"), np.float64) / 1e6, **told)


def summed(rounds: list[Round], seconds: int) -> dict[str, Any]:
    """Summarize a variant's rounds, without individual latencies."""
    return {k: v for k, v in summarize(rounds, seconds, seconds).items() if k != "samples_ms"}


def bytes_of(task: Task, name: str) -> int:
    """Return the size of a variant's file (torch: of its weights)."""
    if VARIANTS[name].format == "torch":
        return sum(file.stat().st_size for file in task.path(name).glob("*.safetensors"))
    return file_of(task.path(name)).stat().st_size


def asked(task: Task) -> dict[str, dict[str, Any]]:
    """Run all files on the same real clips; agreement is relative to the plain ONNX file.

    Returns
    -------
    dict
        By variant: `clips`, `agreement`, `score_difference` (mean over clips of the largest
        difference of a score); for a trained model at its own window also `accuracy`, its 95 %
        `interval`, and `accuracy_difference`.

    """
    found: dict[str, dict[str, Any]] = {}
    first: BundleScores | None = None
    for name in sorted(
        (n for n in task.made if VARIANTS[n].format != "torch"), key=lambda n: n != ONNX
    ):
        bundle = read_bundle(task.path(name))
        clips = questions(task.subject, task.seconds, bundle.labels)
        said = score_clips(bundle, clips, untracked)
        first = first or said
        against = compare(said, first, clips)
        apart = np.abs(said.scores - first.scores).max(axis=1)
        found[name] = {"clips": len(clips), "agreement": against["agreement"],
                       "score_difference": float(apart.mean())}  # fmt: skip
        if task.subject.trained == task.seconds:
            right = measure(said, clips)
            found[name] |= {"accuracy": right["score"], "interval": right["interval"],
                            "accuracy_difference": against["difference"]}  # fmt: skip
    return found


def counted(task: Task) -> dict[str, dict[str, Any]]:
    """Count the instructions of every file for the Raspberry Pis 4 and 5."""
    arm64.set_up(arm64.CACHE)
    found: dict[str, dict[str, Any]] = {}
    for name in task.made:
        if VARIANTS[name].format != "torch":
            print(f"{task.folder.name}, instructions of {name}", flush=True)
            found[name] = {cpu: arm64.count(file_of(task.path(name)), cpu) for cpu in CPUS}
    return found


def gather(options: argparse.Namespace) -> None:
    """Print all results as Markdown; write them as JSON if requested."""
    there = [task.folder / "measured.json" for task in tasks_of(options)]
    results = [json.loads(file.read_text("utf-8")) for file in there if file.exists()]
    for result in results:
        print(to_text(result))
    if options.results:
        options.results.mkdir(parents=True, exist_ok=True)
        day = datetime.now(UTC).date().isoformat()
        path = options.results / f"graphs-{day}.json"
        path.write_text(json.dumps(results, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
