"""What a calibration set must cover of a sound, in numbers: level, peakedness, spectrum. Pure.

``select`` spreads its picks over these, ``audit`` asks whether they have moved.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BANDS = 16
LOWEST_HZ = 50.0
QUIETEST_DB = -120.0  # of full scale; digital silence
FRAME_SECONDS = 0.032
NAMES = ("level", "crest", *(f"band {i + 1}" for i in range(BANDS)))
"""Of the columns: level and crest factor in dB, then each band's share of the power in dB."""


def features(samples: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
    """Describe a sound.

    Parameters
    ----------
    samples : array (n,)
        Mono, in [-1, 1].
    sample_rate : int
        Hz.

    Returns
    -------
    array (18,)
        Level (root mean square, dB of full scale), crest factor (peak over root mean square, dB),
        and the power in 16 bands, evenly spaced in pitch from 50 Hz to half the rate, in dB under
        the whole. A silent sound has -120 everywhere.

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
    """Return the power in each band, (16,), averaged over Hann frames of 32 ms that overlap by half."""
    size = max(64, round(FRAME_SECONDS * sample_rate))
    if len(sound) < size:
        sound = np.pad(sound, (0, size - len(sound)))
    frames = np.lib.stride_tricks.sliding_window_view(sound, size)[:: size // 2]
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(size), axis=1)) ** 2
    power, hertz = spectrum.mean(axis=0), np.fft.rfftfreq(size, 1 / sample_rate)
    edges = np.geomspace(LOWEST_HZ, sample_rate / 2, BANDS + 1)
    place = np.searchsorted(edges, hertz, side="right").clip(0, BANDS) - 1
    # A band narrower than a bin of the spectrum has none of its own: it shares with its neighbour.
    total = np.bincount(place.clip(0), weights=power * (place >= 0), minlength=BANDS)
    number = np.bincount(place.clip(0), weights=(place >= 0).astype(float), minlength=BANDS)
    centres = np.sqrt(edges[1:] * edges[:-1])
    known = number > 0
    density = np.interp(centres, centres[known], total[known] / number[known])
    return np.asarray(density * np.diff(edges), dtype=np.float64)


def cut(samples: NDArray[np.float32], window_samples: int) -> list[NDArray[np.float32]]:
    """Cut a sound into whole windows, one after the other; a shorter one stays as it is."""
    if len(samples) <= window_samples:
        return [samples]
    return [samples[i : i + window_samples]
            for i in range(0, len(samples) - window_samples + 1, window_samples)]  # fmt: skip


def standardised(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give every feature the same say: level, crest and the spectrum as a whole count alike.

    Parameters
    ----------
    table : array (n, 18)

    Returns
    -------
    array (n, 18)
        Less the mean, over the spread; each band divided by 4 more, the root of their number.

    """
    spread = np.maximum(table.std(axis=0), 1e-9)
    weight = np.ones(table.shape[1])
    weight[2:] = BANDS**-0.5
    return np.asarray((table - table.mean(axis=0)) / spread * weight, dtype=np.float64)


def _db(power: float) -> float:
    return max(QUIETEST_DB, 10 * float(np.log10(max(power, 1e-12))))
