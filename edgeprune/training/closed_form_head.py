"""A head fitted in closed form: logistic regression on what the frozen model gives each clip.

The features are the input of the model's last linear layer. Where a projection of every frame, a
mean over time and that layer follow each other (waveform families, Whisper), the three are one
linear map of the mean hidden state, so the regression is on that: the projection gets its weights,
and the last layer passes them on. Nothing else in the model changes.

Fitted first, it is what fine-tuning starts from (linear probing, then fine-tuning: Kumar et al.
2022, arXiv 2202.10054); alone, it is linear probing. After a change of the layers below, fitting it
again recovers what the head can recover, in seconds.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.core.console import Ui
from edgeprune.data.tasks import task_of
from edgeprune.data.windows import Windows
from edgeprune.models import loading
from edgeprune.models.heads import LABEL_LAYERS
from edgeprune.training.logistic_regression import LinearHead, fit_linear_head, loss_of
from edgeprune_device.errors import EdgepruneError

BATCH = 64
ROUNDING = 1e-6
TASKS = ("classes", "tags")
"""Tasks whose head is a linear map of one vector per clip; a transcript's is not."""


class _ReachedHead(Exception):
    """Raised when the head's input was captured, so that nothing after it is computed."""


def label_layer(model: Any) -> nn.Linear:
    """Return the linear layer that outputs the labels.

    Raises
    ------
    EdgepruneError
        The model has none that is known.

    """
    if name := _label_name(model):
        found: nn.Linear = model.get_submodule(name)
        return found
    raise EdgepruneError(
        f"The head of a {model.config.model_type} model has no linear layer for its labels.",
        'Use teach.tune = "whole".',
    )


def has_projection(model: Any) -> bool:
    """Return whether frames are projected, averaged, and then mapped to labels, all linearly."""
    projector, last = getattr(model, "projector", None), getattr(model, "classifier", None)
    return (
        isinstance(projector, nn.Linear) and isinstance(last, nn.Linear)
        and projector.out_features == last.in_features >= last.out_features
    )  # fmt: skip


def head_features(model: Any, windows: Windows, device: torch.device, ui: Ui, title: str) -> Tensor:
    """Return the features of all windows: (windows, features), what ``fit_head`` regresses on.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Classifier; it is moved to the device.
    windows : Windows
        Windows, read batch by batch.
    device : torch.device
        Where to run it.
    ui : Ui
        Progress display, with ``title``.

    """
    projected = has_projection(model)
    layer = model.projector if projected else label_layer(model)
    caught: list[Tensor] = []

    def reached(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        caught.append(args[0].mean(dim=1) if projected else args[0])
        raise _ReachedHead

    model.eval().to(device)
    hook = layer.register_forward_pre_hook(reached)
    starts = range(0, len(windows.clip), BATCH)
    try:
        with torch.inference_mode():
            for start in ui.track(starts, title, len(starts)):
                batch = torch.from_numpy(windows.read(slice(start, start + BATCH)))
                try:
                    loading.logits_of(model, batch.to(device))
                except _ReachedHead:
                    caught[-1] = caught[-1].float().cpu()
    finally:
        hook.remove()
    return torch.cat(caught).clone()


def set_head(model: Any, head: LinearHead) -> None:
    """Write a linear map of the features of ``head_features`` into a model's head, in place."""
    last = label_layer(model)
    with torch.no_grad():
        if has_projection(model):
            labels = last.out_features
            projector = model.projector
            projector.weight[:labels] = head.weight.to(projector.weight)
            projector.bias[:labels] = head.bias.to(projector.bias)
            last.weight.zero_()
            last.weight[:, :labels] = torch.eye(labels)
            last.bias.zero_()
        else:
            last.weight.copy_(head.weight)
            last.bias.copy_(head.bias)


def can_fit(model: Any, windows: Windows, labels: tuple[str, ...]) -> bool:
    """Return whether a head can be fitted: no transcripts, and clips of every label."""
    return windows.task in TASKS and set(labels) <= set(windows.labels) and bool(_label_name(model))


def is_linear(model: Any) -> bool:
    """Return whether the fitted head is the whole head, with no hidden units before it."""
    return not _label_name(model).endswith(".out")


def _label_name(model: Any) -> str:
    """Return the path of the linear layer that outputs the labels; empty if there is none."""
    modules = dict(model.named_modules())
    for name in LABEL_LAYERS:
        found = modules.get(name)
        if isinstance(found, nn.Linear) and found.out_features == model.config.num_labels:
            return name
    return ""


def fit_head(
    model: Any, windows: Windows, labels: tuple[str, ...], device: torch.device, ui: Ui
) -> LinearHead:
    """Fit a model's head on the training clips, in place; its penalty is chosen on validation.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Classifier with a head for these labels, moved to the device.
    windows : Windows
        The data, all splits; the test split is not used.
    labels : tuple of str
        The model's labels.
    device : torch.device
        Where to run it.
    ui : Ui
        Progress display.

    Returns
    -------
    LinearHead

    Raises
    ------
    EdgepruneError
        The task is a transcript's, or the model's head has no last linear layer.

    """
    if windows.task not in TASKS:
        raise EdgepruneError(
            "A transcript's head cannot be fitted in closed form.",
            'Use teach.tune = "whole" or "ssf".',
        )
    given = _features(model, windows, labels, device, ui)
    head = fit_linear_head(given["train"], given["valid"], len(labels))
    set_head(model, head)
    return head


def refit_head(
    model: Any, windows: Windows, labels: tuple[str, ...], device: torch.device, ui: Ui
) -> bool:
    """Fit a head again after a change of the layers below it, in place.

    The head stays as it is if ``can_fit`` says so, or if its loss on the validation clips is lower
    than that of the new one; parameters are those of ``fit_head``.

    Returns
    -------
    bool
        Whether the head was changed.

    """
    if not can_fit(model, windows, labels):
        return False
    given = _features(model, windows, labels, device, ui)
    head = fit_linear_head(given["train"], given["valid"], len(labels))
    features, targets = given["valid"]
    loss = loss_of(targets)
    with torch.no_grad():
        own = features.to(device)
        for layer in (model.projector, model.classifier) if has_projection(model) else (
            label_layer(model),
        ):  # fmt: skip
            own = layer(own)
        before = float(loss(own.cpu().double(), targets))
        after = float(loss((features @ head.weight.T + head.bias).double(), targets))
    if after >= before * (1 - ROUNDING):
        return False
    set_head(model, head)
    return True


def _features(
    model: Any, windows: Windows, labels: tuple[str, ...], device: torch.device, ui: Ui
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return features and targets of the training and the validation clips."""
    task, given = task_of(windows.task), {}
    for split in ("train", "valid"):
        part = windows.split(split)
        found = head_features(model, part, device, ui, f"head, {split} clips")
        given[split] = (found, task.targets(part, labels))
    return given
