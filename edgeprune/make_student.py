"""The step ``student``: a small model of our own, built for the data's labels and taught by the teacher.

Epochs against the teacher come first: it hears what the student hears, and the student learns its
answers, and its states through a linear layer of its own that is gone afterwards. Windows are also
mixed two by two, which labels could not say anything of but the teacher can (Beyer et al. 2022,
arXiv 2106.05237: patient, consistent teachers). Epochs on labels follow. With ``distil = false``
all epochs are on labels: the control.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune import compute, losses, models, train
from edgeprune.audio import Windows, load_windows
from edgeprune.augment import nothing, to_augment
from edgeprune.console import Ui, points
from edgeprune.distill import WEIGHT_DECAY
from edgeprune.families import layers_of
from edgeprune.inherit import inherit
from edgeprune.settings import Distill, Student
from edgeprune.stems import cnn_frames
from edgeprune.steps import write_step
from edgeprune.student import StudentConfig, StudentForAudioClassification
from edgeprune_device.errors import EdgepruneError

LEARNING_RATE = 2e-3  # a small model with batch norms, from random weights
MATCHING = "matching"
"""Submodule with the linear layers between the student's states and the teacher's, while training."""


def make_student(
    teacher: Path, student: Path, clips: Path, shared: dict[str, Any], *, out: Path,
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
    master = models.load_classifier(str(teacher / "model"))
    torch.manual_seed(shared["seed"])
    model = build(settings, windows, models.sample_rate_of(master))
    inherited = inherit(model, master) if settings.init == "teacher" else []
    if settings.init == "teacher" and not inherited:
        raise EdgepruneError(
            "No weight of the teacher has the shape of one of the student's.",
            'Give the student the teacher\'s width (student.width), or use student.init = "random".',
        )
    device = compute.choose_device(shared["accelerator"])
    common = Distill(**shared["distill"])
    quiet = 0.0 if set(windows.labels) & set(shared["ignore"]) else common.nothing_share
    lesson = Lesson(
        master.requires_grad_(False).to(device), windows.labels, settings, common, quiet
    )
    if settings.distil and common.hidden_weight:
        model.add_module(MATCHING, matching(model, master, settings.intermediate))
    epochs = settings.epochs + settings.label_epochs
    plan = train.Plan(epochs, common.batch_size, settings.learning_rate or LEARNING_RATE,
                      WEIGHT_DECAY, epochs, shared["seed"], augment=to_augment(shared))  # fmt: skip
    valid = windows.split("valid")
    curve = train.fit(
        model, windows.split("train"), valid, windows.labels, lesson.loss, plan,
        work=out / "work", device=device, ui=ui, title="student",
    )  # fmt: skip
    if hasattr(model, MATCHING):
        delattr(model, MATCHING)
    score = train.evaluate(model, valid, windows.labels, device)
    ui.say(f"  student: {points(score)} of the validation clips")
    models.save(model.to("cpu"), out / "model")
    shutil.rmtree(out / "work", ignore_errors=True)
    write_step(
        out, model, windows.window_samples, step="student", valid_score=score, metric="accuracy",
        curve=curve, kind=settings.kind, front_end=settings.front_end, distil=settings.distil,
        inherited=inherited, seed=shared["seed"],
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
    try:
        model = StudentForAudioClassification(config)
    except ValueError as error:
        raise EdgepruneError(
            f"There is no such student: {error}.", "Change the recipe's [student]."
        ) from error
    model.config.edgeprune_normalize = False
    return model.eval()


def matched_layers(own: int, theirs: int, intermediate: bool) -> list[tuple[int, int]]:
    """Return which states learn from which: the last from the last, or each from its share.

    Parameters
    ----------
    own, theirs : int
        Blocks of the student and of the teacher; state 0 is what comes before block 1.
    intermediate : bool
        Every block of the student learns from the teacher's block as far up as it is.

    """
    if not intermediate or own < 2:
        return [(own, theirs)]
    return [(i, max(1, round(i * theirs / own))) for i in range(1, own + 1)]


def matching(model: Any, teacher: Any, intermediate: bool) -> nn.ModuleDict:
    """Return a linear layer from each matched state's width to the teacher's, by the state's place."""
    pairs = matched_layers(len(layers_of(model)), len(layers_of(teacher)), intermediate)
    width = model.config.hidden_size
    return nn.ModuleDict(
        {str(own): nn.Linear(width, teacher.config.hidden_size) for own, _ in pairs}
    )


@dataclass
class Lesson:
    """What a student is taught."""

    teacher: Any
    labels: Sequence[str]
    """Of the data: the teacher's other labels are left out."""
    settings: Student
    common: Distill
    """Temperature, weight of the states, share of labels."""
    quiet: float
    """Share of the windows that hold nothing, in which no label may stand out."""

    def __post_init__(self) -> None:
        """Find the labels among the teacher's."""
        if not self.settings.distil:
            return
        known = models.labels_of(self.teacher)
        if lacking := [label for label in self.labels if label not in known]:
            raise EdgepruneError(
                f"The teacher does not know the label {lacking[0]!r}, so it cannot teach it.",
                "Teach it first (teach.when), or use student.distil = false.",
            )
        self.columns = torch.tensor([known.index(label) for label in self.labels])

    def loss(self, student: Any, samples: Tensor, targets: Tensor, epoch: int) -> Tensor:
        """Return the loss of a batch: see ``train.Loss``."""
        if not self.settings.distil:
            return losses.label_loss(models.logits_of(student, samples), targets, 0.1)
        generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
        labelled = epoch >= self.settings.epochs
        heard = samples if labelled else mix(samples, self.settings.mix, generator)
        empty = torch.rand(len(samples), generator=generator) < self.quiet
        empty[:1] = False  # something is left to learn from
        full = ~empty
        with torch.no_grad():
            answers, theirs = models.logits_and_states(self.teacher, heard)
        wanted = answers[:, self.columns.to(answers.device)].clone()
        wanted[empty] = 0.0  # every label as likely as any other
        if empty.any():
            heard = heard.clone()
            heard[empty] = nothing(heard[empty], generator)
        logits, own = models.logits_and_states(student, heard)
        soft = losses.logit_loss(logits, wanted, self.common.temperature)
        if labelled:
            known = losses.label_loss(logits[full], targets[full], 0.0)
            return self.common.label_share * known + (1 - self.common.label_share) * soft
        return soft + self._states(student, own, theirs, full)

    def _states(
        self, student: Any, own: Sequence[Tensor], theirs: Sequence[Tensor], full: Tensor
    ) -> Tensor:
        """Return the weighted loss of the matched states, and of the clips' relations."""
        total = own[-1].new_zeros(())
        for place, layer in getattr(student, MATCHING, {}).items():
            target = theirs[len(theirs) - 1]
            for mine, other in matched_layers(
                len(own) - 1, len(theirs) - 1, self.settings.intermediate
            ):
                target = theirs[other] if mine == int(place) else target
            state = layer(own[int(place)][full])
            target = losses.to_frames(target[full], state.shape[1])
            share = self.common.hidden_weight / len(getattr(student, MATCHING))
            total = total + share * losses.hidden_loss(state, target)
        if self.settings.relation_weight:
            related = losses.relation_loss(own[-1][full].mean(dim=1), theirs[-1][full].mean(dim=1))
            total = total + self.settings.relation_weight * related
        return total


def mix(samples: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Add to some windows (batch, n) another one of the batch, each with its weight.

    Parameters
    ----------
    share : float
        Of the windows; the weights are drawn evenly and sum to 1.
    generator : torch.Generator
        On the CPU; decides everything.

    """
    count = len(samples)
    order = torch.randperm(count, generator=generator)
    weight = torch.rand(count, 1, generator=generator)
    chosen = torch.rand(count, 1, generator=generator) < share
    weight = torch.where(chosen, weight, torch.ones_like(weight)).to(samples.device)
    return weight * samples + (1 - weight) * samples[order.to(samples.device)]
