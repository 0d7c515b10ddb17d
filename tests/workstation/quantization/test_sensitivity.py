"""The table of what int8 costs, and the mixture that is read from it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from tiny_models import make_model
from tiny_recordings import TONES
from tiny_windows import tone_windows

from edgeprune.core.console import Silent
from edgeprune.export.onnx import onnx_runner, to_onnx
from edgeprune.models import loading
from edgeprune.quantization.layer_groups import HEAD, layer_groups_of
from edgeprune.quantization.sensitivity import (
    Sensitivity,
    SensitivityRow,
    choose_mixed,
    sensitivity,
    to_mixed,
)
from edgeprune_device.errors import EdgepruneError

LABELS = tuple(sorted(TONES))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_model(tmp_path / "model", "unispeech-sat", LABELS)


@pytest.fixture
def model(folder: Path) -> Any:
    """Give a model whose head is lost in int8 and the same in float.

    An input that is always zero has a weight so large that all others round to nothing.
    """
    made = loading.load_model(str(folder))
    with torch.no_grad():
        made.projector.weight[0] = 0
        made.projector.bias[0] = 0
        made.classifier.weight[:, 0] = 1e4
    return made


def row(name: str, divergence: float, gain: float) -> SensitivityRow:
    return SensitivityRow(name, "attention", (name,), 0.0, 1.0, divergence, None, None, gain)


def table(*rows: SensitivityRow, loss: float = 0.04) -> Sensitivity:
    return Sensitivity(rows, "rows", 100, "accuracy", 0.9, loss, 0.95, 0.1, 20.0, 10.0)


def test_the_unit_that_int8_destroys_stands_out(model: Any) -> None:
    before = copy.deepcopy(model.state_dict())
    units = layer_groups_of(model)
    found = sensitivity(model, tone_windows(), units, "rows", (20.0, 12.0), Silent())
    worst = max(found.rows, key=lambda row: row.divergence)
    assert worst.kind == HEAD
    others = [row.divergence for row in found.rows if row.kind != HEAD]
    assert worst.divergence > 10 * max(others)
    assert worst.saved_divergence == pytest.approx(found.int8_divergence, rel=0.2)
    assert sum(row.gain_ms for row in found.rows) == pytest.approx(8.0)
    assert choose_mixed(found, 1.0) == ()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_mixture_keeps_that_unit_in_float_in_the_file(model: Any) -> None:
    data = to_onnx(model, 4000, 18)
    small, mixed = to_mixed(data, model, ()), to_mixed(data, model, ("head",))
    names = [
        node.name for node in onnx.load_from_string(mixed).graph.node if "Integer" in node.op_type
    ]
    assert names
    assert not any("classifier" in name or "projector" in name for name in names)
    whole, lost, kept = (onnx_runner(x) for x in (data, small, mixed))
    sample = tone_windows().samples[:1]
    assert np.abs(whole(sample) - lost(sample)).max() > 0.05
    assert np.abs(whole(sample) - kept(sample)).max() < 0.02


def test_every_unit_can_be_kept_in_float(model: Any) -> None:
    data = to_onnx(model, 4000, 18)
    whole = onnx_runner(data)
    mixed = onnx_runner(to_mixed(data, model, [unit.name for unit in layer_groups_of(model)]))
    for sample in tone_windows().samples[:3]:
        np.testing.assert_allclose(mixed(sample[None]), whole(sample[None]), atol=1e-5)


def test_the_most_damage_for_a_millisecond_goes_to_float_first() -> None:
    made = table(row("cheap", 0.02, 0.1), row("dear", 0.03, 3.0), row("fine", 0.0, 1.0))
    assert choose_mixed(made, 0.025) == ("cheap",)  # two fifths of 4 points are won: 2.4 are left
    assert choose_mixed(made, 0.0) == ("cheap", "dear")
    assert choose_mixed(made, 0.05) == ()


def test_of_units_that_lose_the_same_things_all_go_to_float() -> None:
    made = table(row("one", 0.1, 1.0), row("other", 0.09, 1.0), row("fine", 0.0, 1.0))
    assert choose_mixed(made, 0.02) == ("one", "other")  # with one left, 0.09 of 0.1 would be lost


def test_a_mixture_of_nothing_harmful_is_empty_and_a_negative_loss_is_refused() -> None:
    assert choose_mixed(table(row("a", 0.0, 1.0)), 0.0) == ()
    with pytest.raises(EdgepruneError, match=r"-0\.1"):
        choose_mixed(table(row("a", 0.0, 1.0)), -0.1)


def test_a_unit_that_is_not_there_is_refused(model: Any) -> None:
    with pytest.raises(EdgepruneError, match="no unit 'tail'"):
        to_mixed(b"", model, ["tail"])
