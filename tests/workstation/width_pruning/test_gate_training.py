"""Gates on a model: what they mask, and how they are kept from closing too much."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from shaken_models import shaken
from tiny_models import make_model
from tiny_recordings import RATE, TONES

from edgeprune.models import loading
from edgeprune.width_pruning import cost_model
from edgeprune.width_pruning.gate_training import (
    GATES,
    MULTIPLIERS,
    Gates,
    attach_gates,
    gated_loss,
    ranks_of,
)
from edgeprune.width_pruning.unit_table import KINDS
from edgeprune.width_pruning.units import Group, groups_of


@pytest.fixture
def model_and_table(tmp_path: Path) -> tuple[Any, tuple[Group, ...], cost_model.CostTerms]:
    model = shaken(make_model(tmp_path / "m", "hubert", tuple(TONES)))
    groups = groups_of(model, KINDS)
    return model, groups, cost_model.collect_terms(cost_model.mac_terms(model, groups, RATE))


@pytest.mark.parametrize("kind", ["straight-through", "hard-concrete"])
def test_the_threshold_leaves_what_should_be_left_by_now(
    model_and_table: tuple[Any, tuple[Group, ...], cost_model.CostTerms], kind: str
) -> None:
    _, groups, table = model_and_table
    made = Gates(groups, kind, 10, table, 0.6, budget=True)
    generator = torch.Generator().manual_seed(0)
    for value in made.values:  # all closed, by a little or by much
        value.data = -torch.rand(value.shape, generator=generator)
    for done, target in ((0, 1.0), (2, 0.84), (5, 0.6), (9, 0.6)):
        made.done.fill_(done)
        made.draw()
        left = float(cost_model.total(table, made.cost_masks()).detach()) / made.full
        assert target - 1e-4 <= left <= target + 0.1  # units of the hidden size are coarse
        assert (
            all(float(mask.detach().max()) > 0 for mask in made.drawn.values())
            or kind != "straight-through"
        )


def test_a_threshold_is_the_highest_that_leaves_enough(
    model_and_table: tuple[Any, tuple[Group, ...], cost_model.CostTerms],
) -> None:
    """An oracle of its own: try every gate as the threshold, one after another."""
    _, groups, table = model_and_table
    made = Gates(groups, "straight-through", 10, table, 0.55, budget=True)
    generator = torch.Generator().manual_seed(2)
    for value in made.values:
        value.data = torch.randn(value.shape, generator=generator).round(decimals=1)  # many alike
    made.done.fill_(9)
    made.draw()
    enough = []
    for threshold in sorted({float(x) for value in made.values for x in value.detach()}):
        masks = {
            name: torch.maximum(value > threshold, value == value.max()).float().detach()
            for name, value in zip(made.names, made.values, strict=True)
        }
        if float(cost_model.total(table, masks)) >= 0.55 * made.full:
            enough.append(threshold)
    assert made.threshold == max(enough)


@pytest.mark.parametrize("kind", ["straight-through", "hard-concrete"])
def test_a_threshold_is_placed_once_a_step_and_used_again_in_evaluation(
    model_and_table: tuple[Any, tuple[Group, ...], cost_model.CostTerms],
    kind: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    model, groups, table = model_and_table
    samples, placed = torch.randn(2, RATE // 4) * 0.1, list[float]()
    place = Gates._placed

    def placing(made: Gates) -> float:
        placed.append(place(made))
        return placed[-1]

    monkeypatch.setattr(Gates, "_placed", placing)
    made = Gates(groups, kind, 10, table, 0.5, budget=True)
    optimizer = torch.optim.AdamW(made.parameters(), lr=0.1)

    def task(given: Any, heard: torch.Tensor, _: torch.Tensor, __: int) -> torch.Tensor:
        return loading.logits_of(given, heard).square().mean()

    with attach_gates(model, groups, made):
        loss = gated_loss(task, 0.5, "budget")
        for step in range(1, 4):
            model.train()
            optimizer.zero_grad()
            loss(model, samples, samples, 0).backward()  # type: ignore[no-untyped-call]
            assert len(placed) == step
            optimizer.step()
            model.eval()
            with torch.inference_mode():
                for _ in range(3):
                    loading.logits_of(model, samples)
            assert len(placed) == step + 1


def test_gates_that_are_open_mask_nothing_and_leave_no_trace(
    model_and_table: tuple[Any, tuple[Group, ...], cost_model.CostTerms],
) -> None:
    model, groups, table = model_and_table
    samples = torch.randn(2, RATE // 4) * 0.1
    with torch.no_grad():
        expected = loading.logits_of(model, samples)
    names = set(model.state_dict())
    made = Gates(groups, "straight-through", 10, table, 0.5, budget=False)
    with attach_gates(model, groups, made), torch.no_grad():
        torch.testing.assert_close(loading.logits_of(model, samples), expected)
        assert hasattr(model, GATES)
        assert hasattr(model, MULTIPLIERS)
    assert set(model.state_dict()) == names


@pytest.mark.parametrize("mask_loss", ["budget", "lagrangian"])
def test_gates_learn_which_units_the_task_needs(
    model_and_table: tuple[Any, tuple[Group, ...], cost_model.CostTerms], mask_loss: str
) -> None:
    """Columns that nothing reads are worth nothing: their gates must end under the others'."""
    model, groups, table = model_and_table
    column = next(g for g in groups if g.kind == "feed-forward")
    reader = model.get_submodule(column.slices[1].path)
    with torch.no_grad():
        reader.weight[:, ::2] = 0.0
        reader.weight[:, 1::2] *= 3.0
    samples, share_left = torch.randn(8, RATE // 4) * 0.1, 0.99
    with torch.no_grad():
        wanted = loading.logits_of(model, samples)
    for parameter in model.parameters():
        parameter.requires_grad_(False)

    def task(given: Any, heard: torch.Tensor, _: torch.Tensor, __: int) -> torch.Tensor:
        return 100 * (loading.logits_of(given, heard) - wanted).square().mean()

    ranks = {column.name: torch.rand(column.units, generator=torch.Generator().manual_seed(1))}
    made = Gates((column,), "straight-through", 80, table, share_left, mask_loss == "budget", ranks)
    with attach_gates(model, (column,), made):
        loss = gated_loss(task, share_left, mask_loss)
        model.train()
        optimizer = torch.optim.Adam([
            {"params": list(made.parameters()), "lr": 0.05},
            {"params": [getattr(model, MULTIPLIERS).values], "lr": 0.1},
        ])  # fmt: skip
        for _ in range(80):
            optimizer.zero_grad()
            loss(model, samples, samples, 0).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        score = made.scores()[column.name]
    assert float(score[::2].mean()) < float(score[1::2].mean()) - 0.1


def test_units_are_ranked_by_their_worth_for_their_price() -> None:
    """Two groups of one importance: the one whose units cost more goes first."""
    cheap, dear = (Group(n, "heads", 3, ()) for n in ("cheap", "dear"))
    evenly = torch.full((3,), 1 / 3).double()
    terms = [cost_model.Term(10.0, "a", (cost_model.Factor("cheap", evenly),)),
             cost_model.Term(90.0, "b", (cost_model.Factor("dear", evenly),))]  # fmt: skip
    table = cost_model.collect_terms(terms)
    scores = {"cheap": torch.tensor([1.0, 2.0, 3.0]), "dear": torch.tensor([1.5, 2.5, 40.0])}
    ranks = ranks_of(scores, (cheap, dear), table)
    assert ranks["cheap"].tolist() == pytest.approx([0.4, 0.6, 0.8])
    assert ranks["dear"].tolist() == pytest.approx([0.0, 0.2, 1.0])
