"""The step ``student``: a new small model, built for the data's labels and distilled.

Epochs on the teacher come first (``student_loss``), epochs on labels follow. With
``distil = false``, all epochs are on labels, as a control.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from edgeprune.core import distributed
from edgeprune.core.console import Ui, format_percent
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
from edgeprune.training.distill import WEIGHT_DECAY, background_share_of
from edgeprune.training.step_records import StepContext, write_step
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.ctc import BLANK

LEARNING_RATE = 2e-3  # for a small model with batch norms and random weights


def make_student(
    teacher: Path, student: Path, clips: Path, context: StepContext, *, out: Path,
    settings: Student, ui: Ui,
) -> None:  # fmt: skip
    """Write a student: a model folder ``model/`` and ``step.json``.

    The result of earlier steps (``student``) is not used: this is a new model.

    Raises
    ------
    EdgepruneError
        The teacher does not know the data's labels; or ``student.init`` is ``teacher`` and no
        weights of the teacher fit.

    """
    windows = load_windows(clips)
    master = loading.load_model(str(teacher / "model"))
    torch.manual_seed(context.seed)
    model = build(settings, windows, loading.sample_rate_of(master))
    inherited = inherit(model, master) if settings.init == "teacher" else []
    if settings.init == "teacher" and not inherited:
        raise EdgepruneError(
            "No weights of the teacher have the shape of the student's.",
            'Set student.width to the teacher\'s width, or use student.init = "random".',
        )
    device = distributed.choose_device(context.accelerator)
    common = context.distill
    task = task_of(windows.task)
    lesson = StudentLoss(master.requires_grad_(False).to(device), windows.labels, settings, common,
                         background_share_of(windows, context), task)  # fmt: skip
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
    ui.say(f"  student: {task.metric} {format_percent(score)} on the validation clips")
    loading.save(model.to("cpu"), out / "model")
    shutil.rmtree(out / "work", ignore_errors=True)
    write_step(
        out, model, windows.window_samples, step="student", valid_score=score, metric=task.metric,
        curve=curve, kind=settings.kind, front_end=settings.front_end, distil=settings.distil,
        inherited=inherited, seed=context.seed,
    )  # fmt: skip


def build(settings: Student, windows: Windows, sample_rate: int) -> Any:
    """Build a student with random weights, in evaluation mode.

    Parameters
    ----------
    settings : Student
        Settings of the step.
    windows : Windows
        For the labels, and for the window length if the head depends on it.
    sample_rate : int
        Sample rate in Hz.

    Raises
    ------
    EdgepruneError
        The settings give no valid model: bands too narrow for the frames, a width that is no
        multiple of the heads, a window shorter than a frame.

    """
    step = round(settings.hop_ms * sample_rate / 1000)
    if step < 1:
        raise EdgepruneError(
            f"student.hop_ms = {settings.hop_ms:g} is less than a sample ({1000 / sample_rate:g} ms).",
            "Usual values are 10 to 20 ms.",
        )
    length = 2 * round(settings.frame_ms * sample_rate / 2000)
    cnn = settings.kind == "cnn"
    if windows.window_samples < length:
        raise EdgepruneError(
            f"A window of {windows.window_samples} samples is shorter than a frame of {length}.",
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
            f"The student cannot be built: {error}.", "Change [student] in the recipe."
        ) from error
    model.config.edgeprune_normalize = False
    return model.eval()
