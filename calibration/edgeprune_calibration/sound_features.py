"""Acoustic features that a calibration set must cover: level, crest factor, spectrum.

``select_clips`` selects clips by them; ``drift_audit`` tests whether they have shifted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BANDS = 16
LOWEST_HZ = 50.0
QUIETEST_DB = -120.0  # dB of full scale, for digital silence
FRAME_SECONDS = 0.032
NAMES = ("level", "crest", *(f"band {i + 1}" for i in range(BANDS)))
"""Names of the columns: level and crest factor in dB, then each band's share of the power in dB."""


def features(samples: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
    """Compute the features of a sound.

    Parameters
    ----------
    samples : array (n,)
        Mono samples in [-1, 1].
    sample_rate : int
        Sample rate in Hz.

    Returns
    -------
    array (18,)
        Level (root mean square, dB of full scale), crest factor (peak over root mean square, dB),
        and the power in 16 bands, evenly spaced in pitch from 50 Hz to half the sample rate, in dB
        relative to the whole. A silent sound has -120 everywhere.

    """
    sound = samples.astype(np.float64)
    power = float(np.mean(sound**2)) if len(sound) else 0.0
    level = _db(power)
    if level <= QUIETEST_DB:
        return np.full(len(NAMES), QUIETEST_DB)
    crest = _db(float(np.abs(sound).max()) ** 2) - level
    bands = band_powers(sound, sample_rate)
    shares = [_db(x / max(bands.sum(), 1e-30)) for x in bands]
    return np.array([level, crest, *shares])


def band_powers(sound: NDArray[np.float64], sample_rate: int) -> NDArray[np.float64]:
    """Return the power per band, (16,), averaged over half-overlapping Hann frames of 32 ms."""
    size = max(64, round(FRAME_SECONDS * sample_rate))
    if len(sound) < size:
        sound = np.pad(sound, (0, size - len(sound)))
    frames = np.lib.stride_tricks.sliding_window_view(sound, size)[:: size // 2]
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(size), axis=1)) ** 2
    power, hertz = spectrum.mean(axis=0), np.fft.rfftfreq(size, 1 / sample_rate)
    edges = np.geomspace(LOWEST_HZ, sample_rate / 2, BANDS + 1)
    place = np.searchsorted(edges, hertz, side="right").clip(0, BANDS) - 1
    # A band narrower than a spectral bin has none of its own and shares with its neighbour.
    total = np.bincount(place.clip(0), weights=power * (place >= 0), minlength=BANDS)
    number = np.bincount(place.clip(0), weights=(place >= 0).astype(float), minlength=BANDS)
    centres = np.sqrt(edges[1:] * edges[:-1])
    known = number > 0
    density = np.interp(centres, centres[known], total[known] / number[known])
    return np.asarray(density * np.diff(edges), dtype=np.float64)


def cut(samples: NDArray[np.float32], window_samples: int) -> list[NDArray[np.float32]]:
    """Split a sound into adjacent whole windows; a shorter sound is returned unchanged."""
    if len(samples) <= window_samples:
        return [samples]
    return [samples[i : i + window_samples]
            for i in range(0, len(samples) - window_samples + 1, window_samples)]  # fmt: skip


def standardised(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standardize the features; level, crest factor and the whole spectrum get equal weight.

    Parameters
    ----------
    table : array (n, 18)
        Features.

    Returns
    -------
    array (n, 18)
        Minus the mean, divided by the standard deviation; bands are also divided by 4, the square
        root of their number.

    """
    spread = np.maximum(table.std(axis=0), 1e-9)
    weight = np.ones(table.shape[1])
    weight[2:] = BANDS**-0.5
    return np.asarray((table - table.mean(axis=0)) / spread * weight, dtype=np.float64)


def _db(power: float) -> float:
    return max(QUIETEST_DB, 10 * float(np.log10(max(power, 1e-12))))
