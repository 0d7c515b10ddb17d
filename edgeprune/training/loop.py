"""The training loop of fine-tuning, recovery and distillation.

Every epoch has its own seed and ends with a checkpoint, so that an interrupted training resumes
from the last finished epoch and gives the same result as an uninterrupted one. Hugging Face's
accelerate does mixed precision and, under ``accelerate launch``, splits every batch over processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeprune.core import distributed
from edgeprune.core.console import Ui
from edgeprune.core.settings import Augment
from edgeprune.data.augment import USUAL, augment
from edgeprune.data.tasks import task_of
from edgeprune.data.windows import Windows
from edgeprune.models.loading import logits_of
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.system.files import written_whole

BIG_MODEL_PARAMETERS = 20_000_000
WARMUP_SHARE = 0.1
GRADIENT_NORM = 1.0
EVALUATION_BATCH = 64
CHECKPOINT = "checkpoint.pt"

Loss = Callable[[Any, Tensor, Tensor, int], Tensor]
"""(model, samples (batch, window), targets of the task (batch, ...), epoch) -> scalar."""


@dataclass(frozen=True)
class TrainingPlan:
    """Length, rates and augmentation of a training."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    patience: int
    """Epochs without a better validation score before stopping."""
    seed: int
    views: int = 0
    """Augmented views of each clip, used in turn; 0: a new one every epoch."""
    augment: Augment = USUAL
    """Augmentation of the clips."""
    rate_factors: Mapping[str, float] = field(default_factory=dict)
    """Prefix of parameter names -> learning rate, as a multiple of ``learning_rate``; these
    parameters have no weight decay."""
    keep_last: bool = False
    """Keep the last epoch instead of the best (for gates, which close during training)."""


@dataclass(frozen=True)
class TrainingSession:
    """Folder, device and progress display of one training."""

    work: Path
    """Folder of the checkpoint. A checkpoint found there, of a training of the same length, is
    resumed. The caller removes the folder after saving the model."""
    device: torch.device
    ui: Ui
    title: str
    """Title of the progress bar."""


def default_learning_rate(parameters: int) -> float:
    """Return the default peak learning rate for a model size; large pretrained models get less."""
    return 3e-5 if parameters >= BIG_MODEL_PARAMETERS else 5e-4


def fit(
    model: Any, train: Windows, valid: Windows, labels: tuple[str, ...], loss: Loss,
    plan: TrainingPlan, session: TrainingSession,
) -> list[dict[str, float]]:  # fmt: skip
    """Train a model in place and restore its best epoch by the task's score on ``valid``.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Model; parameters without ``requires_grad`` are not changed.
    train, valid : Windows
        Training and validation clips.
    labels : tuple of str
        The model's labels.
    loss : callable
        See ``Loss``.
    plan : TrainingPlan
        Length, rates and augmentation.
    session : TrainingSession
        Folder, device and progress display.

    Returns
    -------
    list of dict
        The learning curve: epoch, loss, valid_score.

    """
    work, device, ui = session.work, session.device, session.ui
    accelerator = distributed.make_accelerator(device)
    model.to(device)
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = accelerator.prepare(torch.optim.AdamW(_groups(model, plan)))
    steps = math.ceil(len(train.samples) / plan.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer.optimizer, warmup_cosine(steps * plan.epochs)
    )
    state = _resume(model, optimizer, schedule, work)
    targets = task_of(train.task).targets(train, labels)
    if hasattr(model.config, "mask_time_count"):  # the model masks its own spectrogram
        plan = replace(plan, augment=replace(plan.augment, mask_share=0.0))
    batches = _batches(train, targets, plan, state, device, steps)
    total = (plan.epochs - state["epoch"]) * steps
    losses: list[float] = []
    to_training(model)
    for epoch, last, share, samples, target in ui.track(batches, session.title, total):
        optimizer.zero_grad()
        if len(samples):
            with distributed.autocast(device):
                value = loss(model, samples, target, epoch)
            accelerator.backward(value * share)
            losses.append(float(value.detach()))
        distributed.average_gradients(accelerator, weights)
        accelerator.clip_grad_norm_(weights, GRADIENT_NORM)
        optimizer.step()
        schedule.step()
        if last:
            _end_epoch(model, state, epoch, losses, valid, labels, device)
            to_training(model)
            _checkpoint(model, optimizer, schedule, state, work)
            ui.note(f"epoch {epoch + 1}: valid {100 * state['curve'][-1]['valid_score']:.1f} %")
            losses = []
    if state["best"] and not plan.keep_last:
        model.load_state_dict(state["best"])
    model.eval().to("cpu")
    curve: list[dict[str, float]] = state["curve"]
    return curve


def labels_loss(windows: Windows, smoothing: float = 0.1) -> Loss:
    """Return the loss on labels alone, for fine-tuning and for the importance of units."""
    task = task_of(windows.task)

    def loss(model: Any, samples: Tensor, targets: Tensor, _: int) -> Tensor:
        return task.loss(logits_of(model, samples), targets, smoothing)

    return loss


def to_training(model: Any) -> None:
    """Set training mode, except for frozen modules, whose running statistics must not change."""
    model.train()
    for module in model.modules():
        weights = list(module.parameters())
        if weights and not any(weight.requires_grad for weight in weights):
            module.eval()


def warmup_cosine(steps: int) -> Callable[[int], float]:
    """Return a schedule of the learning rate's factor: linear warm-up, then a cosine to 1 %."""
    warm = max(1, round(steps * WARMUP_SHARE))

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        done = min(1.0, (step - warm) / max(1, steps - warm))
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))

    return factor


def _groups(model: Any, plan: TrainingPlan) -> list[dict[str, Any]]:
    """Group the trainable parameters by learning rate, for AdamW."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [{"params": [p for name, p in named if not name.startswith(tuple(plan.rate_factors))],
               "lr": plan.learning_rate, "weight_decay": plan.weight_decay}]  # fmt: skip
    for prefix, multiple in plan.rate_factors.items():
        chosen = [p for name, p in named if name.startswith(prefix)]
        groups.append({"params": chosen, "lr": plan.learning_rate * multiple, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


def _batches(
    train: Windows, targets: Tensor, plan: TrainingPlan, state: dict[str, Any],
    device: torch.device, steps: int,
) -> Iterator[tuple[int, bool, float, Tensor, Tensor]]:  # fmt: skip
    """Yield (epoch, whether last of its epoch, share, samples, targets); each epoch has its seed.

    With several processes, each gets its part of every batch; ``share`` weights its loss so that
    the mean over the processes is the mean over the whole batch.
    """
    rank, processes = distributed.rank(), distributed.processes()
    for epoch in range(state["epoch"], plan.epochs):
        if state["epoch"] - 1 - state["best_epoch"] >= plan.patience:
            return
        seed = plan.seed * 100_003 + (epoch % plan.views if plan.views else epoch)
        torch.manual_seed(seed + 10_007 * rank)  # dropout and SpecAugment
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(train.samples), generator=generator).numpy()
        for step in range(steps):
            index = np.sort(order[step * plan.batch_size : (step + 1) * plan.batch_size])
            samples = torch.from_numpy(np.array(train.samples[index])).to(device)
            changed = augment(samples, train.sample_rate, generator, plan.augment)[rank::processes]
            target = targets[torch.from_numpy(index[rank::processes])].to(device)
            share = len(changed) * processes / len(index)
            yield epoch, step == steps - 1, share, changed, target


def _end_epoch(
    model: Any, state: dict[str, Any], epoch: int, losses: list[float], valid: Windows,
    labels: tuple[str, ...], device: torch.device,
) -> None:  # fmt: skip
    """Evaluate, keep the weights if they are the best so far, and extend the learning curve."""
    mean = distributed.broadcast_from_main(sum(losses) / len(losses))
    if not math.isfinite(mean):
        raise EdgepruneError(
            f"Training has diverged: the loss in epoch {epoch + 1} is NaN or infinite.",
            "Use a lower learning_rate, a larger batch_size, or --precision full.",
        )
    distributed.broadcast_buffers(model)
    score = evaluate(model, valid, labels, device)
    state["curve"].append({"epoch": epoch + 1, "loss": mean, "valid_score": score})
    state["epoch"] = epoch + 1
    if score >= state["best_score"]:  # of equal scores the later: it has trained longer
        state["best_score"], state["best_epoch"] = score, epoch
        state["best"] = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}


def evaluate(model: Any, windows: Windows, labels: tuple[str, ...], device: torch.device) -> float:
    """Return a model's score on the task over clips; the model stays on the device.

    All processes get the main process's value, so that they decide alike.
    """
    logits = predict(model.to(device), windows, device)
    score: float = distributed.broadcast_from_main(
        task_of(windows.task).score(logits, windows, labels)
    )
    return score


def predict(model: Any, windows: Windows, device: torch.device) -> NDArray[np.float32]:
    """Return a model's logits in evaluation mode: (windows, labels), see ``data.tasks``."""
    model.eval()
    out = []
    with torch.inference_mode():
        for start in range(0, len(windows.clip), EVALUATION_BATCH):
            batch = windows.read(slice(start, start + EVALUATION_BATCH))
            out.append(logits_of(model, torch.from_numpy(batch).to(device)).cpu().numpy())
    return np.concatenate(out)


def _checkpoint(
    model: Any, optimizer: Any, schedule: Any, state: dict[str, Any], work: Path
) -> None:
    if distributed.rank():
        return
    saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict(),
             "schedule": schedule.state_dict(), "state": state}  # fmt: skip
    with written_whole(work / CHECKPOINT) as partial:
        torch.save(saved, partial)


def _resume(model: Any, optimizer: Any, schedule: Any, work: Path) -> dict[str, Any]:
    work.mkdir(parents=True, exist_ok=True)
    if not (work / CHECKPOINT).exists():
        return {"epoch": 0, "curve": [], "best": {}, "best_score": -1.0, "best_epoch": 0}
    saved = torch.load(work / CHECKPOINT, map_location="cpu", weights_only=True)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    schedule.load_state_dict(saved["schedule"])
    state: dict[str, Any] = saved["state"]
    return state


RECOVERY_SPEED = 2.0  # multiple of fine-tuning's learning rate, after layers were removed
