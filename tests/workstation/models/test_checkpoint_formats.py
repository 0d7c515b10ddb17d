"""Checkpoints that hold more than the model we load, or the same one under another name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from model_sounds import sounds
from tiny_models import enliven, make_mert, make_model, tiny_config
from tiny_recordings import TONES
from transformers import (
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from edgeprune.models import checkpoints, loading
from edgeprune.models.checkpoint_formats import config_of_mert, without_fusion
from edgeprune.models.checkpoints import read_config
from edgeprune.models.families import depth_of
from edgeprune.nn.clap import ClapAudioForAudioClassification
from edgeprune_device.errors import EdgepruneError

LABELS = tuple(TONES)


def test_of_a_whisper_that_writes_only_the_encoder_is_taken(tmp_path: Path) -> None:
    config: WhisperConfig = tiny_config("whisper")
    torch.manual_seed(0)
    whole = WhisperForConditionalGeneration(config)
    enliven(whole)
    whole.save_pretrained(tmp_path)
    WhisperFeatureExtractor(feature_size=40).save_pretrained(tmp_path)
    assert checkpoints.read_checkpoint(str(tmp_path)).labels() == ()
    model = loading.load_model(str(tmp_path), LABELS)
    taken, given = model.encoder.state_dict(), whole.model.encoder.state_dict()
    assert set(taken) == set(given)
    assert all(torch.equal(taken[name], given[name]) for name in given)
    assert not any("decoder" in name for name in model.state_dict())


@pytest.mark.parametrize("fused", [False, True])
def test_of_a_clap_only_the_audio_tower_is_taken(fused: bool, tmp_path: Path) -> None:
    tower = tiny_config("clap_audio_model")
    tower.enable_fusion = fused
    text = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 9,
            "intermediate_size": 8, "pad_token_id": 1}  # fmt: skip
    config = ClapConfig(audio_config=tower.to_dict(), text_config=text)
    torch.manual_seed(0)
    whole = ClapModel(config)
    enliven(whole)
    whole.save_pretrained(tmp_path)
    extractor = ClapFeatureExtractor(
        feature_size=16, truncation="fusion" if fused else "rand_trunc"
    )
    extractor.save_pretrained(tmp_path)
    model = loading.load_model(str(tmp_path), LABELS)
    assert isinstance(model, ClapAudioForAudioClassification)
    assert depth_of(model.config) == 3
    heard = sounds(model, 2.5, 1)
    features = extractor(heard[0].numpy(), max_length=120000, return_tensors="pt")
    whole.eval()
    with torch.inference_mode():
        theirs = whole.audio_model(
            features["input_features"].float(), is_longer=torch.zeros(1, 1)
        ).pooler_output
        ours = model.audio_model(loading.prepare(model, heard)).pooler_output
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


def test_a_clap_that_fuses_by_channels_is_refused(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m", "clap_audio_model", LABELS)
    stated = json.loads((folder / "config.json").read_text("utf-8"))
    stated |= {"enable_fusion": True, "fusion_type": "channel_map"}
    (folder / "config.json").write_text(json.dumps(stated), "utf-8")
    with pytest.raises(EdgepruneError, match="fusion_type channel_map"):
        read_config(str(folder))


def test_mert_is_loaded_as_hubert_at_its_own_rate(tmp_path: Path) -> None:
    hubert = make_mert(tmp_path / "mert")
    model = loading.load_model(str(tmp_path / "mert"), LABELS)
    assert (model.config.model_type, loading.sample_rate_of(model)) == ("hubert", 24000)
    taken, given = model.hubert.state_dict(), hubert.state_dict()
    assert all(torch.equal(taken[name], given[name]) for name in taken)
    loading.save(model, tmp_path / "saved")
    assert loading.sample_rate_of(loading.load_model(str(tmp_path / "saved"))) == 24000


@pytest.mark.parametrize("name", ["feature_extractor_cqt", "deepnorm"])
def test_a_mert_that_is_no_hubert_is_refused(name: str, tmp_path: Path) -> None:
    make_mert(tmp_path, **{name: True})
    with pytest.raises(EdgepruneError, match=f"{name} is true"):
        read_config(str(tmp_path))
    with pytest.raises(EdgepruneError, match=f"{name} is true"):
        config_of_mert({name: True})


def test_a_bert_with_a_layer_that_layer_scores_do_not_cover_is_refused(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m", "wav2vec2-bert", LABELS)
    stated = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(
        json.dumps(stated | {"use_intermediate_ffn_before_adapter": True, "add_adapter": True}),
        "utf-8",
    )
    with pytest.raises(EdgepruneError, match="which layer scores do not cover") as error:
        read_config(str(folder))
    assert "without an adapter" in error.value.hint


def test_what_a_mert_states_goes_into_its_config_but_for_what_is_its_own() -> None:
    stated = {"model_type": "mert_model", "auto_map": {"AutoConfig": "x"}, "_name_or_path": "y",
              "hidden_size": 48, "sample_rate": 16000, "attention_relax": 32.0}  # fmt: skip
    config = config_of_mert(stated)
    assert (config.model_type, config.hidden_size, config.sampling_rate) == ("hubert", 48, 16000)
    assert not hasattr(config, "auto_map")
    assert config_of_mert({}).sampling_rate == 24000


@pytest.mark.parametrize(("fused", "kind"), [(True, "daf_2d"), (False, "channel_map")])
def test_fusion_is_left_out_of_a_clap_where_it_can_be(fused: bool, kind: str) -> None:
    config = tiny_config("clap_audio_model")
    config.enable_fusion, config.fusion_type = fused, kind
    assert without_fusion(config).enable_fusion is False
