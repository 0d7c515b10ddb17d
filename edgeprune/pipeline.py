"""The recipe, read top to bottom: clips, teach, steps, distill, export, quantize, verify.

The steps are what makes the student smaller: ``depth`` (score, prune), ``trim``, ``mimic``,
``frontend`` and ``student``, in the order that the recipe names. Each seed goes through all of
them on its own, on the same splits; the best by validation score becomes the bundle, which is then
measured beside its teacher, and the report says it all.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune import __version__, compute
from edgeprune.answers import tally_of
from edgeprune.audio import read_description, stored_clips
from edgeprune.console import Ui, points
from edgeprune.distill import distill
from edgeprune.export import bundle_name, export
from edgeprune.opening import open_command
from edgeprune.quantize import quantize
from edgeprune.recover_int8 import recover_int8
from edgeprune.report import OTHER, ROWS, report
from edgeprune.score import score
from edgeprune.settings import STEPS, Settings
from edgeprune.stages import Run
from edgeprune.states import points_of, states
from edgeprune.steps import read_step, step_folders
from edgeprune.teach import teach
from edgeprune.verify import verify_bundles, write_report
from edgeprune_device.bench.runner import bench
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.bundle.writer import with_alternative, write_bundle
from edgeprune_device.errors import FAILED_CHECK, EdgepruneError
from edgeprune_device.system.machine import usable_cores

STAGES = ("clips", "untouched", "deploy", "bench")
SEED_STAGES = ("distill", "recover-int8", "export-teacher", "export", "quantize", "verify")
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
    decided: dict[str, str] = {}
    for seed in range(settings.seeds):
        decided = one_seed(run, source, clip_folder, seed, settings, decided)
    best = best_seed(out, settings.seeds)
    chosen = f"seed-{best}"
    folders = [out / f"seed-{seed}" for seed in range(settings.seeds)]
    final = run.stage(
        deploy, settings, str(source), *[f / "verify" for f in folders],
        out / chosen / "quantize", clip_folder, name="deploy",
    )  # fmt: skip
    files = (
        out / chosen / "export-teacher" / "bundle",
        out / chosen / "export" / bundle_name(settings.export.formats[0]),
        *(final / name for name in delivered(settings, decided)),
    )
    speed = run.stage(measure_speed, settings.bench, *files, name="bench")
    if compute.rank():
        return {}
    inputs = [clip_folder, speed, final, *folders]
    done = report(out, model, best, settings, inputs, ui)
    for name in delivered(settings, decided):
        publish(final / name, out / name)
    return done


def one_seed(
    run: Run, source: str | Path, clip_folder: Path, seed: int, s: Settings, decided: dict[str, str]
) -> dict[str, str]:
    """Run the recipe for one seed, in ``seed-N/``.

    Returns
    -------
    dict
        Which format comes first and how each is quantized: what seed 0 decided holds for all, so
        that every row of the report is one kind of file.

    """
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
    if s.quantize.recover_epochs:
        student = run.stage(
            recover_int8, s.quantize, student, clip_folder, shared, name=f"{name}/recover-int8"
        )
    title = run.folder.resolve().name
    formats = s.export.formats
    for stage, made, own in (("export-teacher", taught, ("onnx",)), ("export", student, formats)):
        run.stage(
            export, s.export, made / "model", clip_folder, f"{title}-{stage}", LICENCE,
            s.quantize.hop_seconds, list(own), name=f"{name}/{stage}",
        )  # fmt: skip
    deployed = run.stage(
        quantize, s.quantize, student / "model", files / "export", clip_folder, title, LICENCE,
        list(formats), decided, name=f"{name}/quantize",
    )  # fmt: skip
    found: dict[str, str] = decided
    if not compute.rank():
        found = json.loads((deployed / "quantize.json").read_text("utf-8"))["decided"]
    run.stage(
        verify, None, files / "export-teacher" / "bundle",
        files / "export" / bundle_name(formats[0]),
        *(deployed / bundle_name(format) for format in in_order(formats, found)), clip_folder,
        name=f"{name}/verify",
    )  # fmt: skip
    return found


def in_order(formats: Sequence[str], decided: Mapping[str, str]) -> tuple[str, ...]:
    """Return the formats, the one that was decided for first."""
    return tuple(sorted(formats, key=lambda format: format != decided.get("first")))


def delivered(s: Settings, decided: Mapping[str, str]) -> tuple[str, ...]:
    """Return the folders of what is delivered: ``bundle``, which may hold both formats' files.

    Otherwise the format that was not decided for has ``bundle-FORMAT``.
    """
    others = () if s.export.together else in_order(s.export.formats, decided)[1:]
    return ("bundle", *(f"bundle-{format}" for format in others))


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


def verify(*inputs: Path, out: Path, settings: None, ui: Ui) -> None:
    """Measure teacher, student and deployed files on the test split, all as the recorder would.

    Writes ``verify.json``, and what every clip came to in ``NAME.npy``, as ``metrics`` counts it.

    Parameters
    ----------
    inputs : Path
        Bundles in the order of ``ROWS`` (and ``OTHER``), then the ``clips`` stage's folder.

    """
    del settings
    *bundles, clip_folder = inputs
    tested = stored_clips(clip_folder, "test")
    names = (*ROWS, OTHER)[: len(bundles)]
    result, answers = verify_bundles(dict(zip(names, bundles, strict=True)), tested, ui.track)
    for name, given in answers.items():
        np.save(out / f"{name}.npy", tally_of(given, tested))
    write_report(result, out / "verify.json")
    found = ", ".join(f"{name} {points(result[name]['score'])}" for name in names)
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
    """Write the chosen seed's bundles with where they came from and what they measured."""
    *verified, quantized, clip_folder = inputs
    del ui
    chosen = json.loads((quantized.parent / "verify" / "verify.json").read_text("utf-8"))
    decided = json.loads((quantized / "quantize.json").read_text("utf-8"))["decided"]
    data = read_description(clip_folder)
    folders = ("teach", *step_folders(settings.steps))
    read = [read_step(quantized.parent / folder) for folder in folders]
    steps = [{name: step[name] for name in IN_SHORT if name in step} for step in read]
    rows = [row for row in (*ROWS, OTHER) if row in chosen]
    formats = in_order(settings.export.formats, decided)
    bundles = [read_bundle(quantized / bundle_name(format)) for format in formats]
    for name, row, bundle in zip(
        delivered(settings, decided), (ROWS[-1], OTHER), bundles, strict=False
    ):
        measured = [*ROWS[:-1], row] if row in rows and not settings.export.together else rows
        metrics = {n: {k: chosen[n][k] for k in METRICS if k in chosen[n]} for n in measured}
        manifest = dict(bundle.manifest)
        manifest["provenance"] = {
            "edgeprune": __version__, "model": source, "data": data["source"],
            "data_digest": data["digest"], "label_column": data["label_column"],
            "group_column": data["group_column"], "steps": steps,
            "settings": json.loads(json.dumps(asdict(settings))),
            "metrics": metrics, "seed": int(quantized.parent.name.removeprefix("seed-")),
            "seeds": len(verified),
        }  # fmt: skip
        names = [file for file in manifest.pop("files") if file != "bundle.json"]
        files = {file: (bundle.path / file).read_bytes() for file in names}
        if settings.export.together:
            manifest, files = with_alternative(manifest, files, bundles[1])
        write_bundle(out / name, manifest, files)


def measure_speed(*files: Path, out: Path, settings: Any, ui: Ui) -> None:
    """Measure latency, memory and size of teacher, student and deployed files in one run."""
    threads = tuple(n for n in settings.threads if n <= usable_cores()) or (1,)
    if threads != settings.threads:
        ui.say(f"  this machine has {usable_cores()} core(s): measured with {threads} thread(s)")
    rows = sum(len(read_bundle(file).variants) for file in files)
    bench(files, out, threads=threads, seconds=settings.seconds, rounds=settings.rounds,
          names=(*ROWS, OTHER)[:rows], say=ui.say)  # fmt: skip


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
