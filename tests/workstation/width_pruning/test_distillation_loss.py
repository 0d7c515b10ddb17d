"""What a trimmed model is trained on: each part of the loss alone, against its own formula."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from shaken_models import shaken
from tiny_models import make_model
from tiny_recordings import RATE, TONES
from torch import Tensor
from torch.nn import functional

from edgeprune.core.settings import Distill
from edgeprune.data.tasks import TASKS
from edgeprune.models import loading
from edgeprune.nn import losses
from edgeprune.training.distill import Teacher
from edgeprune.width_pruning.distillation_loss import masked_distillation_loss

LABELS = tuple(TONES)
TARGETS = torch.tensor([0, 1, 2, 0])


class Deaf(Teacher):
    """A teacher that must not be asked."""

    def __init__(self) -> None:
        self.labels = LABELS

    def __call__(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        raise AssertionError("the teacher was asked")


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Any, Teacher, Tensor]:
    student = shaken(make_model(tmp_path / "student", "hubert", LABELS))
    other = loading.load_model(str(tmp_path / "student"))
    samples = torch.randn(4, RATE // 4, generator=torch.Generator().manual_seed(0)) * 0.1
    return student, Teacher(other, torch.device("cpu")), samples


def test_labels_alone_ask_no_teacher(pair: tuple[Any, Teacher, Tensor]) -> None:
    """The paper's masks (Seed 4) learn from the task's loss."""
    student, _, samples = pair
    paper = Distill(label_share=1.0, hidden_weight=0.0, nothing_share=0.5)
    loss = masked_distillation_loss(TASKS["classes"], Deaf(), LABELS, paper, lambda: None, 0.5)
    with torch.no_grad():
        expected = functional.cross_entropy(loading.logits_of(student, samples), TARGETS)
        assert float(loss(student, samples, TARGETS, 0)) == pytest.approx(float(expected))


@pytest.mark.parametrize(
    ("share", "weight"), [(0.0, 0.0), (0.3, 0.0), (1.0, 2.0), (0.3, 2.0)]
)  # fmt: skip
def test_the_parts_are_weighed_as_the_settings_say(
    pair: tuple[Any, Teacher, Tensor], share: float, weight: float
) -> None:
    student, teacher, samples = pair
    settings = Distill(label_share=share, hidden_weight=weight, temperature=2.0)
    loss = masked_distillation_loss(TASKS["classes"], teacher, LABELS, settings, lambda: None)
    with torch.no_grad():
        logits, own = loading.logits_and_states(student, samples)
        answered, last = teacher(samples)
        expected = (
            share * functional.cross_entropy(logits, TARGETS)
            + (1 - share) * losses.logit_loss(logits, answered, 2.0)
            + weight * losses.hidden_loss(own[-1], last)
        )
        found = loss(student, samples, TARGETS, 0)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_windows_that_hold_nothing_teach_silence_and_no_label(
    pair: tuple[Any, Teacher, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All windows but the first hold nothing: the student hears zeros there, by this stand-in."""
    student, teacher, samples = pair
    monkeypatch.setattr(
        "edgeprune.training.distill.background_windows", lambda given, _: torch.zeros_like(given)
    )
    settings = Distill(label_share=0.5, hidden_weight=1.0, temperature=1.0)
    loss = masked_distillation_loss(TASKS["classes"], teacher, LABELS, settings, lambda: None, 1.0)
    with torch.no_grad():
        heard = samples.clone()
        heard[1:] = 0.0
        logits, own = loading.logits_and_states(student, heard)
        answered, last = teacher(samples)
        wanted = answered.clone()
        wanted[1:] = 0.0  # every label alike
        expected = (
            0.5 * functional.cross_entropy(logits[:1], TARGETS[:1])
            + 0.5 * losses.logit_loss(logits, wanted, 1.0)
            + losses.hidden_loss(own[-1][:1], last[:1])
        )
        found = loss(student, samples, TARGETS, 0)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
