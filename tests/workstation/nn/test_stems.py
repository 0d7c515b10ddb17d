"""Stems: samples to the frames of a student."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny_recordings import RATE
from tiny_replacements import SMALL, make_student_model
from torch import nn

from edgeprune.nn.stems import STEMS, cnn_frames
from edgeprune.nn.student import StudentConfig


def test_the_cnn_is_the_posters() -> None:
    """As in torch.nn.Sequential(Conv1d(1, 16, 3), ReLU, MaxPool1d(5), Conv1d(16, 32, 3), ...)."""

    model = make_student_model("cnn")
    theirs = nn.Sequential(
        nn.Conv1d(1, 16, 3), nn.ReLU(), nn.MaxPool1d(5), nn.Conv1d(16, 32, 3), nn.ReLU(),
        nn.MaxPool1d(5),
    )  # fmt: skip
    assert theirs(torch.zeros(1, 1, RATE)).shape[2] == cnn_frames(RATE)
    sizes = [tuple(p.shape) for p in model.parameters() if p.dim() > 1]
    assert sizes == [(16, 1, 3), (32, 16, 3), (128, 32 * cnn_frames(RATE)), (3, 128)]


def stem_of(front_end: str, **options: int) -> Any:
    torch.manual_seed(0)
    config = StudentConfig(front_end=front_end, **{**SMALL, "frame_length": 400, "frame_step": 320,
                                                   **options})  # fmt: skip
    return STEMS[front_end](config).eval()


@pytest.mark.parametrize("front_end", ["log-mel", "mfcc", "waveform"])
@pytest.mark.parametrize("channels", [0, 2])
def test_frames_stand_a_step_apart_and_are_as_wide_as_the_student(
    front_end: str, channels: int
) -> None:
    """The waveform stem's filters move by half a step, and every second of them is a frame."""
    stem = stem_of(front_end, stem_channels=channels)
    with torch.inference_mode():
        found = stem(torch.randn(2, 8000) * 0.1)
    halves = (8000 - 400) // 160 + 1
    frames = (halves + 1) // 2 if front_end == "waveform" else (8000 - 400) // 320 + 1
    assert found.shape == (2, frames, SMALL["hidden_size"])
    assert float(found.min()) >= 0.0  # after a ReLU


@pytest.mark.parametrize("front_end", ["log-mel", "waveform", "cnn"])
def test_a_frame_follows_the_sound_in_time(front_end: str) -> None:
    """A click moves the frames around its place and no others."""
    cnn = {"hidden_size": 32} if front_end == "cnn" else {}
    stem = stem_of(front_end, **cnn)
    silence = torch.zeros(1, 8000)
    click = silence.clone()
    click[0, 2000] = 1.0
    with torch.inference_mode():
        moved = (stem(click) - stem(silence)).abs().sum(dim=2)[0].nonzero().flatten()
        frames = stem(silence).shape[1]
    assert len(moved)
    middle = 2000 / 8000 * frames
    assert abs(float(moved.float().mean()) - middle) < 2.0
    assert len(moved) <= 6


def test_the_bands_of_a_waveform_stem_are_the_energies_of_pairs_of_filters() -> None:
    stem, sound = stem_of("waveform"), torch.randn(1, 4000) * 0.1
    seen: list[torch.Tensor] = []
    stem.seam.register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.inference_mode():
        stem(sound)
    filters = stem.filters.weight.detach().numpy()[:, 0]
    frame = sound.numpy()[0, 160 * 3 : 160 * 3 + 400]
    pairs = (filters @ frame).reshape(2, -1)
    expected = np.log((pairs**2).sum(axis=0) + 1e-5)
    np.testing.assert_allclose(seen[0][0, :, 3].numpy(), expected, atol=1e-4)


def test_what_cannot_be_a_stem_is_refused() -> None:
    with pytest.raises(ValueError, match="an even frame_step, not 321"):
        stem_of("waveform", frame_step=321)
    with pytest.raises(ValueError, match="hidden_size must be 32 for cnn, not 16"):
        stem_of("cnn")
