"""The stage ``teach``: make the teacher, the given model with a head for the labels.

If the model's own head knows every label, it is used as it is; otherwise it gets a new head and is
fine-tuned on the training clips, with its waveform encoder frozen. A spectrogram model is fitted to
the window of the clips (``input_length.resize_input``), and with it all models made from it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from edgeprune.core import distributed
from edgeprune.core.console import Ui, format_percent
from edgeprune.core.files import write_json
from edgeprune.core.settings import Augment, Teach
from edgeprune.data.augment import USUAL
from edgeprune.data.tasks import task_of
from edgeprune.data.windows import Windows, load_windows
from edgeprune.models import loading
from edgeprune.models.families import family_of, submodule
from edgeprune.training import loop, ssf
from edgeprune.training.closed_form_head import can_fit, fit_head, is_linear
from edgeprune.training.step_records import write_step
from edgeprune_device.errors import EdgepruneError


def teach(
    model: str | Path, clips: Path, seed: int, accelerator: str, sound: dict[str, Any], *,
    out: Path, settings: Teach, ui: Ui,
) -> None:  # fmt: skip
    """Write the teacher: a model folder ``model/``, ``teach.json``, and ``step.json`` as a step."""
    windows = load_windows(clips)
    task, device = task_of(windows.task), distributed.choose_device(accelerator)
    torch.manual_seed(seed)  # for the weights of a new head
    if settings.when == "auto":
        teacher, labels, skipped = loading.load_for(
            str(model), windows.labels, task=task.name, head=settings.head,
            window_samples=windows.window_samples,
        )  # fmt: skip
    else:
        labels, skipped = windows.labels, False
        teacher = loading.load_model(
            str(model), labels, task=task.name, head=settings.head,
            window_samples=windows.window_samples,
        )  # fmt: skip
    _check_rate(teacher, windows)
    _check_frames(teacher, windows, labels)
    valid = windows.split("valid")
    curve: list[dict[str, float]] = []
    fitted = not skipped and can_fit(teacher, windows, labels)
    if fitted:
        fit_head(teacher, windows, labels, device, ui)
    if not skipped and not (fitted and settings.tune == "head" and is_linear(teacher)):
        curve = fine_tune(
            teacher, windows, labels, settings, seed,
            loop.TrainingSession(out / "work", device, ui, "teach"), Augment(**sound),
        )  # fmt: skip
    score = loop.evaluate(teacher, valid, labels, device)
    ui.say(f"  teacher: {task.metric} {format_percent(score)} on the validation clips"
           + (" (not fine-tuned: its head knows these labels)" if skipped else ""))  # fmt: skip
    if unused := sorted(set(labels) - set(windows.labels)):
        ui.say(f"  warning: {_other_labels(labels, unused)}")
    if score == 0:
        ui.say("  warning: the teacher is never right, so nothing can be distilled from it; use "
               "more clips, more teach.epochs or another teach.learning_rate")  # fmt: skip
    loading.save(teacher.to("cpu"), out / "model")
    write_step(out, teacher, windows.window_samples, step="teach", valid_score=score,
               metric=task.metric, curve=curve, unchanged=True)  # fmt: skip
    shutil.rmtree(out / "work", ignore_errors=True)
    facts = {"skipped": skipped, "valid_score": score, "metric": task.metric, "curve": curve,
             "seed": seed, "labels": list(labels)}  # fmt: skip
    write_json(out / "teach.json", facts)


def _other_labels(labels: Sequence[str], unused: Sequence[str]) -> str:
    """Say that a model keeps labels that no clip has."""
    shown = ", ".join(unused[:3]) + ", ..." * (len(unused) > 3)
    return (
        f"the model knows {len(labels)} labels and keeps all of them, but {len(unused)} are on no "
        f"clip ({shown}), so nothing measures them; to get only the labels of the clips, set "
        'teach.when = "always"'
    )


def fine_tune(
    model: Any, windows: Windows, labels: tuple[str, ...], settings: Teach, seed: int,
    session: loop.TrainingSession, sound: Augment = USUAL,
) -> list[dict[str, float]]:  # fmt: skip
    """Train a model on the labels of the training clips, in place; return its learning curve."""
    if settings.tune == "ssf":
        ssf.attach(model)
    else:
        freeze(model, settings.tune)
    loss = loop.labels_loss(windows, settings.label_smoothing)
    plan = replace(teaching_plan(settings, model, seed), augment=sound)
    curve = loop.fit(
        model, windows.split("train"), windows.split("valid"), labels, loss, plan,
        session,
    )  # fmt: skip
    if settings.tune == "ssf":
        ssf.fold(model)
    return curve


def freeze(model: Any, tune: str) -> None:
    """Freeze the waveform encoder, all but the head, or nothing, as ``teach.tune`` says."""
    if tune == "head":
        head = {id(p) for p in loading.head_parameters(model)}
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) in head)
        return
    frozen = family_of(model.config.model_type).frozen
    if frozen and tune != "all":
        submodule(model, frozen).requires_grad_(False)


def teaching_plan(settings: Teach, model: Any, seed: int) -> loop.TrainingPlan:
    """Build the training plan from the settings."""
    usual = loop.default_learning_rate(loading.count_parameters(model))
    rate = settings.learning_rate or (ssf.LEARNING_RATE if settings.tune == "ssf" else usual)
    return loop.TrainingPlan(settings.epochs, settings.batch_size, rate, settings.weight_decay,
                             settings.patience, seed)  # fmt: skip


def _check_frames(model: Any, windows: Windows, labels: Sequence[str]) -> None:
    """Raise if a model has fewer frames than transcripts have tokens.

    Two equal tokens in a row need a blank frame between them.
    """
    if windows.task != "ctc":
        return
    with torch.no_grad():
        frames = loading.logits_of(model, torch.zeros(1, windows.window_samples)).shape[1]
    targets = task_of("ctc").targets(windows, labels)
    twice = ((targets[:, 1:] == targets[:, :-1]) & (targets[:, 1:] != 0)).sum(dim=1)
    needed = (targets != 0).sum(dim=1) + twice
    if crowded := int((needed > frames).sum()):
        raise EdgepruneError(
            f"{crowded} of {len(needed)} transcripts have more tokens than the model has frames "
            f"({frames} per window of {windows.window_samples / windows.sample_rate:g} s; the "
            f"longest needs {int(needed.max())}).",
            "Check those clips, or use clips.tokens = 'words'.",
        )


def _check_rate(model: Any, windows: Windows) -> None:
    if loading.sample_rate_of(model) != windows.sample_rate:
        raise EdgepruneError(
            f"The model needs {loading.sample_rate_of(model)} Hz, but the clips were read at "
            f"{windows.sample_rate} Hz."
        )
