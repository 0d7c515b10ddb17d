"""Models known by name: their front ends are the ones their makers describe."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import torch
from mlperf_features import mel, mfcc

from edgeprune.deployment.known_models import KINDS, cosines, mel_bands
from edgeprune_device.bundle.spectrogram import compute, features_of


def test_the_keyword_front_end_is_the_one_mlperf_describes() -> None:
    kind = KINDS["mlperf-keywords"]
    rng = np.random.default_rng(0)
    for level in (1.0, 0.01):
        samples = (level * rng.standard_normal(16000) * np.hanning(16000)).astype(np.float32)
        found = compute(samples, features_of(kind.extras["frontend"]), kind.arrays)
        assert found.shape == (49, 10)
        assert np.abs(found - mfcc(samples)).max() < 1e-3
    silence = compute(
        np.zeros(16000, np.float32), features_of(kind.extras["frontend"]), kind.arrays
    )
    assert np.isfinite(silence).all()


def test_the_wake_word_front_end_is_the_one_mlperf_describes() -> None:
    kind = KINDS["mlperf-wakeword"]
    samples = np.random.default_rng(1).standard_normal(16000).astype(np.float32) * 0.1
    found = compute(samples, features_of(kind.extras["frontend"]), kind.arrays)
    sound = torch.tensor(samples, dtype=torch.float64)
    sound = sound - (1 - 2**-5) * torch.cat([torch.zeros(1), sound[:-1]])
    frames = sound.unfold(0, 1024, 512) * torch.hamming_window(1024, False, dtype=torch.float64)
    powers = (torch.fft.rfft(frames).abs() ** 2 / 1024).numpy()
    bands = 10 * np.log10(powers @ kind.arrays["frontend/bands.npy"])
    assert found.shape == (30, 40)
    assert np.abs(found - np.clip((bands + 52) / 64, 0, 1)).max() < 1e-5


@pytest.mark.parametrize("name", [name for name in KINDS if name])
def test_a_kind_says_what_the_recorder_must_know(name: str) -> None:
    kind = KINDS[name]
    assert kind.sample_rate == 16000
    assert 0 < kind.hop_samples <= kind.window_samples
    assert set(kind.ignore) | set(kind.speech) <= set(kind.labels)
    assert set(kind.labels) - set(kind.ignore), "nothing would ever be reported"


@pytest.mark.parametrize("name", ["mlperf-keywords", "mlperf-wakeword"])
def test_a_front_end_names_the_arrays_that_come_with_it_and_their_sizes_fit(name: str) -> None:
    kind = KINDS[name]
    asked = kind.extras["frontend"]
    arrays = {
        part: kind.arrays[asked[part]] for part in ("window", "bands", "cosines") if part in asked
    }
    assert set(kind.arrays) == {asked[part] for part in arrays}
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
    assert len(arrays["window"]) <= asked["fft"]
    assert arrays["bands"].shape[0] == asked["fft"] // 2 + 1
    if "cosines" in arrays:
        assert arrays["cosines"].shape[0] == arrays["bands"].shape[1]


def test_mel_bands_are_triangles_that_meet_at_each_others_middles() -> None:
    """By hand: between the first and the last middle, the rising and the falling edge add up to 1."""
    bands = mel_bands(8, 512, 16000, 100.0, 6000.0)
    hertz = np.linspace(0, 8000, 257)
    edges = np.array([mel(100.0) + (mel(6000.0) - mel(100.0)) * i / 9 for i in range(10)])
    mels = np.array([mel(h) for h in hertz])
    inside = (mels >= edges[1]) & (mels <= edges[8])
    np.testing.assert_allclose(bands[inside].sum(axis=1), 1.0, atol=1e-5)
    assert not bands[(mels < edges[0]) | (mels > edges[-1])].any()
    assert not bands[0].any(), "the constant part belongs to no band"


def test_the_cosines_are_scipys_transform_scaled() -> None:
    bands = np.random.default_rng(0).standard_normal((3, 40))
    expected = scipy.fft.dct(bands, type=2, axis=1)[:, :10] / np.sqrt(80)
    np.testing.assert_allclose(bands @ cosines(40, 10), expected, atol=1e-5)
