"""The command ``compress``: clips, teach, steps, distill, export, quantize, verify, bench, report.

The steps make the student smaller: ``depth`` (score, prune), ``trim``, ``mimic``, ``frontend`` and
``student``, in the order of the recipe. Each seed goes through all stages on the same splits; the
seed with the best validation score becomes the bundle, which is then measured beside its teacher.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.core import distributed
from edgeprune.core.console import Ui, default_ui
from edgeprune.core.files import read_json
from edgeprune.core.recipe import settings_of
from edgeprune.core.settings import STEPS, Settings
from edgeprune.core.stages import Run
from edgeprune.deployment.quantize import quantize
from edgeprune.depth_pruning.score import score
from edgeprune.depth_pruning.states import points_of, states
from edgeprune.export.export import bundle_name, export
from edgeprune.pipeline.deliver import delivered, deploy, in_order, measure_speed, publish, verify
from edgeprune.pipeline.inputs import open_command
from edgeprune.quantization.qat import recover_int8
from edgeprune.reports.compress_report import report
from edgeprune.reports.results import CompressResult
from edgeprune.training.distill import distill
from edgeprune.training.step_records import context_of, step_folders
from edgeprune.training.teach import teach
from edgeprune_device.errors import FAILED_CHECK, EdgepruneError

STAGES = ("clips", "untouched", "deploy", "bench")
SEED_STAGES = ("distill", "recover-int8", "export-teacher", "export", "quantize", "verify")
LICENCE = "as the model and the recordings it was made from; see provenance"


def compress(
    model: str | Path, data: str | Path, out: str | Path, settings: Settings | str | Path | None = None, *,
    ui: Ui | None = None, redo: Sequence[str] = (),
) -> CompressResult:  # fmt: skip
    """Compress a model on labelled clips into a bundle for the recorder, and write a report.

    Parameters
    ----------
    model : str or Path
        Folder in Hugging Face's format (``config.json``, ``model.safetensors``), or a hub id.
    data : str or Path
        Folder of class folders, or a CSV or TSV manifest with ``path`` and ``label``.
    out : str or Path
        Folder of the run; finished stages in it are reused, an interrupted training resumes.
    settings : Settings, str or Path, optional
        Recipe: of ``load_recipe``, or the name of a preset, or a TOML file; default: all default
        settings.
    ui : Ui, optional
        Progress display; default: the terminal or the notebook. ``Silent()``: none.
    redo : sequence of str
        Stages to run again although nothing changed.

    Returns
    -------
    CompressResult
        The before/after table, the bundle's folder and all numbers. It is also returned if the
        bundle lost more than ``settings.max_drop``: compare ``before`` and ``after``.

    Raises
    ------
    EdgepruneError
        The input has an error (then nothing is written), or a stage fails.

    Examples
    --------
    >>> result = edgeprune.compress("facebook/wav2vec2-base", "clips/labels.csv", "runs/mine")
    >>> edgeprune.load_bundle(result.bundle).predict("forest.wav")

    """
    model, data, out = str(model), Path(data), Path(out)
    settings, ui = settings_of(settings), ui or default_ui()
    own = ("states", "score") if "depth" in settings.steps else ()
    known = (STAGES[0], "teach", *own, *step_folders(settings.steps), *SEED_STAGES, *STAGES[1:])
    precision = distributed.set_precision(settings.precision)
    run, source, clip_folder = open_command(
        "compress", model, data, out, settings, ui, tuple(redo), known
    )
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
    made: CompressResult | None = None
    if not distributed.rank():
        made = report(out, model, best, settings, [clip_folder, speed, final, *folders], ui)
        for name in delivered(settings, decided):
            publish(final / name, out / name)
    result: CompressResult = distributed.broadcast_from_main(made)
    return result


def one_seed(
    run: Run, source: str | Path, clip_folder: Path, seed: int, s: Settings, decided: dict[str, str]
) -> dict[str, str]:
    """Run the recipe for one seed, in ``seed-N/``.

    Returns
    -------
    dict
        Preferred format and quantization method per format. The decision of seed 0 is used for all
        seeds, so that every row of the report is the same kind of file.

    """
    name = f"seed-{seed}"
    files = run.folder / name
    taught = run.stage(
        teach, s.teach, source, clip_folder, seed, s.accelerator, asdict(s.augment),
        name=f"{name}/teach",
    )  # fmt: skip
    context = context_of(s, seed)
    student = taught
    for step, folder in zip(s.steps, step_folders(s.steps), strict=True):
        inputs: tuple[Any, ...] = (taught, student, clip_folder, context)
        if step == "depth":
            inputs = (*inputs, scores_of(run, source, taught, clip_folder, name, s), s.max_drop)
        elif step == "reconstruct":
            inputs = (*inputs, s.max_drop)
        work, settings = step_of(step, s)
        student = run.stage(work, settings, *inputs, name=f"{name}/{folder}")
    student = run.stage(
        distill, s.distill, taught, student, clip_folder, context, name=f"{name}/distill"
    )
    if s.quantize.recover_epochs:
        student = run.stage(
            recover_int8, s.quantize, student, clip_folder, context, name=f"{name}/recover-int8"
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
    if not distributed.rank():
        found = read_json(deployed / "quantize.json")["decided"]
    run.stage(
        verify, None, files / "export-teacher" / "bundle",
        files / "export" / bundle_name(formats[0]),
        *(deployed / bundle_name(format) for format in in_order(formats, found)), clip_folder,
        name=f"{name}/verify",
    )  # fmt: skip
    return found


def step_of(step: str, s: Settings) -> tuple[Callable[..., None], Any]:
    """Return a step's function and its settings; the step's module is imported only here."""
    work_name, settings = STEPS[step]
    module, _, function = work_name.partition(":")
    work = getattr(importlib.import_module(module), function)
    return work, getattr(s, settings)


def scores_of(
    run: Run, source: str | Path, taught: Path, clip_folder: Path, name: str, s: Settings
) -> Path:
    """Score the layers of the teacher, and of the model before fine-tuning."""
    facts = read_json(taught / "teach.json")
    asked = points_of(s.score)
    heard = run.stage(
        states, asked, taught / "model", clip_folder, s.accelerator, name=f"{name}/states"
    )
    before: Path | str = ""
    if not facts["skipped"]:
        before = run.stage(states, asked, source, clip_folder, s.accelerator, name="untouched")
    return run.stage(score, s.score, clip_folder, heard, before, name=f"{name}/score")


def best_seed(out: Path, seeds: int) -> int:
    """Return the seed with the best student on the validation clips; ties go to the first."""
    accuracies = []
    for seed in range(seeds):
        folder = out / f"seed-{seed}"
        student = read_json(folder / "distill" / "distill.json")
        accuracies.append(student["valid_score"])
    return int(np.argmax(accuracies))


def check_floor(done: Mapping[str, Any], max_drop: float) -> None:
    """Raise with status 1 if the delivered file lost more than allowed on the test split."""
    lost = -done["delivered"]["bundle"]["difference"]
    if lost > max_drop + 1e-9:
        raise EdgepruneError(
            f"The bundle is {100 * lost:.2f} percentage points below its teacher on the test clips "
            f"(--max-drop allows {100 * max_drop:g}).",
            "Increase --max-drop, remove less in the recipe's steps, or distill for more epochs.",
            FAILED_CHECK,
        )
