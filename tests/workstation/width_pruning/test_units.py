"""The table of units against every family's model: what can go, and what is refused with a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from shaken_models import random_keep, shaken
from tiny_models import heard_by, make_model
from tiny_recordings import TONES

from edgeprune.models import loading, serialization
from edgeprune.models.heads import put_head
from edgeprune.replacement.mimic_placement import put_mimic
from edgeprune.width_pruning.masking import masks, masks_of
from edgeprune.width_pruning.removal import trim_to
from edgeprune.width_pruning.unit_table import KINDS
from edgeprune.width_pruning.units import groups_of, make_trimmable, refusals


def test_every_coordinate_of_a_place_belongs_to_a_unit(family_folder: Path) -> None:
    model = shaken(family_folder)
    names = [group.name for group in groups_of(model)]
    assert len(names) == len(set(names))
    for group in groups_of(model):
        for part in group.slices:
            counts = np.bincount(part.index, minlength=group.units)
            assert len(counts) == group.units, (group.name, part.path)
            assert counts.min() == counts.max() > 0, (group.name, part.path)


def test_what_cannot_go_is_said_in_a_sentence(tmp_path: Path) -> None:
    for family, word in (("clap_audio_model", "stage"), ("wav2vec2-conformer", "rotary")):
        model = loading.load_model(str(make_model(tmp_path / family, family, tuple(TONES))))
        (why,) = refusals(model, KINDS)
        assert word in why
        assert "hidden" not in [group.kind for group in groups_of(model)]
        assert refusals(model, ("heads",)) == []


def both_ways(model: object, seed: int = 0) -> None:
    """Compare masked with trimmed, all kinds at once."""
    keep = random_keep(model, KINDS, seed)
    samples = heard_by(model)
    with torch.no_grad():
        with masks(model, groups_of(model), masks_of(groups_of(model), keep)):  # type: ignore[arg-type]
            masked = loading.logits_of(model, samples)
        trim_to(model, keep)
        torch.testing.assert_close(loading.logits_of(model, samples), masked, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["frame", "conv", "transformer"])
@pytest.mark.parametrize("family", ["hubert", "kwt"])
def test_a_mimic_among_the_blocks_is_trimmed_with_them(
    family: str, kind: str, tmp_path: Path
) -> None:
    model = shaken(make_model(tmp_path / "m", family, tuple(TONES)))
    put_mimic(model, 1, 3, heard_by(model), kind=kind, hidden=8, layers=2, kernel=3, heads=2)
    assert any(group.name.startswith("mimic") for group in groups_of(model))
    both_ways(model)
    loading.save(model.eval(), tmp_path / "again")
    again = loading.load_model(str(tmp_path / "again"))
    samples = heard_by(model)
    with torch.no_grad():
        torch.testing.assert_close(
            loading.logits_of(again, samples), loading.logits_of(model, samples), rtol=0, atol=1e-6
        )


@pytest.mark.parametrize("family", ["wav2vec2", "audio-spectrogram-transformer", "cnn14", "kwt"])
def test_a_head_of_our_own_is_trimmed_too(family: str, tmp_path: Path) -> None:
    model = shaken(make_model(tmp_path / "m", family, tuple(TONES)))
    put_head(model, "mlp", 3)
    both_ways(model.eval())


def test_the_coordinates_of_a_conformer_with_relative_positions_can_go(tmp_path: Path) -> None:
    from tiny_models import tiny_config
    from transformers import AutoModelForAudioClassification

    config = tiny_config("wav2vec2-conformer")
    config.position_embeddings_type = "relative"
    torch.manual_seed(0)
    AutoModelForAudioClassification.from_config(config).save_pretrained(tmp_path / "m")
    model = shaken(tmp_path / "m")
    assert refusals(model, KINDS) == []
    both_ways(model)


def test_a_narrow_sew_without_projection_ties_its_last_convolution(tmp_path: Path) -> None:
    from tiny_models import tiny_config
    from transformers import AutoModelForAudioClassification

    config = tiny_config("sew")
    config.conv_dim = (8, 8, 16)
    torch.manual_seed(0)
    AutoModelForAudioClassification.from_config(config).save_pretrained(tmp_path / "m")
    model = shaken(tmp_path / "m")
    assert "front.2" not in [group.name for group in groups_of(model)]
    both_ways(model)


def test_a_weighted_sum_and_a_recognizer_keep_their_places(tmp_path: Path) -> None:
    """CTC: the states are read by ``lm_head``, our own by two LSTM layers."""
    import transformers
    from tiny_models import tiny_config

    config = tiny_config("hubert")
    config.vocab_size, config.pad_token_id = 5, 0
    torch.manual_seed(0)
    for head in ("own", "bilstm"):
        model = transformers.HubertForCTC(config).eval()
        model.config.edgeprune_normalize = True
        make_trimmable(model)
        put_head(model, head, 5)
        model.eval()
        assert serialization.parts_of(model) or head == "own"
        both_ways(model)
