"""Waveform augmentation: shift, speed, gain, noise and masks, determined by a random generator.

Each batch is augmented on the device it is trained on. The same generator state gives the same
batch, so that an interrupted training resumes exactly.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from edgeprune.core.settings import Augment

USUAL = Augment()
PIECES = 16  # number of pieces of a scrambled window


def augment(
    samples: Tensor, sample_rate: int, generator: torch.Generator, how: Augment = USUAL
) -> Tensor:
    """Augment windows of samples.

    Parameters
    ----------
    samples : Tensor (batch, window)
        Samples in [-1, 1].
    sample_rate : int
        Sample rate in Hz.
    generator : torch.Generator
        CPU generator of all random numbers.
    how : Augment
        Range of each augmentation.

    Returns
    -------
    Tensor (batch, window)
        Windows with changed speed, shift and gain; some with noise whose spectrum falls by 0 to
        6 dB per octave; some with a stretch of time and a frequency band silenced.

    """
    sped = change_speed(samples, _uniform(1, how.speed, generator).item())
    shifted = shift(sped, round(how.shift_seconds * sample_rate), generator)
    noisy = add_noise(shifted, generator, how.noise_share, how.noise_snr_db)
    gain = 10 ** (_uniform(len(samples), how.gain_db, generator) / 20)
    louder = noisy * gain.to(samples.device)[:, None]
    return mask(louder, sample_rate, generator, how) if how.mask_share else louder


def mask(samples: Tensor, sample_rate: int, generator: torch.Generator, how: Augment) -> Tensor:
    """Silence one stretch of time and one frequency band in some windows.

    SpecAugment (Park et al. 2019, arXiv 1904.08779) applied to samples, so that it works with every
    front end; bands are drawn on the mel scale.
    """
    count, length = samples.shape
    chosen = (torch.rand(count, generator=generator) < how.mask_share).to(samples.device)
    start, stop = _stretch(count, how.mask_time, generator)
    time = torch.arange(length) / length
    out = samples * ~((time >= start) & (time < stop)).to(samples.device)
    low, high = _stretch(count, how.mask_band, generator)
    frequency = torch.linspace(0, sample_rate / 2, length // 2 + 1)
    mel = torch.log1p(frequency / 700) / math.log1p(sample_rate / 2 / 700)
    spectrum = torch.fft.rfft(out) * ~((mel >= low) & (mel < high)).to(samples.device)
    masked = torch.fft.irfft(spectrum, n=length)
    return torch.where(chosen[:, None], masked, samples)


def _stretch(count: int, most: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw intervals (count, 1) within 0..1, each up to ``most`` long."""
    width = torch.rand(count, 1, generator=generator) * most
    start = torch.rand(count, 1, generator=generator) * (1 - width)
    return start, start + width


def background_windows(samples: Tensor, generator: torch.Generator) -> Tensor:
    """Make windows without any label: noise, scrambled pieces of a sound, or its edge.

    Parameters
    ----------
    samples : Tensor (n, window)
        Windows of labelled sound; each becomes one of the three.
    generator : torch.Generator
        CPU generator of all random numbers.

    Returns
    -------
    Tensor (n, window)

    """
    count, length = samples.shape
    if not count:
        return samples
    level = samples.square().mean(dim=1, keepdim=True).clamp_min(1e-10).sqrt()
    noise = coloured_noise(count, length, generator).to(samples.device) * level
    piece = length // PIECES
    order = torch.rand(count, PIECES, generator=generator).argsort(dim=1).to(samples.device)
    pieces = samples[:, : piece * PIECES].reshape(count, PIECES, piece)
    mixed = pieces.gather(1, order[:, :, None].expand(-1, -1, piece)).flatten(1)
    scrambled = functional.pad(mixed, (0, length - piece * PIECES))
    edge = shift_out(samples, _uniform(count, (0.55, 0.8), generator), generator)
    kind = torch.randint(0, 3, (count, 1), generator=generator).to(samples.device)
    return torch.where(kind == 0, noise, torch.where(kind == 1, scrambled, edge))


def shift_out(samples: Tensor, share: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each window's sound out of it by a share of its length, to the left or the right."""
    count, length = samples.shape
    side = torch.randint(0, 2, (count,), generator=generator) * 2 - 1
    moves = (share * length).long() * side
    return _moved(samples, moves[:, None].to(samples.device))


def change_speed(samples: Tensor, factor: float) -> Tensor:
    """Change the playback speed (factor over 1: faster), keeping the length and the centre."""
    length = samples.shape[-1]
    count = round(length / factor)
    stretched = functional.interpolate(samples[:, None], size=count, mode="linear")[:, 0]
    spare = length - count
    left = spare // 2 if spare >= 0 else -((-spare) // 2)
    return functional.pad(stretched, (left, spare - left))


def shift(samples: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Shift each window by a random number of samples, up to ``most`` either way, zero-padded."""
    batch = len(samples)
    moves = torch.randint(-most, most + 1, (batch, 1), generator=generator).to(samples.device)
    return _moved(samples, moves)


def _moved(samples: Tensor, moves: Tensor) -> Tensor:
    length = samples.shape[-1]
    index = torch.arange(length, device=samples.device)[None, :] - moves
    inside = (index >= 0) & (index < length)
    return samples.gather(1, index.clamp(0, length - 1)) * inside


def add_noise(
    samples: Tensor, generator: torch.Generator, share: float, snr_db: tuple[float, float]
) -> Tensor:
    """Add coloured noise to a share of the windows, at a random signal-to-noise ratio in dB."""
    batch, length = samples.shape
    noise = coloured_noise(batch, length, generator).to(samples.device)
    level = samples.square().mean(dim=1).clamp_min(1e-10).sqrt()
    snr = _uniform(batch, snr_db, generator)
    chosen = torch.rand(batch, generator=generator) < share
    scale = level * (10 ** (-snr / 20) * chosen).to(samples.device)
    return samples + noise * scale[:, None]


def coloured_noise(batch: int, length: int, generator: torch.Generator) -> Tensor:
    """Make noise (batch, length) of unit power whose spectrum falls by 0 to 6 dB per octave."""
    spectrum = torch.fft.rfft(torch.randn(batch, length, generator=generator))
    slope = _uniform(batch, (0.0, 1.0), generator)
    frequency = torch.arange(spectrum.shape[-1]).clamp_min(1).float()
    noise = torch.fft.irfft(spectrum * frequency[None, :] ** -slope[:, None], n=length)
    level: Tensor = noise.square().mean(dim=1, keepdim=True).sqrt()
    unit: Tensor = noise / level
    return unit


def _uniform(count: int, bounds: tuple[float, float], generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator) * (bounds[1] - bounds[0]) + bounds[0]
