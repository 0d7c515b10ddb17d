"""Choosing what meets a goal: what is coarse, or measured otherwise than predicted, is said."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from edgeprune.core.console import Silent
from edgeprune.core.settings import Trim
from edgeprune.export import timing
from edgeprune.width_pruning import budget
from edgeprune.width_pruning.cost_model import Factor, Term
from edgeprune.width_pruning.units import Group
from edgeprune_device.errors import EdgepruneError

COARSE = [Term(100.0, "linear", (Factor("four", torch.full((4,), 0.25).double()),))]
SCORES = {"four": torch.arange(4.0)}


class Hears(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def choose(goal: float, settings: Trim, ui: Any) -> dict[str, list[int]]:
    return budget.choose(object(), COARSE, SCORES, goal, 0, settings, ui)


def test_what_units_are_too_coarse_for_is_said() -> None:
    ui = Hears()
    assert choose(65.0, Trim(ratio=0.35), ui) == {"four": [1, 2, 3]}
    assert ui.said == [
        "  target not met: the units allow 75.0 % of the macs at the start of this round, not 65.0 %"
    ]
    assert choose(74.0, Trim(ratio=0.26), ui) == {"four": [1, 2, 3]}
    assert len(ui.said) == 1  # within two points is met


def test_one_unit_more_goes_where_that_is_nearer() -> None:
    ui = Hears()
    assert choose(53.0, Trim(ratio=0.47), ui) == {"four": [2, 3]}
    assert len(ui.said) == 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Give a model that is no model, and a clock that says what it is told, one after another."""
    times: list[float] = []
    monkeypatch.setattr(budget, "trim_to", lambda *_: None)
    monkeypatch.setattr(timing, "measure_latency", lambda *_: times.pop(0))
    return times


def test_a_correction_below_the_least_keeps_what_was_measured(clock: list[float]) -> None:
    """It measures far over what was predicted: the next aim would be under one unit's cost."""
    ui = Hears()
    clock += [90.0, 40.0, 1e9]
    assert choose(30.0, Trim(ratio=0.7, of="latency"), ui) == {"four": [3]}
    assert clock == [40.0, 1e9]  # the same choice is not measured again
    assert "target not met" in ui.said[-1]


def test_a_correction_is_kept_where_it_is_nearer(clock: list[float]) -> None:
    ui = Hears()
    clock += [80.0, 52.0, 26.0]
    keep = choose(50.0, Trim(ratio=0.5, of="latency"), ui)
    assert keep == {"four": [3]}
    assert not any("not met" in text for text in ui.said)


def test_what_no_choice_can_meet_is_refused() -> None:
    groups = [Group("four", "heads", 4, ())]
    budget.check_possible(groups, COARSE, 25.0, Trim(ratio=0.75), Silent())
    budget.check_possible(groups, COARSE, 23.5, Trim(ratio=0.765), Silent())  # within two points
    with pytest.raises(EdgepruneError, match=r"80 % of the macs cannot be removed: .* 75 % can"):
        budget.check_possible(groups, COARSE, 20.0, Trim(ratio=0.8), Silent())


def test_a_goal_that_takes_nearly_all_that_can_go_is_said_to() -> None:
    groups, ui = [Group("four", "heads", 4, ())], Hears()
    budget.check_possible(groups, COARSE, 50.0, Trim(ratio=0.5), ui)
    assert not ui.said
    budget.check_possible(groups, COARSE, 25.0, Trim(ratio=0.75), ui)
    assert (
        "removing 75 % of the macs leaves hardly any unit (at most 75.0 % can be removed"
        in ui.said[0]
    )
