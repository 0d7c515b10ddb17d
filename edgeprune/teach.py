"""Make the teacher: the given model with a head that knows these labels.

If the model's own head knows every label, it is the teacher as it is; otherwise it gets a fresh
head and is fine-tuned on the training clips, its waveform encoder left alone.
"""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgeprune import losses, models, train
from edgeprune.audio import Windows, load_windows
from edgeprune.console import Ui, points
from edgeprune.families import family_of, submodule
from edgeprune.settings import Teach
from edgeprune_device.errors import EdgepruneError


def teach(
    model: str | Path, clips: Path, seed: int, accelerator: str, *, out: Path, settings: Teach,
    ui: Ui,
) -> None:  # fmt: skip
    """Write the teacher: a model folder ``model/`` and ``teach.json`` with its learning curve."""
    windows = load_windows(clips)
    device = models.choose_device(accelerator)
    torch.manual_seed(seed)  # the fresh head's weights
    if settings.when == "auto":
        teacher, labels, skipped = models.load_for(
            str(model), windows.labels, windows.window_samples
        )
    else:
        labels, skipped = windows.labels, False
        teacher = models.load_classifier(str(model), labels, windows.window_samples)
    _check_rate(teacher, windows)
    valid = windows.split("valid")
    curve: list[dict[str, float]] = []
    if not skipped:
        curve = fine_tune(
            teacher, windows, labels, settings, seed, work=out / "work", device=device, ui=ui,
            title="teach",
        )  # fmt: skip
    accuracy = train.evaluate(teacher, valid, labels, device)
    ui.say(f"  teacher: {points(accuracy)} of the validation clips"
           + (" (its own head knows these labels: not trained)" if skipped else ""))  # fmt: skip
    models.save(teacher.to("cpu"), out / "model")
    shutil.rmtree(out / "work", ignore_errors=True)
    facts = {"skipped": skipped, "valid_accuracy": accuracy, "curve": curve, "seed": seed,
             "labels": list(labels)}  # fmt: skip
    (out / "teach.json").write_text(json.dumps(facts, indent=1), "utf-8")


def fine_tune(
    model: Any, windows: Windows, labels: tuple[str, ...], settings: Teach, seed: int, *,
    work: Path, device: torch.device, ui: Ui, title: str,
) -> list[dict[str, float]]:  # fmt: skip
    """Train a model on the labels of the training clips, in place; returns its learning curve."""
    freeze(model, settings.tune)
    return train.fit(
        model, windows.split("train"), windows.split("valid"), labels,
        partial(_loss, smoothing=settings.label_smoothing), plan_of(settings, model, seed),
        work=work, device=device, ui=ui, title=title,
    )  # fmt: skip


def freeze(model: Any, tune: str) -> None:
    """Leave trainable what fine-tuning may change: all but the waveform encoder, or the head."""
    if tune == "head":
        head = {id(p) for p in models.head_parameters(model)}
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) in head)
        return
    frozen = family_of(model.config.model_type).frozen
    if frozen:
        submodule(model, frozen).requires_grad_(False)


def plan_of(settings: Teach, model: Any, seed: int) -> train.Plan:
    """Build the training plan from the settings."""
    rate = settings.learning_rate or train.default_learning_rate(models.count_parameters(model))
    return train.Plan(settings.epochs, settings.batch_size, rate, settings.weight_decay,
                      settings.patience, seed)  # fmt: skip


def _loss(model: Any, samples: Tensor, targets: Tensor, _: int, *, smoothing: float) -> Tensor:
    return losses.label_loss(models.logits_of(model, samples), targets, smoothing)


def _check_rate(model: Any, windows: Windows) -> None:
    if models.sample_rate_of(model) != windows.sample_rate:
        raise EdgepruneError(
            f"The model wants {models.sample_rate_of(model)} Hz, the clips were read at "
            f"{windows.sample_rate} Hz."
        )
