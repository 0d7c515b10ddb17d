"""Spectrogram models: fitted to a window, recorded in the config, refused where they cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from model_sounds import sounds
from tiny_models import make_model
from tiny_recordings import TONES
from transformers import (
    ASTFeatureExtractor,
    ASTForAudioClassification,
    ClapAudioConfig,
)

from edgeprune.models import loading
from edgeprune.models.checkpoints import read_config
from edgeprune.models.input_length import FITS, check_window, resize_input
from edgeprune.nn.spectrogram_specs import (
    record_of,
    spec_from_extractor,
    spec_from_record,
)
from edgeprune_device.errors import EdgepruneError

LABELS = tuple(TONES)
FITTED = ("audio-spectrogram-transformer", "whisper", "clap_audio_model")


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


@pytest.mark.parametrize(
    ("family", "seconds", "message"),
    [
        ("whisper", 3.0, r"at most 2 s, not 3 s"),
        ("clap_audio_model", 3.0, r"at most 2.5 s, not 3 s"),
        ("audio-spectrogram-transformer", 0.1, r"0.1 s has 8 frames.*at least 0.175 s"),
        ("wav2vec2-bert", 0.02, r"0.02 s is too short.*at least 0.035 s"),
    ],
)
def test_a_window_that_a_model_cannot_take_is_refused_before_any_weight_is_read(
    family: str, seconds: float, message: str, tmp_path: Path
) -> None:
    config = read_config(str(make_model(tmp_path / "m", family, LABELS)))
    with pytest.raises(EdgepruneError, match=message):
        check_window(config, round(seconds * config.sampling_rate))


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


@pytest.mark.parametrize("family", ["wav2vec2", "sew", "hubert"])
def test_such_a_window_is_refused_before_anything_is_trained(tmp_path: Path, family: str) -> None:
    config = read_config(str(make_model(tmp_path / "m", family, LABELS)))
    check_window(config, 450)  # 10 samples, then 7 steps of 5, then 7 of 40: 10 + 35 + 280 = 325
    check_window(config, 325)
    with pytest.raises(
        EdgepruneError, match=r"324 samples is too short for .* \(at least 325 samples\)"
    ):
        check_window(config, 324)
