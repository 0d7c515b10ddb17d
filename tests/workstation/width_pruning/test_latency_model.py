"""Prices of work: found again from what variants took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import make_model
from tiny_recordings import TONES

from edgeprune.core.console import Silent
from edgeprune.models import loading
from edgeprune.training.step_records import count_macs
from edgeprune.width_pruning import latency_model
from edgeprune.width_pruning.cost_model import mac_terms
from edgeprune.width_pruning.units import groups_of

WINDOW = 4000


def test_prices_are_found_again_from_what_variants_took() -> None:
    true = {"linear": 2e-6, "convolution": 7e-6, "products": 0.0, "always": 0.3}
    generator = torch.Generator().manual_seed(0)
    amounts = [
        {
            name: float(1e6 * torch.rand((), generator=generator))
            for name in true
            if name != "always"
        }
        for _ in range(10)
    ]
    measured = [
        true["always"] + sum(true[name] * amount for name, amount in row.items()) for row in amounts
    ]
    assert latency_model.price(amounts, measured) == pytest.approx(true, abs=1e-9)


def test_work_that_no_width_changes_is_part_of_the_price_of_a_window() -> None:
    """A spectrogram of 5e5 multiply-accumulates at 3e-7 ms, in every variant alike."""
    amounts = [{"linear": 1e6 * n, "fixed": 5e5} for n in range(1, 8)]
    measured = [0.3 + 2e-6 * row["linear"] + 3e-7 * row["fixed"] for row in amounts]
    found = latency_model.price(amounts, measured)
    assert found == pytest.approx({"linear": 2e-6, "always": 0.45}, abs=1e-9)


def test_prices_never_help_to_leave_work_in() -> None:
    """A kind of work that seems to save time (by chance) is free, not paid for."""
    amounts = [{"linear": 1e6 * n, "products": 1e6 / n} for n in range(1, 8)]
    measured = [0.3 + 2e-6 * row["linear"] - 1e-7 * row["products"] for row in amounts]
    found = latency_model.price(amounts, measured)
    assert min(found.values()) >= 0
    assert found["products"] == 0


@pytest.fixture
def model(tmp_path: Path) -> Any:
    return loading.load_model(str(make_model(tmp_path / "m", "hubert", tuple(TONES))))


def test_random_widths_keep_something_of_every_group_and_differ(model: Any) -> None:
    groups = groups_of(model)
    generator = np.random.default_rng(0)
    drawn = [latency_model.random_widths(model, groups, generator) for _ in range(6)]
    for keep in drawn:
        assert set(keep) == {group.name for group in groups}
        for group in groups:
            units = keep[group.name]
            assert units == sorted(set(units))
            assert 1 <= len(units) <= group.units
    shares = [sum(len(units) for units in keep.values()) for keep in drawn]
    assert len(set(shares)) > 3
    again = latency_model.random_widths(model, groups, np.random.default_rng(0))
    assert again == drawn[0]


def test_work_is_priced_by_timing_copies_and_the_model_stays_whole(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that counts: every multiply-accumulate takes 1 ns, every window 50 us."""
    timed: list[int] = []

    def measured(trial: Any, window: int) -> float:
        timed.append(count_macs(trial, window))
        return 0.05 + 1e-6 * timed[-1]

    monkeypatch.setattr("edgeprune.export.timing.measure_latency", measured)
    before = count_macs(model, WINDOW)
    groups = groups_of(model)
    found = latency_model.fit_prices(
        model, groups, mac_terms(model, groups, WINDOW), WINDOW, 0, Silent()
    )
    assert timed[0] == before == count_macs(model, WINDOW)
    assert len(timed) == latency_model.VARIANTS
    assert min(timed[1:]) < 0.6 * before
    changed = {name: price for name, price in found.items() if name != "always"}
    assert changed
    assert changed == pytest.approx(dict.fromkeys(changed, 1e-6), rel=0.02)
    assert found["always"] >= 0.05
