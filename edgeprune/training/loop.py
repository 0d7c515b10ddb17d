"""The one training loop: teaching, recovery after a cut, and distillation all go through it.

Each epoch is seeded on its own and ends with a checkpoint, so that an interrupted training goes
on from the last finished epoch and ends where an uninterrupted one would have. Hugging Face's
accelerate does mixed precision and, under ``accelerate launch``, shares every batch among processes.
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
"""(model, samples (batch, window), the task's targets (batch, ...), epoch) -> scalar."""


@dataclass(frozen=True)
class TrainingPlan:
    """How long and how fast to train."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    patience: int
    """Epochs without a better validation score before stopping."""
    seed: int
    views: int = 0
    """Augmented views of a clip, shown in turn; 0: a new one every epoch."""
    augment: Augment = USUAL
    """How the clips are changed."""
    rates: Mapping[str, float] = field(default_factory=dict)
    """Learning rates of parameters whose names begin so, as multiples of the others'; they are
    not decayed."""
    last: bool = False
    """Leave the model at its last epoch, not its best (gates close as they learn)."""


@dataclass(frozen=True)
class TrainingSession:
    """Where one training runs, keeps its checkpoint and reports."""

    work: Path
    """Folder of the checkpoint; an earlier one of the same length is gone on from. It stays: the
    caller removes it when it has saved the model."""
    device: torch.device
    ui: Ui
    title: str
    """Under which name progress is shown."""


def default_learning_rate(parameters: int) -> float:
    """Peak learning rate for a model of this size: big pretrained ones want gentle steps."""
    return 3e-5 if parameters >= BIG_MODEL_PARAMETERS else 5e-4


def fit(
    model: Any, train: Windows, valid: Windows, labels: tuple[str, ...], loss: Loss,
    plan: TrainingPlan, session: TrainingSession,
) -> list[dict[str, float]]:  # fmt: skip
    """Train a model in place and leave it at its best epoch by the task's score on ``valid``.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Parameters without ``requires_grad`` stay as they are.
    train, valid : Windows
    labels : tuple of str
        The model's labels.
    loss : callable
        See ``Loss``.
    plan : TrainingPlan
    session : TrainingSession

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
    if hasattr(model.config, "mask_time_count"):  # it masks its own spectrum: once is enough
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
    if state["best"] and not plan.last:
        model.load_state_dict(state["best"])
    model.eval().to("cpu")
    curve: list[dict[str, float]] = state["curve"]
    return curve


def labels_loss(windows: Windows, smoothing: float = 0.1) -> Loss:
    """Return the loss on labels alone: what a teacher, or a unit, is worth shows against it."""
    task = task_of(windows.task)

    def loss(model: Any, samples: Tensor, targets: Tensor, _: int) -> Tensor:
        return task.loss(logits_of(model, samples), targets, smoothing)

    return loss


def to_training(model: Any) -> None:
    """Put a model into training mode, but for what is frozen: its norms' statistics stay, too."""
    model.train()
    for module in model.modules():
        weights = list(module.parameters())
        if weights and not any(weight.requires_grad for weight in weights):
            module.eval()


def warmup_cosine(steps: int) -> Callable[[int], float]:
    """Return the learning rate's factor by step: linear rise, then half a cosine to 1 %."""
    warm = max(1, round(steps * WARMUP_SHARE))

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        done = min(1.0, (step - warm) / max(1, steps - warm))
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))

    return factor


def _groups(model: Any, plan: TrainingPlan) -> list[dict[str, Any]]:
    """Sort the trainable parameters by learning rate, for AdamW."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [{"params": [p for name, p in named if not name.startswith(tuple(plan.rates))],
               "lr": plan.learning_rate, "weight_decay": plan.weight_decay}]  # fmt: skip
    for prefix, multiple in plan.rates.items():
        chosen = [p for name, p in named if name.startswith(prefix)]
        groups.append({"params": chosen, "lr": plan.learning_rate * multiple, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


def _batches(
    train: Windows, targets: Tensor, plan: TrainingPlan, state: dict[str, Any],
    device: torch.device, steps: int,
) -> Iterator[tuple[int, bool, float, Tensor, Tensor]]:  # fmt: skip
    """Yield (epoch, last of its epoch?, share, samples, targets), every epoch seeded on its own.

    Of several processes each gets its part of every batch; ``share`` makes the mean over them the
    whole batch's mean.
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
    """Evaluate, keep the weights if they are the best so far, and write the curve."""
    mean = distributed.same(sum(losses) / len(losses))
    if not math.isfinite(mean):
        raise EdgepruneError(
            f"The loss in epoch {epoch + 1} is no number any more: training has diverged.",
            "Use a lower learning_rate, a larger batch_size, or full --precision.",
        )
    distributed.share_buffers(model)
    score = evaluate(model, valid, labels, device)
    state["curve"].append({"epoch": epoch + 1, "loss": mean, "valid_score": score})
    state["epoch"] = epoch + 1
    if score >= state["best_score"]:  # the later of equals has seen more
        state["best_score"], state["best_epoch"] = score, epoch
        state["best"] = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}


def evaluate(model: Any, windows: Windows, labels: tuple[str, ...], device: torch.device) -> float:
    """Return the task's score of a model over clips, and leave it on the device it ran on.

    Of several processes all get the main one's, so that what is decided by it is decided alike.
    """
    logits = predict(model.to(device), windows, device)
    score: float = distributed.same(task_of(windows.task).score(logits, windows, labels))
    return score


def predict(model: Any, windows: Windows, device: torch.device) -> NDArray[np.float32]:
    """Return the logits of a model, in evaluation mode: (windows, labels), see ``tasks``."""
    model.eval()
    out = []
    with torch.inference_mode():
        for start in range(0, len(windows.clip), EVALUATION_BATCH):
            batch = windows.heard(slice(start, start + EVALUATION_BATCH))
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


RECOVERY_SPEED = 2.0  # of teaching's learning rate: a model that was just cut has further to go
