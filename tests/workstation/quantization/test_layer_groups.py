"""Layer groups: every layer in one of them, under the names of model and file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from tiny_models import heard_by, make_model
from tiny_recordings import TONES
from torch import nn

from edgeprune.export.onnx import to_onnx
from edgeprune.models import loading
from edgeprune.quantization.fake_quantize import fake_int8
from edgeprune.quantization.layer_groups import (
    ATTENTION,
    CONVOLUTION,
    FEED_FORWARD,
    FRONT_END,
    HEAD,
    POSITIONS,
    deployed,
    layer_groups_of,
    scope_of,
)
from edgeprune_device.errors import EdgepruneError


def test_units_hold_every_layer_once(family_folder: Path) -> None:
    model = loading.load_model(str(family_folder))
    layers = [path for unit in layer_groups_of(model) for path in unit.layers]
    assert len(layers) == len(set(layers)) > 0
    missing = {name for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
    missing -= set(layers)
    assert all("attention" in name for name in missing)  # WavLM's, which it never calls
    assert bool(missing) == (model.config.model_type == "wavlm")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = make_model(tmp_path_factory.mktemp("model") / "m", "hubert", tuple(TONES), layers=2)
    return loading.load_model(str(folder))


def test_units_stand_in_the_order_of_the_sounds_way_through_the_model(model: Any) -> None:
    units = layer_groups_of(model)
    assert [unit.kind for unit in units] == [
        CONVOLUTION, CONVOLUTION, CONVOLUTION, FRONT_END, POSITIONS,
        *[ATTENTION, FEED_FORWARD] * 2, HEAD,
    ]  # fmt: skip
    assert units[0].name == "convolution 0"
    assert [unit.name for unit in units if unit.kind == ATTENTION] == [
        "block 0 attention", "block 1 attention",
    ]  # fmt: skip
    assert sorted(units[-1].layers) == ["classifier", "projector"]


def test_every_scope_is_found_in_the_names_of_the_exported_file(model: Any) -> None:
    """Those without one stay in float there: the first convolution, and the positional one."""
    names = [node.name for node in onnx.load_from_string(to_onnx(model, 4000, 18)).graph.node]
    for unit in layer_groups_of(model):
        assert bool(unit.scopes) == (unit.name != "convolution 0" and unit.kind != POSITIONS)
        for scope in unit.scopes:
            assert any(f"/{scope}/" in name or f"/{scope}." in name for name in names), scope


@pytest.mark.parametrize(
    ("path", "scope"),
    [("classifier", "classifier"), ("hubert.encoder.layers.3.attention", "hubert/encoder/layers.3/attention"),
     ("a.0.1.b", "a.0.1/b")],
)  # fmt: skip
def test_a_lists_number_stands_behind_a_dot_in_a_files_names(path: str, scope: str) -> None:
    assert scope_of(path) == scope


@pytest.mark.parametrize("activations", ["rows", "window"])
def test_convolutions_alone_are_rounded_as_asked_and_the_rest_by_windows(
    model: Any, activations: str
) -> None:
    heard, units = heard_by(model, 2), layer_groups_of(model)
    convs = [path for unit in units if unit.kind == CONVOLUTION for path in unit.layers]
    rest = [path for unit in units if unit.kind != CONVOLUTION for path in unit.layers]
    with torch.inference_mode():
        plain = loading.logits_of(model, heard)
        with deployed(model, units, activations, bits=4):
            found = loading.logits_of(model, heard)
        with fake_int8(model, convs, activations, 4), fake_int8(model, rest, "window", 4):
            expected = loading.logits_of(model, heard)
        after = loading.logits_of(model, heard)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert not torch.allclose(found, plain)
    assert np.array_equal(after.numpy(), plain.numpy()), "and nothing of it is left"


def test_a_model_without_a_layer_to_round_is_refused(model: Any) -> None:
    class Bare(nn.Module):
        config = model.config
        base_model_prefix = ""
        encoder = nn.Module()

    bare: Any = Bare()
    bare.base_model = None
    bare.encoder.layers = nn.ModuleList()
    object.__setattr__(bare, "base_model", bare)
    with pytest.raises(EdgepruneError, match="no linear layer or convolution over time") as error:
        layer_groups_of(bare)
    assert "weights" in error.value.hint
