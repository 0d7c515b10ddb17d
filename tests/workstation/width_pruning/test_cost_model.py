"""Costs: what the terms say under a mask is what the trimmed model has and does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from shaken_models import random_keep, shaken
from tiny_models import heard_by

from edgeprune.models import loading
from edgeprune.training.step_records import count_macs
from edgeprune.width_pruning import cost_model
from edgeprune.width_pruning.masking import masks_of
from edgeprune.width_pruning.removal import trim_to
from edgeprune.width_pruning.unit_table import KINDS
from edgeprune.width_pruning.units import groups_of


@pytest.mark.parametrize("kinds", [KINDS, *((kind,) for kind in KINDS)])
def test_the_terms_under_a_mask_are_the_trimmed_model_to_the_last_multiplication(
    family_folder: Path, kinds: tuple[str, ...]
) -> None:
    model = shaken(family_folder)
    groups, window = groups_of(model, kinds), heard_by(model).shape[1]
    parameters = cost_model.collect_terms(cost_model.parameter_terms(model, groups))
    macs = cost_model.collect_terms(cost_model.mac_terms(model, groups, window))
    assert float(cost_model.total(parameters, {})) == loading.count_parameters(model)
    assert float(cost_model.total(macs, cost_model.whole(groups))) == pytest.approx(
        count_macs(model, window), abs=0.5
    )
    keep = random_keep(model, kinds, 3)
    values = masks_of(groups, keep)
    trim_to(model, keep)
    assert float(cost_model.total(parameters, values)) == pytest.approx(
        loading.count_parameters(model), abs=0.5
    )
    assert float(cost_model.total(macs, values)) == pytest.approx(
        count_macs(model, window), abs=0.5
    )


def test_a_cost_falls_with_every_gate_by_its_gradient(family_folder: Path) -> None:
    model = shaken(family_folder)
    groups, window = groups_of(model), heard_by(model).shape[1]
    terms = cost_model.collect_terms(cost_model.mac_terms(model, groups, window))
    values = {name: mask.requires_grad_() for name, mask in cost_model.whole(groups).items()}
    cost_model.total(terms, values).backward()  # type: ignore[no-untyped-call]
    one = groups[0]
    gradient = values[one.name].grad
    assert gradient is not None
    less = torch.ones(one.units)
    less[0] = 0.0
    full, without = (
        float(cost_model.total(terms, {one.name: mask})) for mask in (less * 0 + 1, less)
    )
    assert full - without == pytest.approx(float(gradient[0]), rel=1e-6)
    assert all(bool((mask.grad > 0).all()) for mask in values.values() if mask.grad is not None)


def test_units_switched_off_one_by_one_cost_what_their_mask_does(family_folder: Path) -> None:
    model = shaken(family_folder)
    groups, window = groups_of(model), heard_by(model).shape[1]
    table = cost_model.collect_terms(cost_model.mac_terms(model, groups, window))
    keep = random_keep(model, KINDS, 4)
    ledger = cost_model.CostTable(table)
    for group in groups:
        ledger.switch(group.name, 0, on=False)
        ledger.switch(group.name, 0, on=True)
        for unit in set(range(group.units)) - set(keep[group.name]):
            ledger.switch(group.name, unit, on=False)
    expected = float(cost_model.total(table, masks_of(groups, keep)))
    assert ledger.cost == pytest.approx(expected, rel=1e-9)
