"""Mimics put in place of any span, in every family, or refused by the config alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from slow_cases import some_of
from tiny_models import FAMILY_NAMES, load_tiny, tiny_config
from tiny_recordings import RATE
from tiny_replacements import make_mimic_model

from edgeprune.core.settings import Mimic as Settings
from edgeprune.export.onnx import onnx_runner, to_onnx
from edgeprune.models import loading
from edgeprune.models.families import layers_of
from edgeprune.replacement.mimic_placement import (
    check_mimic,
    rows_of,
    span_of,
)
from edgeprune_device.errors import EdgepruneError

QUICK = Settings(width=8, epochs=2, label_epochs=1)


NEVER = ("clap_audio_model", "cnn14")
"""Families whose layers change width or resolution."""


@pytest.mark.parametrize("span", [(), (1, 2)], ids=["whole", "middle"])
@pytest.mark.parametrize(
    "family",
    some_of((name for name in FAMILY_NAMES if name not in NEVER),
            "wav2vec2", "wavlm", "audio-spectrogram-transformer", "kwt"),
)  # fmt: skip
def test_every_family_runs_reloads_and_exports_with_a_mimic(
    family: str, span: tuple[int, ...], sound: torch.Tensor, tmp_path: Path
) -> None:
    model = make_mimic_model(tmp_path / "m", family, span, kind="frame", layers=2)
    assert len(layers_of(model)) == (3 if span else 1)
    with torch.inference_mode():
        expected, states = loading.logits_and_states(model, sound)
    assert len(states) == len(layers_of(model)) + 1
    loading.save(model, tmp_path / "mimic")
    again = loading.load_model(str(tmp_path / "mimic"))
    with torch.inference_mode():
        torch.testing.assert_close(loading.logits_of(again, sound), expected, rtol=0, atol=0)
    data = to_onnx(again, RATE, 18)
    scores = expected.softmax(dim=-1).numpy()
    np.testing.assert_allclose(onnx_runner(data)(sound[:1].numpy())[0], scores[0], atol=1e-4)


@pytest.mark.parametrize("family", NEVER)
def test_a_family_whose_layers_differ_is_refused(family: str, tmp_path: Path) -> None:
    with pytest.raises(EdgepruneError, match="differ in width and resolution"):
        span_of(load_tiny(tmp_path / "m", family), ())


@pytest.mark.parametrize("kind", ["conv", "transformer", "none"])
def test_every_kind_stands_in_for_all_layers(
    kind: str, sound: torch.Tensor, tmp_path: Path
) -> None:
    model = make_mimic_model(tmp_path / "m", "wav2vec2", (), kind=kind, heads=2)
    loading.save(model, tmp_path / "mimic")
    again = loading.load_model(str(tmp_path / "mimic"))
    with torch.inference_mode():
        torch.testing.assert_close(
            loading.logits_of(again, sound), loading.logits_of(model, sound), rtol=0, atol=0
        )


@pytest.mark.parametrize("family", ["kwt", "audio-spectrogram-transformer"])
def test_a_class_token_hears_the_frames(family: str, sound: torch.Tensor, tmp_path: Path) -> None:
    """A frame-wise net alone would give every sound the same class token."""
    model = make_mimic_model(tmp_path / "m", family, (), kind="frame")
    with torch.inference_mode():
        logits = loading.logits_of(model, torch.stack([sound[0], sound[1] * 3]))
    assert (logits[0] - logits[1]).abs().max() > 1e-4


def test_nothing_in_place_of_all_layers_is_the_front_end_and_the_head(
    sound: torch.Tensor, tmp_path: Path
) -> None:
    model = make_mimic_model(tmp_path / "m", "wav2vec2", (), kind="none")
    base = model.wav2vec2
    with torch.inference_mode():
        features = base.feature_projection(base.feature_extractor(
            loading.prepare(model, sound)).transpose(1, 2))[0]  # fmt: skip
        plain = model.projector(base.encoder.layer_norm(features)).mean(dim=1)
        torch.testing.assert_close(
            loading.logits_of(model, sound), model.classifier(plain), rtol=0, atol=1e-6
        )


def test_what_holds_the_position_bias_goes_with_all_or_stays(tmp_path: Path) -> None:
    model = load_tiny(tmp_path / "m", "wavlm")
    assert span_of(model, ()) == (0, 3)
    assert span_of(model, (1, 3)) == (1, 3)
    with pytest.raises(EdgepruneError, match="parameters of layer 0 in models of type wavlm"):
        span_of(model, (0, 2))


@pytest.mark.parametrize("span", [(2, 2), (-1, 2), (1, 4), (1,), (0, 1, 2)])
def test_a_span_out_of_range_is_refused(span: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(EdgepruneError, match="is out of range for a model with 3 layers"):
        span_of(load_tiny(tmp_path / "m", "wav2vec2"), span)


def test_a_head_on_all_layers_states_is_refused(tmp_path: Path) -> None:
    model = load_tiny(tmp_path / "m", "hubert")
    model.config.use_weighted_layer_sum = True
    with pytest.raises(EdgepruneError, match="weighted sum of all hidden states"):
        span_of(model, ())


@pytest.mark.parametrize(
    ("family", "changes", "why"),
    [
        ("clap_audio_model", {}, "differ in width and resolution"),
        ("wav2vec2", {"span": (0, 4)}, r"mimic\.span = \[0, 4\] is out of range for a model with 3 layers"),
        ("wav2vec2", {"kind": "transformer", "width": 10, "heads": 4},
         "width = 10 is not a multiple of heads = 4"),
        ("wav2vec2", {"kind": "conv", "kernel": 4}, r"kernel = 4 is out of range \(allowed: odd numbers\)"),
        ("wavlm", {"span": (0, 2)}, "Later layers use parameters of layer 0"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_by_the_config_alone(
    family: str, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(EdgepruneError, match=why):
        check_mimic(tiny_config(family), replace(QUICK, **changes))
    check_mimic(tiny_config("wavlm"), QUICK)


def test_a_weighted_sum_may_stand_in_the_config_where_the_teacher_gets_another_head() -> None:
    config = tiny_config("hubert")
    config.use_weighted_layer_sum = True
    check_mimic(config, QUICK, head="mlp")
    with pytest.raises(EdgepruneError, match="weighted sum of all hidden states"):
        check_mimic(config, QUICK)


def test_of_a_model_that_an_earlier_step_shortens_only_what_is_sure_is_refused() -> None:
    check_mimic(tiny_config("wavlm"), replace(QUICK, span=(0, 2)), shortened=True)
    with pytest.raises(EdgepruneError, match=r"mimic\.span = \[0, 4\] is out of range"):
        check_mimic(tiny_config("wavlm"), replace(QUICK, span=(0, 4)), shortened=True)


def test_a_width_that_is_no_multiple_of_the_heads_is_refused_when_the_mimic_is_made(
    tmp_path: Path,
) -> None:
    with pytest.raises(
        EdgepruneError, match="The mimic cannot be built: width = 8 is not a multiple of heads = 3"
    ):
        make_mimic_model(tmp_path / "m", "wav2vec2", (), kind="transformer", heads=3)


def test_a_convolution_stays_within_its_row_of_ast_patches(
    sound: torch.Tensor, tmp_path: Path
) -> None:
    """Along time alone: what one band of frequencies holds changes no other band's frames."""
    model = make_mimic_model(
        tmp_path / "m", "audio-spectrogram-transformer", (), kind="conv", kernel=3
    )
    (part,) = layers_of(model)
    rows = rows_of(model.config)
    assert rows == 3  # 40 mel bands, patches of 16, 10 apart
    tokens = torch.randn(1, 2 + rows * 5, 16)
    changed = tokens.clone()
    changed[:, 2 + 5 : 2 + 10] += 1.0  # the middle row
    with torch.inference_mode():
        before, after = ((part(x) if not part.outputs else part(x)[0])[0, 2:]
                         for x in (tokens, changed))  # fmt: skip
    same = (before == after).all(dim=1).reshape(rows, 5).all(dim=1)
    assert same.tolist() == [True, False, True]
    loading.save(model, tmp_path / "again")
    again = loading.load_model(str(tmp_path / "again"))
    with torch.inference_mode():
        assert torch.equal(loading.logits_of(again, sound), loading.logits_of(model, sound))
    data = to_onnx(again, RATE, 18)
    with torch.inference_mode():
        scores = loading.logits_of(model, sound).softmax(dim=-1).numpy()
    np.testing.assert_allclose(onnx_runner(data)(sound[:1].numpy())[0], scores[0], atol=1e-4)
