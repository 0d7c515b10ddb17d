"""Spectrogram models: fitted to a window, recorded in the config, refused where they cannot be."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import enliven, make_mert, make_model, tiny_config
from tiny_recordings import TONES, tone
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    ClapAudioConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from edgeprune.models import checkpoints, loading
from edgeprune.models.checkpoint_formats import config_of_mert
from edgeprune.models.checkpoints import read_config
from edgeprune.models.families import depth_of, keep_layers
from edgeprune.models.input_length import FITS, check_window, resize_input
from edgeprune.nn.clap import ClapAudioForAudioClassification, cropped_bias, position_index
from edgeprune.nn.spectrogram_specs import (
    record_of,
    spec_from_extractor,
    spec_from_record,
)
from edgeprune_device.errors import EdgepruneError

LABELS = tuple(TONES)
FITTED = ("audio-spectrogram-transformer", "whisper", "clap_audio_model")


def sounds(model: Any, seconds: float, count: int = 3) -> torch.Tensor:
    rate = loading.sample_rate_of(model)
    return torch.from_numpy(
        np.stack([tone(400.0 * (i + 1), seconds, i, rate) for i in range(count)])
    )


@pytest.mark.parametrize("family", FITTED)
def test_a_fitted_model_reloads_as_it_was_and_hears_no_more_than_its_window(
    family: str, tmp_path: Path
) -> None:
    source = make_model(tmp_path / "m", family, LABELS)
    model = loading.load_model(str(source))
    heard = sounds(model, 0.25)
    fitted = loading.load_model(str(source), window_samples=heard.shape[1])
    assert loading.prepare(fitted, heard).numel() < loading.prepare(model, heard).numel()
    loading.save(fitted, tmp_path / "fitted")
    again = loading.load_model(str(tmp_path / "fitted"))
    assert read_config(str(tmp_path / "fitted")).edgeprune_window == heard.shape[1]
    with torch.inference_mode():
        torch.testing.assert_close(
            loading.logits_of(again, heard), loading.logits_of(fitted, heard), rtol=0, atol=0
        )
    with pytest.raises(EdgepruneError, match=r"takes windows of 0.25 s, not 0.5 s"):
        resize_input(again, 2 * heard.shape[1])


@pytest.mark.parametrize("family", FITTED)
def test_a_model_that_is_fitted_to_its_own_window_answers_as_before(
    family: str, tmp_path: Path
) -> None:
    model = loading.load_model(str(make_model(tmp_path / "m", family, LABELS)))
    seconds = {"audio-spectrogram-transformer": 2.015, "whisper": 2.0, "clap_audio_model": 2.5}
    heard = sounds(model, seconds[family])
    fitted = resize_input(model, heard.shape[1])
    with torch.inference_mode():
        torch.testing.assert_close(
            loading.logits_of(fitted, heard), loading.logits_of(model, heard)
        )


def test_whisper_keeps_its_first_positions(tmp_path: Path) -> None:
    model = loading.load_model(str(make_model(tmp_path / "m", "whisper", LABELS)))
    fitted = resize_input(model, 4001)  # one sample over 12.5 positions of 320: 13
    assert fitted.config.max_source_positions == 13
    kept = fitted.encoder.embed_positions.weight
    torch.testing.assert_close(kept, model.encoder.embed_positions.weight[:13])
    assert not kept.requires_grad


@pytest.mark.parametrize("max_length", [61, 260])
def test_ast_takes_the_middle_of_its_positions_or_stretches_them(
    max_length: int, tmp_path: Path
) -> None:
    """Rows of frequency stay; over time, as numpy's slices and interpolation give it."""
    source = make_model(tmp_path / "m", "audio-spectrogram-transformer", LABELS)
    model = loading.load_model(str(source))
    fitted = resize_input(model, 400 + 160 * (max_length - 1))
    assert fitted.config.max_length == max_length
    old, new = (
        m.base_model.embeddings.position_embeddings[0].detach().numpy() for m in (model, fitted)
    )
    np.testing.assert_array_equal(old[:2], new[:2])
    before, after = old[2:].reshape(3, 19, 16), new[2:].reshape(3, (max_length - 16) // 10 + 1, 16)
    columns = after.shape[1]
    if columns <= 19:
        np.testing.assert_array_equal(after, before[:, 9 - columns // 2 :][:, :columns])
        return
    places = np.clip((np.arange(columns) + 0.5) * 19 / columns - 0.5, 0, 18)
    for row in range(3):
        for channel in range(16):
            expected = np.interp(places, np.arange(19), before[row, :, channel])
            np.testing.assert_allclose(after[row, :, channel], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("seconds", "spec_size", "window"),
    [(0.3, 64, 2), (0.625, 64, 2), (1.0, 128, 4), (2.5, 128, 4), (3.0, 192, 6), (8.0, 256, 8)],
)
def test_clap_hears_the_smallest_picture_that_holds_the_window(
    seconds: float, spec_size: int, window: int
) -> None:
    config = ClapAudioConfig()
    config.edgeprune_frontend = record_of(spec_from_extractor("clap", {}))
    samples = round(seconds * 48000)
    check_window(config, samples)
    plan = FITS["clap"][0](config, spec_from_record(config.edgeprune_frontend), samples)
    assert plan == {"spec_size": spec_size, "window_size": window}


def test_clap_keeps_the_bias_of_every_distance_that_its_smaller_window_has() -> None:
    table = torch.arange(15.0 * 15.0)[:, None].expand(-1, 2)
    small, index = cropped_bias(table, 4), position_index(4)
    assert small.shape == (49, 2)
    for a in range(16):
        for b in range(16):
            rows, columns = a // 4 - b // 4, a % 4 - b % 4
            assert small[index[a, b], 0] == table[(rows + 7) * 15 + columns + 7, 0]


def test_the_index_of_positions_is_transformers_own() -> None:
    from transformers.models.clap.modeling_clap import ClapAudioSelfAttention

    theirs = ClapAudioSelfAttention(tiny_config("clap_audio_model"), 8, 2, 6)
    torch.testing.assert_close(position_index(6), theirs.relative_position_index)


def test_claps_frames_run_through_its_strips_in_the_order_of_time(tmp_path: Path) -> None:
    """A sound that is loud in its third quarter alone changes the frames of that quarter most."""
    source = make_model(tmp_path / "m", "clap_audio_model", LABELS)
    model = loading.load_model(str(source))
    quiet = torch.zeros(1, 120000)
    loud = quiet.clone()
    loud[:, 62000:88000] = 0.3 * torch.randn(26000, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        (a, *_), (b, *_) = (loading.logits_and_states(model, x)[1] for x in (quiet, loud))
    apart = (a - b).norm(dim=-1)[0]
    assert apart.shape == (32,)  # four strips of eight columns
    assert int(apart.argmax()) in range(16, 24)
    assert float(apart[:14].max()) < 0.1 * float(apart.max())


def test_a_clap_stage_may_lose_all_its_pairs(tmp_path: Path) -> None:
    model = loading.load_model(str(make_model(tmp_path / "m", "clap_audio_model", LABELS)))
    keep_layers(model, [1, 2])
    assert model.config.depths == [0, 4]
    loading.save(model, tmp_path / "cut")
    again = loading.load_model(str(tmp_path / "cut"))
    heard = sounds(model, 0.5)
    with torch.inference_mode():
        expected, states = loading.logits_and_states(model, heard)
        torch.testing.assert_close(loading.logits_of(again, heard), expected, rtol=0, atol=0)
    assert len(states) == 3


@pytest.mark.parametrize(
    ("family", "seconds", "message"),
    [
        ("whisper", 3.0, r"at most 2 s, not 3 s"),
        ("clap_audio_model", 3.0, r"at most 2.5 s, not 3 s"),
        ("audio-spectrogram-transformer", 0.1, r"0.1 s has 8 frames.*0.175 s is the least"),
        ("wav2vec2-bert", 0.02, r"0.02 s is too short.*0.035 s is the least"),
    ],
)
def test_a_window_that_a_model_cannot_take_is_refused_before_any_weight_is_read(
    family: str, seconds: float, message: str, tmp_path: Path
) -> None:
    config = read_config(str(make_model(tmp_path / "m", family, LABELS)))
    with pytest.raises(EdgepruneError, match=message):
        check_window(config, round(seconds * config.sampling_rate))


def test_a_cnn14_needs_a_frame_for_its_last_block(tmp_path: Path) -> None:
    model = loading.load_model(str(make_model(tmp_path / "m", "cnn14", LABELS)))
    with pytest.raises(EdgepruneError, match=r"halves time 2 times, so a window needs 4 frames"):
        loading.logits_of(model, torch.zeros(1, 900))


def test_the_checkpoints_feature_extractor_is_followed(tmp_path: Path) -> None:
    """A whole AST beside its extractor: transformers' own answer is the oracle."""
    folder = make_model(tmp_path / "m", "audio-spectrogram-transformer", LABELS)
    extractor = ASTFeatureExtractor(num_mel_bins=40, max_length=200, mean=-6.0, std=3.0)
    extractor.save_pretrained(folder)
    model = loading.load_model(str(folder))
    heard = sounds(model, 1.0)
    theirs = ASTForAudioClassification.from_pretrained(folder)
    features = extractor(list(heard.numpy()), sampling_rate=16000, return_tensors="pt")
    with torch.inference_mode():
        expected = theirs(features["input_values"]).logits
        torch.testing.assert_close(loading.logits_of(model, heard), expected, atol=1e-4, rtol=1e-4)


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


def test_rotary_positions_can_be_trained_through_after_inference(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m", "wav2vec2-conformer", LABELS)
    model = loading.load_model(str(folder))
    heard = sounds(model, 0.25)
    with torch.inference_mode():
        loading.logits_of(model, heard)
    loading.logits_of(model.train(), heard).sum().backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("kind", ["rotary", "relative"])
def test_both_kinds_of_conformer_export(kind: str, tmp_path: Path) -> None:
    from transformers import AutoModelForAudioClassification

    from edgeprune.export.onnx import onnx_runner, to_onnx

    config = tiny_config("wav2vec2-conformer")
    config.position_embeddings_type = kind
    torch.manual_seed(0)
    made = AutoModelForAudioClassification.from_config(config)
    enliven(made)
    made.save_pretrained(tmp_path)
    model = loading.load_model(str(tmp_path))
    keep_layers(model, [0, 2])
    heard = sounds(model, 0.5)
    with torch.inference_mode():
        expected = torch.softmax(loading.logits_of(model, heard), dim=-1).numpy()
    run = onnx_runner(to_onnx(model, heard.shape[1], 17))
    for sample, scores in zip(heard.numpy(), expected, strict=True):
        np.testing.assert_allclose(run(sample[None])[0], scores, rtol=0, atol=1e-4)


def test_a_panns_checkpoint_loads_by_its_own_names(tmp_path: Path) -> None:
    """The names that PANNs' Cnn14_mAP=0.431.pth holds, its spectrogram's fixed tensors among them."""
    from safetensors.torch import save_file

    from edgeprune.nn.cnn14 import Cnn14Config, Cnn14ForAudioClassification

    config = Cnn14Config(channels=(4, 8, 8, 8, 8, 8), fc_size=8, num_labels=5)
    model = Cnn14ForAudioClassification(config)
    norms = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = {f"bn0.{part}" for part in norms}
    for block in range(1, 7):
        names |= {f"conv_block{block}.conv{i}.weight" for i in (1, 2)}
        names |= {f"conv_block{block}.bn{i}.{part}" for i in (1, 2) for part in norms}
    names |= {f"{layer}.{part}" for layer in ("fc1", "fc_audioset") for part in ("weight", "bias")}
    assert set(model.state_dict()) == names
    fixed = {"spectrogram_extractor.stft.conv_real.weight": torch.zeros(3),
             "logmel_extractor.melW": torch.zeros(3)}  # fmt: skip
    save_file({**model.state_dict(), **fixed}, tmp_path / "model.safetensors", {"format": "pt"})
    config.architectures = ["Cnn14ForAudioClassification"]
    config.save_pretrained(tmp_path)
    loaded = loading.load_model(str(tmp_path))
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_published_sizes_are_those_of_the_configs_defaults() -> None:
    from edgeprune.nn.cnn14 import Cnn14Config, Cnn14ForAudioClassification

    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cnn14 = Cnn14ForAudioClassification(Cnn14Config(num_labels=527))
        clap = ClapAudioForAudioClassification(ClapAudioConfig(num_labels=527))
        ast = ASTForAudioClassification(ASTConfig(num_labels=527))
    assert round(loading.count_parameters(cnn14) / 1e6, 1) == 80.8  # PANNs, Table XI: 80.8 M
    assert depth_of(clap.config) == 6
    assert depth_of(ast.config) == 12
