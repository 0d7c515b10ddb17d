"""The recipe, read top to bottom: clips, teach, steps, distill, export, quantize, verify.

The steps are what makes the student smaller: ``depth`` (score, prune), ``trim``, ``mimic``,
``frontend`` and ``student``, in the order that the recipe names. Each seed goes through all of
them on its own, on the same splits; the best by validation score becomes the bundle, which is then
measured beside its teacher, and the report says it all.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune import __version__, compute
from edgeprune.answers import tally_of
from edgeprune.audio import read_description, stored_clips
from edgeprune.console import Ui, points
from edgeprune.distill import distill
from edgeprune.export_onnx import export
from edgeprune.opening import open_command
from edgeprune.quantize import quantize
from edgeprune.report import ROWS, report
from edgeprune.score import score
from edgeprune.settings import STEPS, Settings
from edgeprune.stages import Run
from edgeprune.states import points_of, states
from edgeprune.steps import read_step, step_folders
from edgeprune.teach import teach
from edgeprune.verify import verify_bundles, write_report
from edgeprune_device.bench import bench
from edgeprune_device.bundle import read_bundle, write_bundle
from edgeprune_device.errors import FAILED_CHECK, EdgepruneError
from edgeprune_device.machine import usable_cores

STAGES = ("clips", "untouched", "deploy", "bench")
SEED_STAGES = ("distill", "export-teacher", "export", "quantize", "verify")
RECOVERY = ("batch_size", "learning_rate", "temperature", "hidden_weight", "label_share",
            "nothing_share", "views")  # fmt: skip
"""What every step's training takes from the stage ``distill``."""
METRICS = ("digest", "clips", "clips_digest", "metric", "score", "interval", "metrics",
           "agreement", "difference")  # fmt: skip
IN_SHORT = ("step", "layers", "kept", "parameters", "macs", "valid_score")
LICENCE = "as the model and the recordings it was made from; see provenance"


def compress(
    model: str, data: Path, out: Path, settings: Settings, ui: Ui, redo: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Turn a model and labelled clips into a bundle the recorder can run, and report on it.

    Parameters
    ----------
    model : str
        Folder in Hugging Face's layout, or a hub id.
    data : Path
        Folder of class folders, or a manifest.
    out : Path
        The run's folder; finished stages in it are reused.
    settings : Settings
    ui : Ui
    redo : tuple of str
        Stages to run again although nothing changed.

    Returns
    -------
    dict
        The report, as in ``report.json``; empty in all but the main one of several processes.

    Raises
    ------
    EdgepruneError
        Bad input (nothing is written then), or what a stage refuses.

    """
    own = ("states", "score") if "depth" in settings.steps else ()
    known = (STAGES[0], "teach", *own, *step_folders(settings.steps), *SEED_STAGES, *STAGES[1:])
    precision = compute.set_precision(settings.precision)
    run, source, clip_folder = open_command("compress", model, data, out, settings, ui, redo, known)
    run.precision = precision
    for seed in range(settings.seeds):
        one_seed(run, source, clip_folder, seed, settings)
    best = best_seed(out, settings.seeds)
    chosen = f"seed-{best}"
    folders = [out / f"seed-{seed}" for seed in range(settings.seeds)]
    final = run.stage(
        deploy, settings, str(source), *[f / "verify" for f in folders],
        out / chosen / "quantize", clip_folder, name="deploy",
    )  # fmt: skip
    bundle = final / "bundle"
    files = (out / chosen / "export-teacher" / "bundle", out / chosen / "export" / "bundle", bundle)
    speed = run.stage(measure_speed, settings.bench, *files, name="bench")
    if compute.rank():
        return {}
    inputs = [clip_folder, speed, final, *folders]
    done = report(out, model, best, settings, inputs, ui)
    publish(bundle, out / "bundle")
    return done


def one_seed(run: Run, source: str | Path, clip_folder: Path, seed: int, s: Settings) -> None:
    """Run the recipe for one seed, in ``seed-N/``."""
    name = f"seed-{seed}"
    files = run.folder / name
    taught = run.stage(
        teach, s.teach, source, clip_folder, seed, s.accelerator, asdict(s.augment),
        name=f"{name}/teach",
    )  # fmt: skip
    shared = {
        "distill": {key: getattr(s.distill, key) for key in RECOVERY}, "seed": seed,
        "accelerator": s.accelerator, "ignore": s.quantize.ignore, "augment": asdict(s.augment),
    }  # fmt: skip
    student = taught
    for step, folder in zip(s.steps, step_folders(s.steps), strict=True):
        inputs: tuple[Any, ...] = (taught, student, clip_folder, shared)
        if step == "depth":
            inputs = (*inputs, scores_of(run, source, taught, clip_folder, name, s), s.max_drop)
        work, settings = step_of(step, s)
        student = run.stage(work, settings, *inputs, name=f"{name}/{folder}")
    student = run.stage(
        distill, s.distill, taught, student, clip_folder, shared, name=f"{name}/distill"
    )
    title = run.folder.resolve().name
    for stage, made in (("export-teacher", taught), ("export", student)):
        run.stage(
            export, s.export, made / "model", clip_folder, f"{title}-{stage}", LICENCE,
            s.quantize.hop_seconds, name=f"{name}/{stage}",
        )  # fmt: skip
    deployed = run.stage(
        quantize, s.quantize, student / "model", files / "export" / "bundle", clip_folder, title,
        LICENCE, name=f"{name}/quantize",
    )  # fmt: skip
    run.stage(
        verify, None, files / "export-teacher" / "bundle", files / "export" / "bundle",
        deployed / "bundle", clip_folder, name=f"{name}/verify",
    )  # fmt: skip


def step_of(step: str, s: Settings) -> tuple[Callable[..., None], Any]:
    """Return a step's stage and its settings; each is imported when a recipe names it."""
    module, settings = STEPS[step]
    work = getattr(importlib.import_module(module), module.rpartition(".")[2])
    return work, getattr(s, settings)


def scores_of(
    run: Run, source: str | Path, taught: Path, clip_folder: Path, name: str, s: Settings
) -> Path:
    """Score the layers of the teacher and of the model as it came."""
    facts = json.loads((taught / "teach.json").read_text("utf-8"))
    asked = points_of(s.score)
    heard = run.stage(
        states, asked, taught / "model", clip_folder, s.accelerator, name=f"{name}/states"
    )
    before: Path | str = ""
    if not facts["skipped"]:
        before = run.stage(states, asked, source, clip_folder, s.accelerator, name="untouched")
    return run.stage(score, s.score, clip_folder, heard, before, name=f"{name}/score")


def verify(
    teacher: Path,
    student: Path,
    bundle: Path,
    clip_folder: Path,
    *,
    out: Path,
    settings: None,
    ui: Ui,
) -> None:
    """Measure teacher, student and deployed file on the test split, all as the recorder would.

    Writes ``verify.json``, and what every clip came to in ``NAME.npy``, as ``metrics`` counts it.
    """
    del settings
    tested = stored_clips(clip_folder, "test")
    paths = dict(zip(ROWS, (teacher, student, bundle), strict=True))
    result, answers = verify_bundles(paths, tested, ui.track)
    for name, given in answers.items():
        np.save(out / f"{name}.npy", tally_of(given, tested))
    write_report(result, out / "verify.json")
    found = ", ".join(f"{name} {points(result[name]['score'])}" for name in ROWS)
    ui.say(f"  test {result['teacher']['metric']}: {found}")


def best_seed(out: Path, seeds: int) -> int:
    """Return the seed whose student is best on the validation clips; the first of equals."""
    accuracies = []
    for seed in range(seeds):
        folder = out / f"seed-{seed}"
        student = json.loads((folder / "distill" / "distill.json").read_text("utf-8"))
        accuracies.append(student["valid_score"])
    return int(np.argmax(accuracies))


def deploy(source: str, *inputs: Path, out: Path, settings: Settings, ui: Ui) -> None:
    """Write the chosen seed's bundle with where it came from and what it measured."""
    *verified, quantized, clip_folder = inputs
    del ui
    bundle = read_bundle(quantized / "bundle")
    chosen = json.loads((quantized.parent / "verify" / "verify.json").read_text("utf-8"))
    data = read_description(clip_folder)
    folders = ("teach", *step_folders(settings.steps))
    read = [read_step(quantized.parent / folder) for folder in folders]
    steps = [{name: step[name] for name in IN_SHORT if name in step} for step in read]
    metrics = {n: {k: chosen[n][k] for k in METRICS if k in chosen[n]} for n in ROWS}
    manifest = dict(bundle.manifest)
    manifest["provenance"] = {
        "edgeprune": __version__, "model": source, "data": data["source"],
        "data_digest": data["digest"], "label_column": data["label_column"],
        "group_column": data["group_column"], "steps": steps,
        "settings": json.loads(json.dumps(asdict(settings))),
        "metrics": metrics, "seed": int(quantized.parent.name.removeprefix("seed-")),
        "seeds": len(verified),
    }  # fmt: skip
    names = [name for name in manifest.pop("files") if name != "bundle.json"]
    files = {name: (quantized / "bundle" / name).read_bytes() for name in names}
    write_bundle(out / "bundle", manifest, files)


def measure_speed(
    teacher: Path, student: Path, bundle: Path, *, out: Path, settings: Any, ui: Ui
) -> None:
    """Measure latency, memory and size of teacher, student and deployed file in one run."""
    threads = tuple(n for n in settings.threads if n <= usable_cores()) or (1,)
    if threads != settings.threads:
        ui.say(f"  this machine has {usable_cores()} core(s): measured with {threads} thread(s)")
    bench((teacher, student, bundle), out, threads=threads, seconds=settings.seconds,
          rounds=settings.rounds, names=ROWS, say=ui.say)  # fmt: skip


def publish(bundle: Path, target: Path) -> None:
    """Put the finished bundle where the user looks for it; the old one goes when the new is whole."""
    manifest = read_bundle(bundle).manifest
    files = {name: (bundle / name).read_bytes() for name in manifest["files"]}
    write_bundle(target, {k: v for k, v in manifest.items() if k != "files"}, files)


def check_floor(done: dict[str, Any], max_drop: float) -> None:
    """Raise with status 1 if the delivered file lost more than allowed on the test split."""
    lost = -done["delivered"]["bundle"]["difference"]
    if lost > max_drop + 1e-9:
        raise EdgepruneError(
            f"The bundle is {100 * lost:.2f} points under its teacher on the test clips; "
            f"--max-drop allows {100 * max_drop:g}.",
            "Allow more with --max-drop, ask the recipe's steps for less, or distill for longer.",
            FAILED_CHECK,
        )
