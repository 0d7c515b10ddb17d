"""Front ends in torch hold the features that transformers' own extractors make."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from transformers import (
    ASTFeatureExtractor,
    ClapFeatureExtractor,
    SeamlessM4TFeatureExtractor,
    WhisperFeatureExtractor,
)

from edgeprune.nn.log_mel import (
    LogMel,
    frames_in,
)
from edgeprune.nn.spectrogram_specs import (
    SPECS,
    spec_from_extractor,
)
from edgeprune_device.errors import EdgepruneError

Sound = NDArray[np.float32]


def sound(samples: int, rate: int) -> Sound:
    """A chirp, a click and noise that swells: quiet and loud, low and high."""
    generator = np.random.default_rng(0)
    time = np.arange(samples) / rate
    chirp = 0.3 * np.sin(2 * np.pi * (200 + 0.2 * rate * time / time[-1]) * time)
    noise = generator.standard_normal(samples) * np.geomspace(1e-4, 0.3, samples)
    made = chirp * (time > time[-1] / 3) + noise + 0.02
    made[samples // 2] = 0.9
    return np.asarray(made, dtype=np.float32)


def ast(x: Sound, **options: Any) -> NDArray[np.float32]:
    with warnings.catch_warnings():  # two of its 128 filters are empty
        warnings.simplefilter("ignore")
        extractor = ASTFeatureExtractor(**options)
    return np.asarray(extractor(x, sampling_rate=16000)["input_values"][0])


def whisper(x: Sound, room: int, **options: Any) -> NDArray[np.float32]:
    extractor = WhisperFeatureExtractor(**options)
    return np.asarray(extractor(x, sampling_rate=16000, max_length=room)["input_features"][0])


def seamless(x: Sound) -> NDArray[np.float32]:
    made = SeamlessM4TFeatureExtractor()(x, sampling_rate=16000)
    heard = np.asarray(made["attention_mask"][0]) == 1
    return np.asarray(made["input_features"][0][heard], dtype=np.float32)


def clap(x: Sound, seconds: float, truncation: str) -> NDArray[np.float32]:
    extractor = ClapFeatureExtractor(truncation=truncation)
    made = extractor(x, sampling_rate=48000, max_length=round(seconds * 48000))
    return np.asarray(made["input_features"][0][:1])


def panns(x: Sound) -> NDArray[np.float32]:
    """torchlibrosa's Spectrogram and LogmelFilterBank as PANNs calls them, by numpy's FFT."""
    from transformers.audio_utils import mel_filter_bank

    mel = mel_filter_bank(513, 64, 50, 14000, 32000, norm="slaney", mel_scale="slaney")
    padded = np.pad(x.astype(np.float64), 512, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, 1024)[::320]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    power = np.abs(np.fft.rfft(frames * hann)) ** 2
    decibels: Sound = (10 * np.log10(np.maximum(power @ mel, 1e-10))).astype(np.float32)
    return decibels[None, :, :]


CASES: dict[str, tuple[str, int, dict[str, Any], int, Callable[[Sound], NDArray[np.float32]]]] = {
    # kind, samples, what the checkpoint's extractor says, room, the oracle
    "ast shorter than its window": ("ast", 16000, {}, 1024, ast),
    "ast cut": ("ast", 16000, {}, 50, lambda x: ast(x, max_length=50)),
    "ast of other means": (
        "ast", 17001, {"mean": -6.8, "std": 5.5, "num_mel_bins": 64}, 105,
        lambda x: ast(x, mean=-6.8, std=5.5, num_mel_bins=64, max_length=105),
    ),
    "ast not normalised": (
        "ast", 16000, {"do_normalize": False}, 98,
        lambda x: ast(x, do_normalize=False, max_length=98),
    ),
    "whisper": ("whisper", 16000, {}, 16000, lambda x: whisper(x, 16000)),
    "whisper filled up": ("whisper", 15000, {}, 48000, lambda x: whisper(x, 48000)),
    "whisper large": (
        "whisper", 16000, {"feature_size": 128}, 16000,
        lambda x: whisper(x, 16000, feature_size=128),
    ),
    "seamless, even": ("seamless", 16000, {}, 0, seamless),
    "seamless, odd": ("seamless", 16200, {}, 0, seamless),
    "clap": ("clap", 48000, {}, 480000, lambda x: clap(x, 10.0, "rand_trunc")),
    "clap fused": (
        "clap", 50000, {"truncation": "fusion"}, 120000, lambda x: clap(x, 2.5, "fusion"),
    ),
    "panns": ("panns", 32000, {}, 0, panns),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_front_end_gives_what_the_feature_extractor_gives(name: str) -> None:
    kind, samples, stated, room, oracle = CASES[name]
    recipe = spec_from_extractor(kind, stated)
    x = sound(samples, recipe.sampling_rate)
    expected = oracle(x)
    found = LogMel(recipe, room)(torch.from_numpy(x)[None])[0].numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-4 * np.ptp(expected)


def to_onnx(frontend: LogMel, x: torch.Tensor, opset: int) -> Any:
    buffer: Any = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(frontend.eval(), (x,), buffer, input_names=["x"], opset_version=opset,
                          dynamo=False)  # fmt: skip
    return onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("opset", [17, 18])
@pytest.mark.parametrize("kind", SPECS)
def test_a_front_end_exports(kind: str, opset: int) -> None:
    recipe = SPECS[kind]
    x = torch.from_numpy(sound(recipe.sampling_rate // 2, recipe.sampling_rate))[None]
    room = {"ast": 60, "whisper": 16000, "clap": 30000}.get(kind, 0)
    frontend = LogMel(recipe, room)
    expected = frontend(x).numpy()
    found = to_onnx(frontend, x, opset).run(None, {"x": x.numpy()})[0]
    assert np.abs(found - expected).max() <= 1e-4 * np.ptp(expected)


@pytest.mark.parametrize("kind", SPECS)
def test_a_front_end_is_neither_counted_nor_saved(kind: str) -> None:
    frontend = LogMel(SPECS[kind])
    assert not list(frontend.parameters())
    assert not frontend.state_dict()


@pytest.mark.parametrize("kind", ["ast", "seamless", "panns"])
def test_the_number_of_frames_is_known_beforehand(kind: str) -> None:
    recipe = SPECS[kind]
    for samples in (recipe.sampling_rate, recipe.sampling_rate + 200, 8001):
        made = LogMel(recipe)(torch.from_numpy(sound(samples, recipe.sampling_rate))[None])
        assert made.shape[-2] == frames_in(samples, recipe)


def test_only_the_bins_that_a_filter_reads_are_computed() -> None:
    kernel = LogMel(SPECS["clap"]).kernel
    assert kernel.shape == (2 * 298, 1, 1024)  # 14 of 24 kHz, without the bin of 0 Hz


def test_a_window_without_a_frame_is_refused() -> None:
    with pytest.raises(EdgepruneError, match=r"0.0244 s is too short.*at least 0.025 s"):
        LogMel(SPECS["ast"])(torch.zeros(1, 390))


def test_a_window_longer_than_the_model_takes_is_refused() -> None:
    with pytest.raises(EdgepruneError, match=r"at most 1 s, not 1.5 s"):
        LogMel(SPECS["whisper"], 16000)(torch.zeros(1, 24000))
