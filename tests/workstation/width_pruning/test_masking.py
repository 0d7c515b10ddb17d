"""Masks and trimming: what is masked and what is trimmed away compute the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from shaken_models import random_keep, shaken
from tiny_models import FAMILY_NAMES, heard_by, make_model
from tiny_recordings import TONES

from edgeprune.export.onnx import onnx_runner, to_onnx
from edgeprune.models import loading
from edgeprune.width_pruning.masking import masked_norm, masks, masks_of
from edgeprune.width_pruning.removal import trim_to
from edgeprune.width_pruning.unit_table import CHANNELS, HEADS, HIDDEN, KINDS
from edgeprune.width_pruning.units import groups_of, ready
from edgeprune_device.errors import EdgepruneError

CASES = (*KINDS, "all")
NOTHING = {
    ("kwt", CHANNELS), ("clap_audio_model", CHANNELS), ("clap_audio_model", HIDDEN),
    ("audio-spectrogram-transformer", CHANNELS), ("wav2vec2-conformer", HIDDEN), ("cnn14", HEADS),
    ("cnn14", HIDDEN), ("edgeprune-student", HEADS),
}  # fmt: skip
"""Kinds of which a family has no group."""


@pytest.mark.parametrize("case", CASES)
def test_a_trimmed_model_answers_as_the_masked_one(family_folder: Path, case: str) -> None:
    model = shaken(family_folder)
    keep = random_keep(model, KINDS if case == "all" else (case,))
    if not keep:
        assert (model.config.model_type, case) in NOTHING
        return
    samples = heard_by(model)
    with torch.inference_mode():
        whole = loading.logits_of(model, samples)
        with masks(model, groups_of(model), masks_of(groups_of(model), keep)):
            masked = loading.logits_of(model, samples)
        torch.testing.assert_close(loading.logits_of(model, samples), whole, rtol=0, atol=0)
        before = loading.count_parameters(model)
        trim_to(model, keep)
        trimmed = loading.logits_of(model, samples)
    assert loading.count_parameters(model) < before
    assert not torch.allclose(masked, whole, atol=1e-3)
    torch.testing.assert_close(trimmed, masked, rtol=0, atol=1e-5)


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


def test_a_masked_norm_is_the_norm_of_what_is_on() -> None:
    norm = torch.nn.LayerNorm(6)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    states = torch.randn(2, 3, 6)
    on = [0, 2, 5]
    mask = torch.zeros(6)
    mask[on] = 1.0
    expected = torch.nn.functional.layer_norm(
        states[..., on], (3,), norm.weight[on], norm.bias[on], norm.eps
    )
    torch.testing.assert_close(masked_norm(norm, states, mask)[..., on], expected)


def test_coordinates_that_are_off_do_not_grow_from_norm_to_norm() -> None:
    mask = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0])
    states = torch.tensor([[0.1, 0.2, 0.3, 50.0, -80.0]])
    alone = states[:, :3]
    norm, other = torch.nn.LayerNorm(5), torch.nn.LayerNorm(3)
    for _ in range(60):
        states, alone = masked_norm(norm, states, mask), other(alone)
    assert states.abs().max() < 2
    torch.testing.assert_close(states[:, :3], alone)


@pytest.mark.parametrize("units", [[], [1, 0], [0, 0], [0, 99], [-1, 0]])
def test_units_that_are_not_there_cannot_be_kept(family_folder: Path, units: list[int]) -> None:
    model = loading.load_model(str(family_folder))
    ready(model)
    name = groups_of(model)[0].name
    with pytest.raises(EdgepruneError, match="cannot be kept"):
        trim_to(model, {name: units})


def test_a_group_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    model = loading.load_model(str(make_model(tmp_path / "m", FAMILY_NAMES[0], tuple(TONES))))
    with pytest.raises(EdgepruneError, match=r"no group of units called 'front\.9'") as error:
        trim_to(model, {"front.9": [0]})
    assert "front.0" in error.value.hint
