"""Masks and trimming: what is masked and what is trimmed away compute the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from shaken_models import random_keep, shaken
from tiny_models import heard_by

from edgeprune.models import loading
from edgeprune.width_pruning.masking import masked_norm, masks, masks_of
from edgeprune.width_pruning.removal import trim_to
from edgeprune.width_pruning.unit_table import CHANNELS, HEADS, HIDDEN, KINDS
from edgeprune.width_pruning.units import groups_of

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
