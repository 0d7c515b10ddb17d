"""Units taken away for good: rows, columns and the numbers that count them; what is left reloads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shaken_models import random_keep, shaken
from tiny_models import FAMILY_NAMES, heard_by, make_model
from tiny_recordings import TONES
from torch import nn

from edgeprune.export.onnx import onnx_runner, to_onnx
from edgeprune.models import loading
from edgeprune.width_pruning import removal
from edgeprune.width_pruning.removal import trim_to
from edgeprune.width_pruning.unit_table import KINDS
from edgeprune.width_pruning.units import Group, Slice, groups_of, make_trimmable
from edgeprune_device.errors import EdgepruneError


def test_a_model_trimmed_twice_saves_reloads_and_exports(
    family_folder: Path, tmp_path: Path
) -> None:
    model = shaken(family_folder)
    for seed in range(2):
        trim_to(model, random_keep(model, KINDS, seed))
    samples = heard_by(model)
    with torch.inference_mode():
        expected = loading.logits_of(model, samples)
    loading.save(model, tmp_path / "trimmed")
    again = loading.load_model(str(tmp_path / "trimmed"))
    with torch.inference_mode():
        torch.testing.assert_close(loading.logits_of(again, samples), expected, rtol=0, atol=1e-6)
    scores = torch.softmax(expected, dim=-1).numpy()
    run = onnx_runner(to_onnx(again, samples.shape[1], 18))
    for sample, expected_scores in zip(samples.numpy(), scores, strict=True):
        np.testing.assert_allclose(run(sample[None])[0], expected_scores, rtol=0, atol=1e-4)


@pytest.mark.parametrize("units", [[], [1, 0], [0, 0], [0, 99], [-1, 0]])
def test_units_that_are_not_there_cannot_be_kept(family_folder: Path, units: list[int]) -> None:
    model = loading.load_model(str(family_folder))
    make_trimmable(model)
    name = groups_of(model)[0].name
    with pytest.raises(EdgepruneError, match="cannot be kept"):
        trim_to(model, {name: units})


def test_a_group_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    model = loading.load_model(str(make_model(tmp_path / "m", FAMILY_NAMES[0], tuple(TONES))))
    with pytest.raises(EdgepruneError, match=r"no group of units 'front\.9'") as error:
        trim_to(model, {"front.9": [0]})
    assert "front.0" in error.value.hint


def group_of(units: int, *slices: Slice, counts: tuple[tuple[str, int], ...] = ()) -> Group:
    return Group("units", "channels", units, slices, counts)


def trimmed(model: nn.Module, group: Group, units: list[int]) -> nn.Module:
    removal._trim(model, group, units)
    return model


def test_rows_of_what_makes_and_columns_of_what_reads_go_together() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    first, last = model[0], model[2]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    before = [t.detach().clone() for t in (first.weight, first.bias, last.weight, last.bias)]
    units = np.arange(4)
    trimmed(model, group_of(4, Slice("0", "out", units), Slice("2", "in", units)), [1, 3])
    assert torch.equal(first.weight, before[0][[1, 3]])
    assert torch.equal(first.bias, before[1][[1, 3]])
    assert torch.equal(last.weight, before[2][:, [1, 3]])
    assert torch.equal(last.bias, before[3])
    assert (first.out_features, last.in_features) == (2, 2)
    assert model(torch.zeros(1, 3)).shape == (1, 2)


def test_every_coordinate_of_a_unit_goes_with_it_side_by_side_or_round_and_round() -> None:
    for index, rows in (([0, 0, 1, 1, 2, 2], [0, 1, 4, 5]), ([0, 1, 2, 0, 1, 2], [0, 2, 3, 5])):
        model: Any = nn.Sequential(nn.Linear(1, 6, bias=False))
        before = model[0].weight.detach().clone()
        trimmed(model, group_of(3, Slice("0", "out", np.array(index))), [0, 2])
        assert torch.equal(model[0].weight, before[rows])


@pytest.mark.parametrize("normed", [False, True], ids=["plain", "weight norm"])
def test_every_group_of_a_grouped_convolution_keeps_the_same_of_its_coordinates(
    normed: bool,
) -> None:
    """Two groups of three: coordinates 0 and 2 of each; what they compute is what they computed."""
    torch.manual_seed(0)
    conv: Any = nn.Conv1d(6, 6, 3, groups=2)
    if normed:
        conv = nn.utils.parametrizations.weight_norm(conv, dim=2)
    samples = torch.randn(1, 6, 9)
    samples[:, [1, 4]] = 0  # what goes is silent
    model: Any = nn.Sequential(conv)
    kept = [0, 2, 3, 5]
    with torch.no_grad():
        expected = model(samples)[:, kept]
        trimmed(model, group_of(3, Slice("0", "grouped", np.arange(6) % 3)), [0, 2])
        torch.testing.assert_close(model(samples[:, kept]), expected)
    assert (conv.in_channels, conv.out_channels, conv.groups) == (4, 4, 2)


def test_norms_keep_the_statistics_of_what_is_left() -> None:
    model: Any = nn.ModuleList([nn.BatchNorm1d(4), nn.LayerNorm(4), nn.GroupNorm(4, 4)])
    model[0].running_mean.copy_(torch.arange(4.0))
    model[0].running_var.copy_(torch.arange(4.0) + 1)
    units = np.arange(4)
    trimmed(model, group_of(4, *(Slice(str(i), "norm", units) for i in range(3))), [1, 2])
    assert model[0].running_mean.tolist() == [1.0, 2.0]
    assert model[0].running_var.tolist() == [2.0, 3.0]
    assert model[0].num_features == 2
    assert model[1].normalized_shape == (2,)
    assert (model[2].num_groups, model[2].num_channels) == (2, 2)
    assert model[2](torch.zeros(1, 2, 3)).shape == (1, 2, 3)


def test_an_lstm_reads_fewer_coordinates_and_computes_the_same_where_they_are_zero() -> None:
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.LSTM(4, 3, 2, bidirectional=True, batch_first=True))
    samples = torch.randn(1, 5, 4)
    samples[..., [0, 3]] = 0
    with torch.no_grad():
        expected = model(samples)[0]
        trimmed(model, group_of(4, Slice("0", "in", np.arange(4))), [1, 2])
        torch.testing.assert_close(model(samples[..., 1:3])[0], expected)
    assert model[0].input_size == 2


def test_frozen_weights_stay_frozen_and_numbers_that_count_follow() -> None:
    model: Any = nn.Sequential(nn.Linear(2, 4))
    model[0].heads = 4
    model[0].weight.requires_grad_(False)
    model.table = nn.Parameter(torch.arange(8.0).reshape(2, 4))
    units = np.arange(4)
    group = group_of(4, Slice("0", "out", units), Slice("table", "param", units, 1),
                     counts=(("0:heads", 1),))  # fmt: skip
    trimmed(model, group, [0, 3])
    assert not model[0].weight.requires_grad
    assert model[0].bias.requires_grad
    assert model[0].heads == 2
    assert model.table.tolist() == [[0.0, 3.0], [4.0, 7.0]]
