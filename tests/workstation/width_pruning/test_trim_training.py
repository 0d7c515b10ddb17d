"""What a trim trains: gates that rank units, and what is left against the teacher."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import make_model
from tiny_recordings import TONES
from tiny_windows import tone_windows

from edgeprune.core.console import Silent
from edgeprune.core.settings import Distill, Trim
from edgeprune.models import loading
from edgeprune.nn import losses
from edgeprune.training import loop
from edgeprune.training.distill import WEIGHT_DECAY, Teacher
from edgeprune.training.step_records import StepContext
from edgeprune.width_pruning import cost_model, trim_training
from edgeprune.width_pruning.distillation_loss import MATCH
from edgeprune.width_pruning.gate_training import GATES, MULTIPLIERS
from edgeprune.width_pruning.removal import trim_to
from edgeprune.width_pruning.trim_training import TAYLOR_BATCHES, TrimContext, rank, recover
from edgeprune.width_pruning.units import groups_of

CPU = torch.device("cpu")
LABELS = tuple(sorted(TONES))
WHAT = ("feed-forward",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "m", "wav2vec2", LABELS, layers=2)


def context_of(folder: Path, **changes: Any) -> TrimContext:
    data = tone_windows(4)
    rows = tuple({**row, "split": "valid" if i % 4 == 3 else "train"}
                 for i, row in enumerate(data.rows))  # fmt: skip
    distill = Distill(batch_size=5, learning_rate=1e-3, **changes.pop("distill", {}))
    settings = replace(Trim(what=WHAT, epochs=1, recovery_epochs=1, gate_rate=0.1), **changes)
    teacher = Teacher(loading.load_model(str(folder)), CPU)
    return TrimContext(teacher, replace(data, rows=rows), LABELS, StepContext(distill, 3, "cpu"),
                       settings, CPU, Silent())  # fmt: skip


def ranked(folder: Path, context: TrimContext, work: Path) -> tuple[Any, Any, Any]:
    """Return the model, the learning curve and every unit's score."""
    model = loading.load_model(str(folder))
    groups = groups_of(model, WHAT)
    terms = cost_model.mac_terms(model, groups, 4000)
    goal = 0.7 * float(cost_model.total(cost_model.collect_terms(terms), {}))
    curve, scores = rank(model, groups, terms, goal, context, work)
    assert {name: len(all_) for name, all_ in scores.items()} == {
        group.name: group.units for group in groups
    }
    return model, curve, scores


@pytest.mark.parametrize("method", ["magnitude", "taylor", "random"])
def test_a_criterion_trains_nothing(method: str, folder: Path, tmp_path: Path) -> None:
    before = loading.load_model(str(folder)).state_dict()
    model, curve, _ = ranked(folder, context_of(folder, method=method), tmp_path)
    assert curve == []
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not list(tmp_path.iterdir())


def test_learned_masks_leave_a_curve_and_no_part_of_their_own(folder: Path, tmp_path: Path) -> None:
    model, curve, scores = ranked(folder, context_of(folder), tmp_path)
    assert [step["epoch"] for step in curve] == [1]
    parts = {name.split(".")[0] for name, _ in model.named_modules()}
    assert not {GATES, MULTIPLIERS, MATCH} & parts
    assert all(p.requires_grad for p in model.parameters())
    assert all(len(set(all_.tolist())) > 1 for all_ in scores.values()), "units are told apart"


def test_with_a_frozen_encoder_only_the_head_learns_beside_the_gates(
    folder: Path, tmp_path: Path
) -> None:
    before = loading.load_model(str(folder)).state_dict()
    model, _, _ = ranked(folder, context_of(folder, encoder="frozen"), tmp_path)
    changed = {name.split(".")[0] for name, value in model.state_dict().items()
               if not torch.equal(value, before[name])}  # fmt: skip
    assert changed == {"projector", "classifier"}
    assert all(p.requires_grad for p in model.parameters()), "and is free to learn afterwards"


def test_what_is_left_learns_from_the_teacher_states_narrower_than_its_own_too(
    folder: Path, tmp_path: Path
) -> None:
    model = loading.load_model(str(folder))
    (group,) = groups_of(model, ("hidden",))
    trim_to(model, {group.name: range(group.units // 2)})
    before = {name: p.clone() for name, p in model.named_parameters()}
    curve = recover(model, context_of(folder, what=("hidden",)), tmp_path)
    assert [step["epoch"] for step in curve] == [1]
    assert not hasattr(model, MATCH), "the layer to the teacher's width is gone"
    assert set(dict(model.named_parameters())) == set(before)
    assert any(not torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_the_loss_against_the_teacher_has_the_recipes_weights(folder: Path) -> None:
    context = context_of(folder, distill={"label_share": 0.25, "hidden_weight": 0.0,
                                          "temperature": 3.0, "nothing_share": 0.0})  # fmt: skip
    student = loading.load_model(str(folder))
    with torch.no_grad():
        student.classifier.weight.mul_(1.5)
        samples = torch.from_numpy(context.windows.samples[:4])
        targets = torch.tensor([0, 1, 2, 0])
        logits = loading.logits_of(student, samples)
        wanted = context.teacher(samples)[0]
        expected = 0.25 * losses.label_loss(logits, targets) + 0.75 * losses.logit_loss(
            logits, wanted, 3.0
        )
        torch.testing.assert_close(
            context.distillation_loss(lambda: None)(student, samples, targets, 0), expected
        )
        torch.testing.assert_close(
            context.label_loss(student, samples, targets, 0), losses.label_loss(logits, targets)
        )
        with context.matched(student, always=True):
            assert not hasattr(student, MATCH), "states are not compared, so nothing maps them"


def test_plans_take_their_pace_from_the_recipe(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[loop.TrainingPlan] = []

    def fit(*given: Any) -> list[dict[str, float]]:
        plans.append(given[5])
        return []

    monkeypatch.setattr(loop, "fit", fit)
    context = context_of(folder, epochs=4, recovery_epochs=7, gate_rate=0.5)
    ranked(folder, context, tmp_path)
    recover(loading.load_model(str(folder)), context, tmp_path)
    gates, recovery = plans
    assert (gates.epochs, gates.patience, gates.keep_last, gates.seed) == (4, 4, True, 3)
    assert gates.rate_factors[GATES] * gates.learning_rate == pytest.approx(0.5)
    assert (recovery.epochs, recovery.keep_last, recovery.rate_factors) == (7, False, {})
    assert {plan.learning_rate for plan in plans} == {1e-3}
    assert {plan.weight_decay for plan in plans} == {WEIGHT_DECAY}
    slow = replace(context, step=replace(context.step, distill=Distill(batch_size=5)))
    recover(loading.load_model(str(folder)), slow, tmp_path)
    usual = loop.default_learning_rate(0)
    assert plans[-1].learning_rate == pytest.approx(usual * loop.RECOVERY_SPEED)


def test_the_slope_is_taken_on_some_batches_of_training_clips(folder: Path) -> None:
    context = context_of(folder)
    found = list(trim_training._some_batches(context, seed=0))
    train = context.windows.split("train")
    assert [len(samples) for samples, _ in found] == [5, 4]  # of nine windows
    assert len(found) <= TAYLOR_BATCHES
    rows = torch.cat([samples for samples, _ in found]).numpy()
    assert {row.tobytes() for row in rows} == {row.tobytes() for row in train.samples}
    for samples, targets in found:
        for sample, target in zip(samples, targets, strict=True):
            (place,) = (train.samples == sample.numpy()).all(axis=1).nonzero()[0]
            assert train.column("label")[place] == LABELS[int(target)]
