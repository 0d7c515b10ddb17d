"""Training-time changes of sound: shift, speed, gain, noise. Pure functions of a seed.

Each batch is changed on the device it trains on; the same generator state gives the same batch,
so that an interrupted training goes on as if it had not been.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SHIFT_SECONDS = 0.1
SPEED_RANGE = (0.9, 1.1)
GAIN_RANGE_DB = (-8.0, 4.0)
NOISE_SNR_RANGE_DB = (5.0, 40.0)
NOISE_SHARE = 0.5  # of the windows get noise
PIECES = 16  # a window is cut into so many to be scrambled


def augment(samples: Tensor, sample_rate: int, generator: torch.Generator) -> Tensor:
    """Change windows as the field would.

    Parameters
    ----------
    samples : Tensor (batch, window)
        In [-1, 1].
    sample_rate : int
        Hz.
    generator : torch.Generator
        On the CPU; decides everything.

    Returns
    -------
    Tensor (batch, window)
        Shifted by up to 0.1 s, 0.9 to 1.1 times as fast, louder or softer, half of them in noise
        whose spectrum falls by 0 to 6 dB an octave.

    """
    sped = change_speed(samples, _uniform(1, SPEED_RANGE, generator).item())
    shifted = shift(sped, round(SHIFT_SECONDS * sample_rate), generator)
    noisy = add_noise(shifted, generator)
    gain = 10 ** (_uniform(len(samples), GAIN_RANGE_DB, generator) / 20)
    return noisy * gain.to(samples.device)[:, None]


def nothing(samples: Tensor, generator: torch.Generator) -> Tensor:
    """Make windows in which no label is: noise, the pieces of a sound out of order, or its edge.

    Parameters
    ----------
    samples : Tensor (n, window)
        Windows of labelled sound; each becomes one of the three.
    generator : torch.Generator
        On the CPU; decides everything.

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
    edge = roll_out(samples, _uniform(count, (0.55, 0.8), generator), generator)
    kind = torch.randint(0, 3, (count, 1), generator=generator).to(samples.device)
    return torch.where(kind == 0, noise, torch.where(kind == 1, scrambled, edge))


def roll_out(samples: Tensor, share: Tensor, generator: torch.Generator) -> Tensor:
    """Push each window's sound out of it by a share of its length, to the left or the right."""
    count, length = samples.shape
    side = torch.randint(0, 2, (count,), generator=generator) * 2 - 1
    moves = (share * length).long() * side
    return _moved(samples, moves[:, None].to(samples.device))


def change_speed(samples: Tensor, factor: float) -> Tensor:
    """Play windows faster (factor over 1) or slower, keeping their length and their middle."""
    length = samples.shape[-1]
    count = round(length / factor)
    stretched = functional.interpolate(samples[:, None], size=count, mode="linear")[:, 0]
    spare = length - count
    left = spare // 2 if spare >= 0 else -((-spare) // 2)
    return functional.pad(stretched, (left, spare - left))


def shift(samples: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Move each window by its own number of samples, up to ``most`` either way, filling zeros."""
    batch = len(samples)
    moves = torch.randint(-most, most + 1, (batch, 1), generator=generator).to(samples.device)
    return _moved(samples, moves)


def _moved(samples: Tensor, moves: Tensor) -> Tensor:
    length = samples.shape[-1]
    index = torch.arange(length, device=samples.device)[None, :] - moves
    inside = (index >= 0) & (index < length)
    return samples.gather(1, index.clamp(0, length - 1)) * inside


def add_noise(samples: Tensor, generator: torch.Generator) -> Tensor:
    """Add coloured noise to half of the windows, 5 to 40 dB under their own level."""
    batch, length = samples.shape
    noise = coloured_noise(batch, length, generator).to(samples.device)
    level = samples.square().mean(dim=1).clamp_min(1e-10).sqrt()
    snr = _uniform(batch, NOISE_SNR_RANGE_DB, generator)
    chosen = torch.rand(batch, generator=generator) < NOISE_SHARE
    scale = level * (10 ** (-snr / 20) * chosen).to(samples.device)
    return samples + noise * scale[:, None]


def coloured_noise(batch: int, length: int, generator: torch.Generator) -> Tensor:
    """Make noise (batch, length) of unit power whose spectrum falls by 0 to 6 dB an octave."""
    spectrum = torch.fft.rfft(torch.randn(batch, length, generator=generator))
    slope = _uniform(batch, (0.0, 1.0), generator)
    frequency = torch.arange(spectrum.shape[-1]).clamp_min(1).float()
    noise = torch.fft.irfft(spectrum * frequency[None, :] ** -slope[:, None], n=length)
    level: Tensor = noise.square().mean(dim=1, keepdim=True).sqrt()
    unit: Tensor = noise / level
    return unit


def _uniform(count: int, bounds: tuple[float, float], generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator) * (bounds[1] - bounds[0]) + bounds[0]
