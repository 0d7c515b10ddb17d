"""Some modules of a model are trained; every other number stays as it was, to the bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from steps_fixture import CONTEXT
from tiny_recordings import TONES
from tiny_windows import tone_windows

from edgeprune.core.console import Silent
from edgeprune.core.settings import Distill
from edgeprune.data.tasks import task_of
from edgeprune.data.windows import Windows
from edgeprune.models import loading
from edgeprune.models.families import layers_of
from edgeprune.training import loop
from edgeprune.training.distill import WEIGHT_DECAY, Teacher, distillation_loss
from edgeprune.training.train_modules import distillation_loss_of_step, step_plan, train_parts

LABELS = tuple(sorted(TONES))
CPU = torch.device("cpu")


def windows() -> Windows:
    """Return tones of which the last of every label is for validation."""
    made = tone_windows(4)
    rows = tuple({**row, "split": "valid" if i % 4 == 3 else "train"}
                 for i, row in enumerate(made.rows))  # fmt: skip
    return replace(made, rows=rows)


@pytest.fixture
def model(backbone: Path) -> Any:
    torch.manual_seed(0)
    return loading.load_model(str(backbone), LABELS)


@pytest.mark.parametrize("head", [False, True])
def test_the_modules_that_are_named_learn_and_nothing_else_moves(
    head: bool, model: Any, tmp_path: Path
) -> None:
    before = {name: p.clone() for name, p in model.named_parameters()}
    part = layers_of(model)[1]
    data = windows()
    plan = step_plan(2, 1e-2, CONTEXT)
    curve = train_parts(
        model, data, loop.labels_loss(data), plan,
        loop.TrainingSession(tmp_path / "work", CPU, Silent(), "part"), trained=[part], head=head,
    )  # fmt: skip
    assert [step["epoch"] for step in curve] == [1, 2]
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    inside = {name for name in changed if name.startswith("wav2vec2.encoder.layers.1.")}
    assert inside
    rest = {name.split(".")[0] for name in changed - inside}
    assert rest == ({"projector", "classifier"} if head else set())


def test_a_plan_takes_batches_views_and_sound_from_the_recipe_and_never_stops_early() -> None:
    context = replace(CONTEXT, seed=5, distill=Distill(batch_size=7, views=3))
    plan = step_plan(9, 1e-4, context, turn=2, last=True)
    assert (plan.epochs, plan.patience, plan.batch_size, plan.views) == (9, 9, 7, 3)
    assert (plan.learning_rate, plan.weight_decay) == (1e-4, WEIGHT_DECAY)
    assert plan.seed == 7, "a step's second training sees the clips in another order"
    assert plan.keep_last is True
    assert step_plan(1, 1.0, context).keep_last is False
    assert plan.augment == context.augment


def test_the_loss_is_the_distillations_with_the_recipes_weights(model: Any, backbone: Path) -> None:
    torch.manual_seed(1)
    master = loading.load_model(str(backbone), LABELS)
    context = replace(
        CONTEXT, ignore=LABELS[:1], distill=Distill(temperature=4.0, nothing_share=0.5)
    )
    data = windows()
    samples, targets = torch.from_numpy(data.samples[:6]), torch.arange(6) % 3
    expected = distillation_loss(
        task_of("classes"), Teacher(master, CPU), LABELS, context.distill, 2, 0.0
    )
    found = distillation_loss_of_step(model.eval(), master, data, context, CPU, epochs=2)
    with torch.no_grad():
        for epoch in (1, 2):
            torch.testing.assert_close(
                found(model, samples, targets, epoch), expected(model, samples, targets, epoch)
            )
