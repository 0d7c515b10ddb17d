"""Gates and the losses that close them, against formulas written down by hand."""

from __future__ import annotations

import math

import pytest
import torch

from edgeprune.width_pruning import gates


def test_a_straight_through_gate_is_a_step_with_the_gradient_of_a_line() -> None:
    gate = torch.tensor([-1.0, 0.0, 0.3, 1.0], requires_grad=True)
    value = gates.straight_through(gate)
    assert value.tolist() == [0.0, 0.0, 1.0, 1.0]
    (value * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()  # type: ignore[no-untyped-call]
    assert gate.grad is not None
    assert gate.grad.tolist() == [1.0, 2.0, 3.0, 4.0]


def test_hard_concrete_gates_are_open_as_often_as_their_probability_says() -> None:
    torch.manual_seed(0)
    for odds in (-2.0, 0.0, 1.5):
        drawn = gates.hard_concrete(torch.full((200_000,), odds), training=True)
        assert float(drawn.min()) == 0.0
        assert float(drawn.max()) == 1.0
        expected = float(gates.chance_open(torch.tensor(odds)))
        assert float((drawn > 0).double().mean()) == pytest.approx(expected, abs=0.005)


def test_a_hard_concrete_gate_that_is_not_drawn_is_the_stretched_sigmoid() -> None:
    value = gates.hard_concrete(torch.tensor([0.7, -9.0, 9.0]), training=False)
    middle = 1 / (1 + math.exp(-0.7)) * 1.2 - 0.1
    assert value.tolist() == pytest.approx([middle, 0.0, 1.0])


def test_the_target_falls_in_a_straight_line_and_stays() -> None:
    assert [gates.warmed_target(step, 10, 0.4) for step in (0, 5, 10, 25)] == pytest.approx(
        [1.0, 0.7, 0.4, 0.4]
    )


def test_one_optimizer_lowers_the_penalty_by_the_gates_and_raises_it_by_the_multipliers() -> None:
    share = torch.tensor(0.9, requires_grad=True)
    multipliers = torch.tensor([2.0, 3.0], requires_grad=True)
    value = gates.lagrangian(share, 0.5, multipliers)
    assert float(value.detach()) == pytest.approx(2 * 0.4 + 3 * 0.16)
    value.backward()  # type: ignore[no-untyped-call]
    assert share.grad is not None
    assert multipliers.grad is not None
    assert float(share.grad) == pytest.approx(2 + 2 * 3 * 0.4)
    assert multipliers.grad.tolist() == pytest.approx([-0.4, -0.16])


def test_the_lagrangian_settles_a_share_at_its_target() -> None:
    """Minimise a task that wants every gate open, under it: the share ends where it was asked."""
    gate = torch.ones(50, requires_grad=True)
    multipliers = torch.zeros(2, requires_grad=True)
    worth = torch.linspace(0.1, 1.0, 50)
    optimizer = torch.optim.Adam([{"params": [gate], "lr": 0.02},
                                  {"params": [multipliers], "lr": 0.1}])  # fmt: skip
    for step in range(1500):
        open_ = gates.straight_through(gate)
        target = gates.warmed_target(step, 500, 0.6)
        loss = -(worth * open_).mean() + gates.lagrangian(open_.mean(), target, multipliers)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert float((gate > 0).double().mean()) == pytest.approx(0.6, abs=0.08)
    assert float(worth[gate.detach() > 0].mean()) > float(worth[gate.detach() <= 0].mean())


def test_the_papers_loss_counts_every_group_alike() -> None:
    groups = [torch.full((2,), 1.0), torch.full((200,), -1.0)]
    mean = (1 / (1 + math.exp(-1)) + 1 / (1 + math.exp(1))) / 2
    assert float(gates.genova(groups, 0.3)) == pytest.approx(100 * (mean - 0.3) ** 2)


def test_a_multiplier_that_pushes_the_wrong_way_starts_again() -> None:
    multipliers = torch.nn.Parameter(torch.tensor([4.0, 1.0]))
    gates.restart(multipliers, 0.1)
    assert multipliers.tolist() == [4.0, 1.0]
    gates.restart(multipliers, -0.1)
    assert multipliers.tolist() == [0.0, 1.0]
