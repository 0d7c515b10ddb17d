"""Convolutions as matrix products over rows: the same numbers as torch's own, by other means."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from transformers import Wav2Vec2Config
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2FeatureEncoder

from edgeprune.nn.strided_conv import (
    FirstConv,
    StridedConv,
    WaveformEncoder,
    cosines,
    fits,
    frames_of,
)


def encoder(norm: str, **given: object) -> Wav2Vec2FeatureEncoder:
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        conv_dim=(12, 8, 10, 6), conv_kernel=(10, 3, 3, 2), conv_stride=(5, 2, 2, 2),
        num_feat_extract_layers=4, feat_extract_norm=norm, conv_bias=norm == "layer", **given,
    )  # fmt: skip
    made = Wav2Vec2FeatureEncoder(config).eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "layer_norm" in name:
                parameter.uniform_(0.5, 1.5)
    return made


@given(
    kernel=st.integers(1, 12),
    stride=st.integers(1, 6),
    frames=st.integers(1, 9),
    bias=st.booleans(),
)
def test_a_strided_convolution_is_linear_layers_over_rows(
    kernel: int, stride: int, frames: int, bias: bool
) -> None:
    torch.manual_seed(kernel * 100 + stride)
    conv = nn.Conv1d(3, 4, kernel, stride, bias=bias)
    new = StridedConv(conv, frames)
    x = torch.randn(1, new.frames_in, 3)
    expected = conv(x.transpose(1, 2)).transpose(1, 2)[:, :frames]
    torch.testing.assert_close(new(x), expected, rtol=1e-5, atol=1e-5)


def test_the_cosines_are_an_orthonormal_basis() -> None:
    torch.testing.assert_close(cosines(10) @ cosines(10).T, torch.eye(10, dtype=torch.float64))


@pytest.mark.parametrize("sound", ["noise", "rumble over a whisper", "an offset", "silence"])
def test_the_first_norm_follows_from_the_frames_covariance(sound: str) -> None:
    torch.manual_seed(1)
    conv, norm = nn.Conv1d(1, 6, 10, 5, bias=False), nn.GroupNorm(6, 6)
    with torch.no_grad():  # a channel that hears high tones alone
        conv.weight[0, 0] = torch.tensor([1.0, -4, 6, -4, 1, 1, -4, 6, -4, 1]) / 5
        norm.weight.uniform_(0.5, 2)
        norm.bias.uniform_(-1, 1)
    time = torch.arange(16000, dtype=torch.float64) / 16000
    noise = torch.randn(16000, dtype=torch.float64)
    samples = {
        "noise": noise,
        "rumble over a whisper": 100 * torch.sin(2 * math.pi * 30 * time) + 0.01 * noise,
        "an offset": 50 + noise,
        "silence": torch.zeros(16000, dtype=torch.float64),
    }[sound].float()[None]
    total = frames_of([conv], 16000)[0]
    with torch.no_grad():
        found = FirstConv(conv, norm, total, total)(samples)[0].T
        frames = functional.conv1d(samples.double()[None], conv.weight.double(), stride=5)
        expected = functional.group_norm(frames, 6, norm.weight.double(), norm.bias.double())[0]
        torchs = norm(conv(samples[None]))[0]
    off = (found - expected).abs().max()
    assert off < 5e-4 or off < 10 * (torchs - expected).abs().max()  # 80 dB are hard on float32


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("window", [250, 1000, 1011, 4000])
def test_a_whole_encoder_hears_what_transformers_hears(norm: str, window: int) -> None:
    old = encoder(norm)
    samples = torch.randn(1, window)
    with torch.no_grad():
        expected = old(samples)
        found = WaveformEncoder(old, window)(samples)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)


def test_frames_that_nobody_looks_at_are_not_computed() -> None:
    old = encoder("group")
    new = WaveformEncoder(old, 1011)
    whole = frames_of([layer.conv for layer in old.conv_layers], 1011)
    assert new.frames == whole[-1]
    frames = [int(conv.frames) for conv in new.convs]  # type: ignore[arg-type]
    assert all(some <= every for some, every in zip(frames, whole[1:], strict=True))
    assert new.first.frames <= whole[0] + 2  # whole rows, at most a stride more


def test_convolutions_of_another_make_are_left_alone() -> None:
    assert fits(encoder("group"))
    assert fits(encoder("layer"))
    grouped = encoder("group")
    grouped.conv_layers[1].conv = nn.Conv1d(12, 8, 3, 2, groups=2)
    assert not fits(grouped)
    padded = encoder("group")
    padded.conv_layers[1].conv = nn.Conv1d(12, 8, 3, 2, padding=1)
    assert not fits(padded)
    assert not fits(nn.Identity())
