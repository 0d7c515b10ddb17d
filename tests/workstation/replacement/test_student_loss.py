"""What a student is trained against: answers for its labels, matched states, mixed windows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from slow_cases import families
from small_students import SMALL, one_window
from tiny_models import FAMILY_NAMES, make_model
from tiny_recordings import RATE, TONES

from edgeprune.core.settings import Distill
from edgeprune.data.tasks import task_of
from edgeprune.data.windows import load_windows
from edgeprune.models import loading
from edgeprune.nn import losses
from edgeprune.replacement.student import build
from edgeprune.replacement.student_loss import (
    MATCHING,
    StudentLoss,
    matched_layers,
    matching,
    mixup,
)


def test_a_student_learns_a_teachers_answers(inputs: tuple[Path, Path]) -> None:
    """Without a label: its answers come near those of the teacher on what both hear."""
    windows = load_windows(inputs[1])
    teacher = loading.load_model(str(inputs[0] / "model")).requires_grad_(False)
    torch.manual_seed(0)
    for parameter in teacher.classifier.parameters():
        parameter.mul_(30.0)  # a teacher with opinions
    student = build(SMALL, windows, RATE).train()
    lesson = StudentLoss(
        teacher, windows.labels, SMALL, Distill(hidden_weight=0.0), 0.0, task_of("classes")
    )
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-2)
    samples = torch.from_numpy(np.array(windows.samples[:24]))
    found = []
    for _ in range(40):
        value = lesson.loss(student, samples, torch.zeros(24, dtype=torch.long), 0)
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        found.append(float(value.detach()))
    assert np.mean(found[-5:]) < 0.5 * found[0]


@pytest.mark.parametrize("family", families(FAMILY_NAMES))
def test_every_family_can_be_the_teacher(family: str, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m", family, tuple(sorted(TONES)))
    teacher = loading.load_model(str(folder), window_samples=RATE)
    settings = replace(SMALL, intermediate=True, relation_weight=1.0)
    windows = one_window(tuple(sorted(TONES)))
    student = build(settings, windows, RATE).train()
    sound = torch.randn(4, RATE, generator=torch.Generator().manual_seed(0)) * 0.1
    student.add_module(MATCHING, matching(student, teacher, sound, True))
    lesson = StudentLoss(teacher, windows.labels, settings, Distill(), 0.5, task_of("classes"))
    lesson.loss(student, sound, torch.tensor([0, 1, 2, 0]), 0).backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for name, p in student.named_parameters() if "head" not in name]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)
    assert not any(p.grad is not None for p in teacher.parameters())


def test_only_the_answers_for_the_datas_labels_count(inputs: tuple[Path, Path]) -> None:
    windows = load_windows(inputs[1])
    teacher = loading.load_model(str(inputs[0] / "model"))
    lesson = StudentLoss(teacher, windows.labels, SMALL, Distill(), 0.0, task_of("classes"))
    known = loading.labels_of(teacher)
    assert [known[i] for i in lesson.columns.tolist()] == list(windows.labels)


def test_states_are_matched_from_the_top_or_level_by_level() -> None:
    assert matched_layers(3, 12, False) == [(3, 12)]
    assert matched_layers(3, 12, True) == [(1, 4), (2, 8), (3, 12)]
    assert matched_layers(0, 12, True) == [(0, 12)]


def test_mixed_windows_keep_their_sum_of_weights() -> None:
    samples = torch.eye(8)
    mixed = mixup(samples, 1.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(mixed.sum(dim=1), torch.ones(8))
    assert ((mixed > 0) & (mixed < 1)).any()
    assert torch.equal(mixup(samples, 0.0, torch.Generator()), samples)


def lesson_of(inputs: tuple[Path, Path], **changes: Any) -> tuple[StudentLoss, Any, torch.Tensor]:
    """Return the loss against a teacher, a student, and four windows."""
    windows = load_windows(inputs[1])
    teacher = loading.load_model(str(inputs[0] / "model")).requires_grad_(False)
    settings = replace(SMALL, mix=0.0, **changes)
    torch.manual_seed(0)
    student = build(settings, windows, RATE)
    samples = torch.from_numpy(np.array(windows.samples[:4]))
    student.add_module(MATCHING, matching(student, teacher, samples, settings.intermediate))
    with torch.no_grad():
        for parameter in student.head.parameters():
            parameter.normal_()  # a student with opinions
    lesson = StudentLoss(teacher, windows.labels, settings, Distill(), 0.0, task_of("classes"))
    return lesson, student.eval(), samples


@pytest.mark.parametrize("pairs", [[(2, 3)], [(1, 2), (2, 3)]], ids=["top", "levels"])
def test_answers_and_states_are_weighed_as_the_settings_say(
    pairs: list[tuple[int, int]], inputs: tuple[Path, Path]
) -> None:
    lesson, student, samples = lesson_of(inputs, relation_weight=0.7, intermediate=len(pairs) > 1)
    targets = torch.tensor([0, 1, 2, 0])
    with torch.no_grad():
        logits, own = loading.logits_and_states(student, samples)
        theirs, states = loading.logits_and_states(lesson.teacher, samples)
        soft = losses.logit_loss(logits, theirs[:, lesson.columns], Distill().temperature)
        hidden = torch.zeros(())
        for own_layer, other in pairs:
            mine = student.get_submodule(f"{MATCHING}.{own_layer}")(own[own_layer])
            target = losses.to_frames(states[other], mine.shape[1])
            hidden = hidden + losses.hidden_loss(mine, target) / len(pairs)
        related = losses.relation_loss(own[-1].mean(dim=1), states[-1].mean(dim=1))
        expected = soft + Distill().hidden_weight * hidden + 0.7 * related
        torch.testing.assert_close(lesson.loss(student, samples, targets, 0), expected)
        known = losses.label_loss(logits, targets)
        share = Distill().label_share
        torch.testing.assert_close(
            lesson.loss(student, samples, targets, SMALL.epochs), share * known + (1 - share) * soft
        )


def test_without_a_teacher_labels_alone_count_smoothed(inputs: tuple[Path, Path]) -> None:
    lesson, student, samples = lesson_of(inputs, distil=False)
    targets = torch.tensor([0, 1, 2, 0])
    with torch.no_grad():
        expected = losses.label_loss(loading.logits_of(student, samples), targets, 0.1)
        torch.testing.assert_close(lesson.loss(student, samples, targets, 0), expected)


def test_every_matched_state_has_a_layer_to_the_teachers_width(inputs: tuple[Path, Path]) -> None:
    lesson, student, samples = lesson_of(inputs, intermediate=True)
    layers: Any = matching(student, lesson.teacher, samples, True)
    assert {name: (layer.in_features, layer.out_features) for name, layer in layers.items()} == {
        "1": (16, 16), "2": (16, 16),
    }  # fmt: skip
    assert list(matching(student, lesson.teacher, samples, False)) == ["2"]
