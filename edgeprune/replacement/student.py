"""The step ``student``: a small model of our own, built for the data's labels and taught by the teacher.

Epochs against the teacher come first (``lessons.py``), epochs on labels follow. With
``distil = false`` all epochs are on labels: the control.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from edgeprune.core import distributed
from edgeprune.core.console import Ui, points
from edgeprune.core.settings import Student
from edgeprune.data.tasks import task_of
from edgeprune.data.windows import Windows, load_windows
from edgeprune.models import loading
from edgeprune.models.checkpoints import PROBLEMS
from edgeprune.models.families import layers_of
from edgeprune.nn.stems import cnn_frames
from edgeprune.nn.student import StudentConfig, StudentForAudioClassification, StudentForCTC
from edgeprune.replacement.student_loss import MATCHING, StudentLoss, matching
from edgeprune.replacement.weight_transfer import inherit
from edgeprune.training import loop
from edgeprune.training.distill import WEIGHT_DECAY, nothing_share_of
from edgeprune.training.step_records import StepContext, write_step
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.ctc import BLANK

LEARNING_RATE = 2e-3  # a small model with batch norms, from random weights


def make_student(
    teacher: Path, student: Path, clips: Path, context: StepContext, *, out: Path,
    settings: Student, ui: Ui,
) -> None:  # fmt: skip
    """Write a student: a model folder ``model/`` and ``step.json``.

    What earlier steps made of the teacher (``student``) is not read: this is another model.

    Raises
    ------
    EdgepruneError
        The teacher does not know the data's labels; or nothing of it can be inherited where the
        settings ask for that.

    """
    windows = load_windows(clips)
    master = loading.load_model(str(teacher / "model"))
    torch.manual_seed(context.seed)
    model = build(settings, windows, loading.sample_rate_of(master))
    inherited = inherit(model, master) if settings.init == "teacher" else []
    if settings.init == "teacher" and not inherited:
        raise EdgepruneError(
            "No weight of the teacher has the shape of one of the student's.",
            'Give the student the teacher\'s width (student.width), or use student.init = "random".',
        )
    device = distributed.choose_device(context.accelerator)
    common = context.distill
    task = task_of(windows.task)
    lesson = StudentLoss(master.requires_grad_(False).to(device), windows.labels, settings, common,
                         nothing_share_of(windows, context), task)  # fmt: skip
    if settings.distil and common.hidden_weight and len(layers_of(model)):
        heard = torch.zeros(1, windows.window_samples, device=device)
        model.add_module(MATCHING, matching(model, master, heard, settings.intermediate))
    epochs = settings.epochs + settings.label_epochs
    plan = loop.TrainingPlan(epochs, common.batch_size, settings.learning_rate or LEARNING_RATE,
                             WEIGHT_DECAY, epochs, context.seed, common.views,
                             context.augment)  # fmt: skip
    valid = windows.split("valid")
    curve = loop.fit(
        model, windows.split("train"), valid, windows.labels, lesson.loss, plan,
        loop.TrainingSession(out / "work", device, ui, "student"),
    )  # fmt: skip
    if hasattr(model, MATCHING):
        delattr(model, MATCHING)
    score = loop.evaluate(model, valid, windows.labels, device)
    ui.say(f"  student: {task.metric} {points(score)} on the validation clips")
    loading.save(model.to("cpu"), out / "model")
    shutil.rmtree(out / "work", ignore_errors=True)
    write_step(
        out, model, windows.window_samples, step="student", valid_score=score, metric=task.metric,
        curve=curve, kind=settings.kind, front_end=settings.front_end, distil=settings.distil,
        inherited=inherited, seed=context.seed,
    )  # fmt: skip


def build(settings: Student, windows: Windows, sample_rate: int) -> Any:
    """Build a student with fresh weights, in evaluation mode.

    Parameters
    ----------
    settings : Student
    windows : Windows
        For the labels, and the window where the head is as long as it.
    sample_rate : int
        Hz.

    Raises
    ------
    EdgepruneError
        The settings are no model: bands too narrow for their frames, heads that do not share a
        width, a window shorter than a frame.

    """
    step = round(settings.hop_ms * sample_rate / 1000)
    if step < 1:
        raise EdgepruneError(
            f"student.hop_ms = {settings.hop_ms:g} is less than a sample ({1000 / sample_rate:g} ms).",
            "The usual is 10 to 20 ms.",
        )
    length = 2 * round(settings.frame_ms * sample_rate / 2000)
    cnn = settings.kind == "cnn"
    if windows.window_samples < length:
        raise EdgepruneError(
            f"A window of {windows.window_samples} samples holds no frame of {length}.",
            "Use a shorter student.frame_ms.",
        )
    config = StudentConfig(
        sampling_rate=sample_rate, front_end="cnn" if cnn else settings.front_end,
        frame_length=length, frame_step=step, num_mel_bins=settings.mels,
        num_mfcc=min(20, settings.mels), block="conv" if cnn else settings.kind,
        num_hidden_layers=0 if cnn else settings.layers,
        hidden_size=32 if cnn else settings.width,
        intermediate_size=settings.width * settings.expansion, conv_kernel=settings.kernel,
        stem_channels=settings.stem_channels, num_attention_heads=settings.heads,
        pooling="flatten" if cnn else settings.pooling, pooled_frames=cnn_frames(windows.window_samples),
    )  # fmt: skip
    config.id2label = dict(enumerate(windows.labels))
    config.label2id = {label: index for index, label in enumerate(windows.labels)}
    kind: Any = StudentForAudioClassification
    if windows.task == "ctc":
        kind, config.vocab_size, config.pad_token_id = StudentForCTC, len(windows.labels), BLANK
    else:
        config.problem_type = PROBLEMS[windows.task]
    config.architectures = [kind.__name__]
    try:
        model = kind(config)
    except ValueError as error:
        raise EdgepruneError(
            f"There is no such student: {error}.", "Change the recipe's [student]."
        ) from error
    model.config.edgeprune_normalize = False
    return model.eval()
