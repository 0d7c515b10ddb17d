"""What training does to sound: repeatable, of the same shape, and nothing where nothing is meant."""

from __future__ import annotations

import pytest
import torch
from tiny_recordings import TONES, tone

from edgeprune.core.settings import Augment
from edgeprune.data.augment import (
    augment,
    background_windows,
    change_speed,
    coloured_noise,
    mask,
    shift,
    shift_out,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sounds(count: int = 12) -> torch.Tensor:
    pitches = list(TONES.values())
    return torch.stack([torch.from_numpy(tone(pitches[i % 3], 0.5, i)) for i in range(count)])


def test_the_same_generator_gives_the_same_batch_and_another_seed_another() -> None:
    first, second = (augment(sounds(), 16000, seeded(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, augment(sounds(), 16000, seeded(4)))
    assert first.shape == sounds().shape


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1])
def test_speed_changes_the_pitch_and_keeps_the_length(factor: float) -> None:
    wave = torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 16000)[None]
    sped = change_speed(wave, factor)
    assert sped.shape == wave.shape
    middle = sped[0, 2000:14000] * torch.hann_window(12000)
    hertz = float(torch.fft.rfft(middle).abs().argmax()) * 16000 / 12000
    assert hertz == pytest.approx(1000 * factor, rel=0.01)


def test_a_shift_moves_sound_and_fills_with_zeros() -> None:
    ramp = torch.arange(1.0, 101.0)[None].repeat(50, 1)
    for row in shift(ramp, 10, seeded()):
        kept = row[row > 0]
        assert len(kept) >= 90
        assert torch.equal(kept, torch.arange(kept[0], kept[0] + len(kept)))


@pytest.mark.parametrize("share", [0.55, 0.8])
def test_a_sound_is_pushed_out_by_its_share(share: float) -> None:
    left = (shift_out(torch.ones(20, 1000), torch.full((20,), share), seeded()) > 0).sum(dim=1)
    assert left.tolist() == [round(1000 * (1 - share))] * 20


def test_noise_has_unit_power() -> None:
    noise = coloured_noise(8, 16000, seeded())
    torch.testing.assert_close(noise.square().mean(dim=1), torch.ones(8))


def test_nothing_holds_no_whole_sound_and_an_empty_batch_stays_empty() -> None:
    heard = sounds(60)
    empty = background_windows(heard, seeded())
    assert empty.shape == heard.shape
    assert torch.isfinite(empty).all()
    likeness = torch.cosine_similarity(empty, heard, dim=1).abs()
    assert likeness.max() < 0.9
    assert background_windows(heard[:0], seeded()).shape == (0, 8000)


def test_a_mask_silences_a_stretch_of_time_and_a_band_and_nothing_else() -> None:
    noise = coloured_noise(40, 8000, seeded())
    time = Augment(mask_share=1.0, mask_time=0.3, mask_band=0.0)
    silent = (mask(noise, 16000, seeded(1), time).abs() < 1e-6).sum(dim=1) / 8000
    assert 0.1 < float(silent.mean()) < 0.2  # uniform up to 0.3
    assert float(silent.max()) <= 0.301
    band = mask(noise, 16000, seeded(1), Augment(mask_share=1.0, mask_time=0.0, mask_band=0.5))
    before, after = (torch.fft.rfft(x).abs() for x in (noise, band))
    gone = after < 1e-3 * before
    edges = gone.int().diff(dim=1).abs().sum(dim=1)
    assert int(edges.max()) <= 2  # one band
    torch.testing.assert_close(after[~gone], before[~gone], rtol=1e-3, atol=1e-3)


def test_without_a_share_no_window_is_masked() -> None:
    off = Augment(
        mask_share=0.0, noise_share=0.0, gain_db=(0.0, 0.0), shift_seconds=0.0, speed=(1.0, 1.0)
    )
    torch.testing.assert_close(augment(sounds(), 16000, seeded(), off), sounds())
