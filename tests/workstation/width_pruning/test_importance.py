"""Ranking and choosing units, against weights and slopes worked out by hand."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from shaken_models import shaken
from tiny_models import heard_by

from edgeprune.models import loading
from edgeprune.training.step_records import count_macs
from edgeprune.width_pruning.budget import cost_terms
from edgeprune.width_pruning.cost_model import CostTable, Factor, Term, collect_terms
from edgeprune.width_pruning.importance import choose_units, group_norms, unit_importance
from edgeprune.width_pruning.masking import masks
from edgeprune.width_pruning.removal import trim_to
from edgeprune.width_pruning.units import groups_of
from edgeprune_device.errors import EdgepruneError


def no_loss(*_: Any) -> Any:
    raise AssertionError("asked for a loss")


def test_the_norm_of_a_column_is_that_of_its_row_bias_and_readers(family_folder: Path) -> None:
    model = shaken(family_folder)
    columns = [g for g in groups_of(model) if g.kind == "feed-forward" and len(g.slices) == 2]
    if not columns:  # its columns have norms, too
        assert family_folder.name in ("edgeprune-student", "cnn14")
        return
    group = columns[0]
    made, read = (model.get_submodule(part.path) for part in group.slices)
    expected = [
        torch.cat([made.weight[i], made.bias[i : i + 1], read.weight[:, i]]).norm()
        for i in range(group.units)
    ]
    torch.testing.assert_close(group_norms(model, group), torch.stack(expected).detach())


def test_the_slope_of_a_gate_is_what_the_loss_changes_by(family_folder: Path) -> None:
    """An oracle of its own: switch a unit a little way off and divide."""
    model = shaken(family_folder).double()
    groups = groups_of(model)
    samples = heard_by(model, 2).double()

    def loss(given: Any, heard: torch.Tensor, _: torch.Tensor, __: int) -> torch.Tensor:
        out: torch.Tensor = (loading.logits_of(given, heard) ** 2).mean()
        return out

    found = unit_importance("taylor", model, groups, [(samples, samples)], loss, 0)
    for group in (groups[0], groups[-1]):
        for unit in (0, group.units - 1):
            values = []
            for step in (1e-5, -1e-5):
                mask = torch.ones(group.units, dtype=torch.float64)
                mask[unit] += step
                with torch.no_grad(), masks(model, groups, {group.name: mask}):
                    values.append(float(loss(model, samples, samples, 0)))
            slope = abs(values[0] - values[1]) / 2e-5
            assert float(found[group.name][unit]) == pytest.approx(slope, rel=2e-3, abs=1e-6)


def test_the_random_control_depends_on_its_seed_alone(family_folder: Path) -> None:
    model = shaken(family_folder)
    groups = groups_of(model)
    one, same, other = (
        unit_importance("random", model, groups, (), no_loss, seed) for seed in (1, 1, 2)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def terms_of(counts: dict[str, int]) -> list[Term]:
    """Make a cost of a hundred a group, evenly from its units."""
    return [Term(100.0, name, (Factor(name, torch.full((n,), 1 / n).double()),))
            for name, n in counts.items()]  # fmt: skip


def left(terms: list[Term], keep: dict[str, list[int]], units: dict[str, int]) -> float:
    ledger = CostTable(collect_terms(terms))
    for name, n in units.items():
        for unit in set(range(n)) - set(keep[name]):
            ledger.switch(name, unit, on=False)
    return ledger.cost


def test_the_least_go_first_over_all_groups() -> None:
    units = {"a": 10, "b": 10}
    scores = {"a": torch.arange(10.0), "b": torch.arange(10.0) + 5.5}
    keep = choose_units(scores, terms_of(units), 120.0, "40 % of it")
    assert keep == {"a": [7, 8, 9], "b": [1, 2, 3, 4, 5, 6, 7, 8, 9]} | keep
    assert left(terms_of(units), keep, units) == pytest.approx(120.0)
    assert keep["a"][-1] == 9
    assert len(keep["a"]) < len(keep["b"])


def test_a_unit_too_big_to_go_is_passed_over_for_smaller_ones() -> None:
    """The coarse group's next unit would take half of it; columns of the fine one fit."""
    units = {"coarse": 2, "fine": 1000}
    scores = {"coarse": torch.tensor([0.5, 2.0]), "fine": torch.linspace(0.6, 1.0, 1000)}
    keep = choose_units(scores, terms_of(units), 170.0, "15 % of it")
    assert keep["coarse"] == [0, 1]
    assert left(terms_of(units), keep, units) == pytest.approx(170.0, abs=1.1)


def test_every_group_keeps_its_best_unit() -> None:
    units = {"a": 4, "b": 4}
    scores = {"a": torch.tensor([-1.0, -3.0, -2.0, -4.0]), "b": torch.ones(4)}
    keep = choose_units(scores, terms_of(units), 50.0, "75 % of it")
    assert keep["a"] == [0]
    assert len(keep["b"]) == 1
    with pytest.raises(EdgepruneError, match=r"90 % of it cannot be removed: .* 75 % can"):
        choose_units(scores, terms_of(units), 20.0, "90 % of it")


def test_an_unknown_criterion_is_a_programming_error(family_folder: Path) -> None:
    model = shaken(family_folder)
    with pytest.raises(ValueError, match="criterion 'luck' is not known"):
        unit_importance("luck", model, groups_of(model), (), no_loss, 0)


@pytest.mark.parametrize("of", ["macs", "parameters"])
def test_a_ratio_is_met_within_two_points_in_every_family(family_folder: Path, of: str) -> None:
    model = shaken(family_folder)
    groups, window = groups_of(model), heard_by(model).shape[1]
    terms = cost_terms(model, groups, window, of, {})
    size = (
        loading.count_parameters
        if of == "parameters"
        else partial(count_macs, window_samples=window)
    )
    fixed = sum(term.amount for term in terms if not term.factors)
    whole = size(model)
    ratio = 0.3 * (1 - fixed / whole)  # of what can go at all: a spectrogram stays
    scores = unit_importance("random", model, groups, (), no_loss, 1)
    trim_to(model, choose_units(scores, terms, whole * (1 - ratio), "it"))
    assert 1 - size(model) / whole == pytest.approx(ratio, abs=0.02)
