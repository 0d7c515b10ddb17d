"""The deployed file: int8 that agrees, and thresholds set on what it answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import make_model
from tiny_recordings import RATE
from tiny_windows import LABELS, tone_windows
from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

from edgeprune.core.console import Silent
from edgeprune.core.deployment_settings import Quantize
from edgeprune.deployment.quantize import decision, empty_windows
from edgeprune.export.onnx import Scorer, agreement, onnx_runner, to_onnx
from edgeprune.models import loading
from edgeprune.quantization.dynamic_onnx import to_int8
from edgeprune_device.errors import EdgepruneError


def test_int8_is_smaller_and_agrees_where_the_weights_are_large(tmp_path: Path) -> None:
    config = Wav2Vec2Config(
        hidden_size=128, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4,
        conv_dim=(16, 16, 16), conv_stride=(5, 8, 8), conv_kernel=(10, 8, 8),
        num_feat_extract_layers=3, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
        classifier_proj_size=64, num_labels=3,
    )  # fmt: skip
    torch.manual_seed(0)
    Wav2Vec2ForSequenceClassification(config).save_pretrained(tmp_path)
    model = loading.load_model(str(tmp_path))
    data = to_onnx(model, 4000, 18)
    small = to_int8(data)
    assert len(small) < 0.5 * len(data)
    full, quick = onnx_runner(data), onnx_runner(small)
    for sample in tone_windows().samples:
        assert np.abs(full(sample[None]) - quick(sample[None])).max() < 0.02


def test_a_graph_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    first = loading.load_model(str(make_model(tmp_path / "a", "hubert", LABELS)))
    data = to_onnx(first, 4000, 18)
    assert agreement(onnx_runner(data), Scorer(first), tone_windows()) < 1e-4
    with torch.no_grad():
        first.classifier.weight.mul_(5)
    with pytest.raises(EdgepruneError, match="differs from torch") as error:
        agreement(onnx_runner(data), Scorer(first), tone_windows())
    assert error.value.status == 1


def test_exporting_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = loading.load_model(str(make_model(tmp_path / "m", "wav2vec2", LABELS)))
    names = list(model.state_dict())
    to_onnx(model, 4000, 18)
    assert list(model.state_dict()) == names
    loading.logits_of(model, torch.zeros(1, 4000))


def test_thresholds_cover_every_label_and_the_rule_is_the_recipes(tmp_path: Path) -> None:
    model = loading.load_model(str(make_model(tmp_path / "m", "kwt", LABELS)))
    rule = decision(
        onnx_runner(to_onnx(model, RATE, 18)), tone_windows(seconds=1.0), LABELS,
        Quantize(smoothing_windows=3, refractory_seconds=2.0), Silent(),
    )  # fmt: skip
    assert set(rule["thresholds"]) == set(LABELS)
    assert (rule["smoothing_windows"], rule["refractory_seconds"]) == (3, 2.0)


def test_where_no_label_means_nothing_no_threshold_is_low(tmp_path: Path) -> None:
    model = loading.load_model(str(make_model(tmp_path, "kwt", LABELS)))
    run = onnx_runner(to_onnx(model, RATE, 18))
    unaware = decision(run, tone_windows(seconds=1.0), LABELS, Quantize(), Silent())
    assert unaware["ignore"] == []
    assert min(unaware["thresholds"].values()) >= 0.8
    aware = decision(run, tone_windows(seconds=1.0), LABELS, Quantize(ignore=LABELS[:1]), Silent())
    assert aware["ignore"] == list(LABELS[:1])
    assert min(aware["thresholds"].values()) < 0.8


def test_windows_without_a_label_are_no_louder_than_the_clips_and_hold_no_whole_sound() -> None:
    clips = tone_windows()
    empty = empty_windows(clips)
    assert empty.shape == clips.samples.shape
    level = np.sqrt(np.mean(empty**2, axis=1) / np.mean(clips.samples**2, axis=1))
    assert 0 < level.min() < level.max() < 1.01
    for one, other in zip(empty, clips.samples, strict=True):
        likeness = np.abs(np.corrcoef(one, other)[0, 1])
        assert likeness < 0.9
