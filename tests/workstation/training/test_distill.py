"""Distillation: what a teacher is asked, what the loss weighs, and windows that hold nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from said import Lines
from steps_fixture import CONTEXT, make_inputs
from tiny_recordings import TONES
from tiny_windows import tone_windows

from edgeprune.core.settings import Distill
from edgeprune.data.tasks import TASKS, task_of
from edgeprune.models import loading
from edgeprune.models.families import keep_layers
from edgeprune.nn import losses
from edgeprune.training import distill as module
from edgeprune.training.distill import (
    Teacher,
    background_share_of,
    columns_of,
    distill,
    distillation_loss,
    same_front_end,
    teacher_targets,
    with_background,
)
from edgeprune.training.step_records import write_step
from edgeprune.training.teach import freeze

CPU = torch.device("cpu")
LABELS = tuple(sorted(TONES))
CLASSES = task_of("classes")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def samples() -> torch.Tensor:
    return torch.from_numpy(tone_windows(2).samples)


def model_of(folder: Path, labels: tuple[str, ...] = LABELS) -> Any:
    torch.manual_seed(0)
    return loading.load_model(str(folder), labels)


def test_a_front_end_that_is_no_longer_the_teachers_is_trained_with_the_rest(
    backbone: Path,
) -> None:
    student, teacher = (model_of(backbone) for _ in range(2))
    assert same_front_end(student, teacher)
    first = student.wav2vec2.feature_extractor.conv_layers[0].conv.weight
    with torch.no_grad():
        first.mul_(0.5)
    assert not same_front_end(student, teacher)
    freeze(student, "whole")
    assert not first.requires_grad
    student.requires_grad_(True)
    freeze(student, "all")
    assert first.requires_grad


def test_a_teacher_is_frozen_and_asked_once_for_every_view(
    backbone: Path, samples: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = Teacher(model_of(backbone).train(), CPU, views=2)
    assert not teacher.model.training
    assert not any(p.requires_grad for p in teacher.model.parameters())
    first = teacher(samples)
    monkeypatch.setattr(loading, "logits_and_states", None)
    again = teacher(samples.clone())
    for known, told in zip(first, again, strict=True):
        torch.testing.assert_close(told, known, atol=2e-3, rtol=2e-3)  # kept in half precision
        assert told.dtype == torch.float32
    with pytest.raises(TypeError):
        teacher(samples + 1e-6)  # another view is another question


def test_without_views_nothing_is_kept(backbone: Path, samples: torch.Tensor) -> None:
    teacher = Teacher(model_of(backbone), CPU)
    logits, last = teacher(samples)
    torch.testing.assert_close(logits, teacher(samples)[0], rtol=0, atol=0)
    assert not logits.requires_grad
    assert last.shape[0] == len(samples)
    assert teacher._known == {}


def test_the_teachers_outputs_are_found_by_label_and_a_blank_is_always_first() -> None:
    assert columns_of(("x", "b", "a"), ("a", "b"), CLASSES) == [2, 1]
    assert columns_of(("[PAD]", "b", "a"), ("<pad>", "a", "b"), TASKS["ctc"]) == [0, 2, 1]
    with pytest.raises(ValueError, match="not in"):
        columns_of(("x", "b"), ("a", "b"), CLASSES)


def test_data_with_a_label_that_means_nothing_needs_no_other_silence() -> None:
    context = replace(CONTEXT, distill=Distill(nothing_share=0.25), ignore=("noise", "low"))
    windows = tone_windows(1)
    assert background_share_of(windows, context) == 0.0  # "low" means nothing here
    assert background_share_of(windows, replace(context, ignore=("noise",))) == 0.25
    for task in ("tags", "ctc"):  # they have no answer to nothing
        assert background_share_of(replace(windows, task=task), replace(context, ignore=())) == 0.0


def test_a_share_of_the_windows_holds_nothing_and_the_first_never_does(
    samples: torch.Tensor,
) -> None:
    torch.manual_seed(0)
    many = samples.repeat(50, 1)
    heard, empty = with_background(many, 0.4)
    assert not empty[0]
    assert 0.3 < float(empty.float().mean()) < 0.5
    assert torch.equal(heard[~empty], many[~empty])
    assert not any(torch.equal(a, b) for a, b in zip(heard[empty], many[empty], strict=True))
    assert with_background(samples, 1.0)[1].tolist() == [False] + [True] * (len(samples) - 1)
    same, none = with_background(many, 0.0)
    assert same is many
    assert not none.any()


def test_where_nothing_is_no_label_stands_out_of_the_teachers_answer(
    backbone: Path, samples: torch.Tensor
) -> None:
    teacher = Teacher(model_of(backbone, ("other", *LABELS)), CPU)
    columns = torch.tensor(columns_of(teacher.labels, LABELS, CLASSES))
    torch.manual_seed(1)
    given = teacher_targets(teacher, samples, columns, CLASSES, 0.5)
    answered = teacher(samples)[0][:, 1:]
    assert 0 < int((~given.is_original).sum()) < len(samples)
    torch.testing.assert_close(given.logits[given.is_original], answered[given.is_original])
    assert not given.logits[~given.is_original].any()
    assert torch.equal(given.samples[given.is_original], samples[given.is_original])
    torch.testing.assert_close(given.states, teacher(samples)[1])  # of the windows as they were


@pytest.mark.parametrize("epoch", [0, 1])
def test_first_answers_and_states_count_then_answers_and_labels(
    epoch: int, backbone: Path, samples: torch.Tensor
) -> None:
    settings = Distill(temperature=3.0, hidden_weight=0.7, label_share=0.25)
    student, teacher = model_of(backbone), Teacher(model_of(backbone), CPU)
    with torch.no_grad():
        for parameter in (*student.parameters(), *teacher.model.classifier.parameters()):
            parameter.add_(0.1 * torch.randn_like(parameter))  # the two disagree
    targets = torch.arange(len(samples)) % 3
    loss = distillation_loss(CLASSES, teacher, LABELS, settings, 1, 0.0)
    with torch.no_grad():
        found = loss(student.eval(), samples, targets, epoch)
        logits, own = loading.logits_and_states(student, samples)
        wanted, last = teacher(samples)
        soft = losses.logit_loss(logits, wanted, 3.0)
        assert soft > 1e-3
        expected = (soft + 0.7 * losses.hidden_loss(own[-1], last) if epoch == 0
                    else 0.25 * losses.label_loss(logits, targets) + 0.75 * soft)  # fmt: skip
    torch.testing.assert_close(found, expected)


def test_states_of_another_shape_are_not_compared(backbone: Path, samples: torch.Tensor) -> None:
    teacher = Teacher(model_of(backbone), CPU)
    student = model_of(backbone).eval()
    settings = Distill(hidden_weight=5.0)

    class Coarse(Teacher):
        def __call__(self, given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            logits, last = super().__call__(given)
            return logits, last[:, ::2]

    coarse = Coarse(teacher.model, CPU)
    with torch.no_grad():
        found = distillation_loss(CLASSES, coarse, LABELS, settings, 1, 0.0)(
            student, samples, torch.zeros(len(samples), dtype=torch.long), 0
        )
        soft = losses.logit_loss(loading.logits_of(student, samples), coarse(samples)[0], 2.0)
    torch.testing.assert_close(found, soft)


def run(inputs: tuple[Path, Path], student: Path, out: Path, settings: Distill) -> tuple[Any, str]:
    out.mkdir()
    said = Lines()
    distill(inputs[0], student, inputs[1], CONTEXT, out=out, settings=settings, ui=said)
    return json.loads((out / "distill.json").read_text("utf-8")), said.text


def cut(inputs: tuple[Path, Path], folder: Path, *, unchanged: bool) -> Path:
    """Write a step's folder whose model has lost its last layer."""
    model = loading.load_model(str(inputs[0] / "model"))
    keep_layers(model, [0, 1])
    loading.save(model, folder / "model")
    write_step(folder, model, 4000, step="depth", valid_score=0.5, curve=[], unchanged=unchanged)
    return folder


@pytest.mark.parametrize(
    ("unchanged", "epochs", "said"),
    [
        (True, 3, "identical to the teacher, not trained"),
        (False, 0, "not trained (no epochs in the recipe)"),
    ],
)
def test_where_there_is_nothing_to_learn_the_model_is_copied(
    unchanged: bool, epochs: int, said: str, inputs: tuple[Path, Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "train_student", None)
    student = cut(inputs, tmp_path / "student", unchanged=unchanged)
    facts, text = run(inputs, student, tmp_path / "out", Distill(epochs=epochs, label_epochs=0))
    assert facts == {"skipped": True, "valid_score": 0.5, "curve": [], "metric": "accuracy"}
    assert said in text
    weights = "model/model.safetensors"
    assert (tmp_path / "out" / weights).read_bytes() == (student / weights).read_bytes()


def test_a_cut_student_is_trained_and_says_what_it_reached(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    student = cut(inputs, tmp_path / "student", unchanged=False)
    asked = Distill(epochs=1, label_epochs=1, batch_size=24, learning_rate=1e-3)
    facts, text = run(inputs, student, tmp_path / "out", asked)
    assert [step["epoch"] for step in facts["curve"]] == [1, 2]
    assert facts["valid_score"] == max(step["valid_score"] for step in facts["curve"])
    assert facts["skipped"] is False
    assert "student: accuracy" in text
    before, after = (loading.load_model(str(folder / "model")).state_dict()
                     for folder in (student, tmp_path / "out"))  # fmt: skip
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert not [name for name in changed if "feature_extractor" in name], "it is the teacher's own"
    assert not (tmp_path / "out" / "work").exists()
