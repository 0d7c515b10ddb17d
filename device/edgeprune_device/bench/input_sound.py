"""The input audio of a benchmark: real audio if possible, and never silence.

Zeros are not suitable to time a model: kernels that skip them, and denormal numbers that slow
others down, give times that no microphone ever causes. There are three kinds, and the result names
it:

    wav      windows of a given file, at the bundle's hop
    golden   the bundle's own golden inputs, one after the other
    noise    synthetic wind with calls: for a bundle whose golden inputs are silent

All are loops: a benchmark may take more windows than there is audio.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.bundle.reader import Bundle
from edgeprune_device.errors import EdgepruneError

MOST_SECONDS = 60.0
"""Longest part of a file that is used; more would use memory that is not the model's."""
SILENCE = 1e-4
"""RMS, full scale 1: -80 dBFS; anything below counts as silence."""
MADE_SECONDS = 20
MADE_RMS = 0.1
CALLS_PER_SECOND = 0.7

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class LoopedSound:
    """Audio that repeats endlessly."""

    kind: str
    """``wav``, ``golden`` or ``noise``."""
    name: str
    """Name of the file, or a description."""
    samples: Samples
    """Array (n,), mono, at the bundle's rate."""

    def windows(self, window_samples: int, hop_samples: int) -> Iterator[Samples]:
        """Yield endless windows, a hop apart."""
        whole = self._long_enough(window_samples)
        first = 0
        while True:
            yield whole[first : first + window_samples]
            first = (first + hop_samples) % len(self.samples)

    def blocks(self, window_samples: int, hop_samples: int) -> Iterator[Samples]:
        """Yield the same audio as an endless stream: a window first, then a hop at a time."""
        size, first = window_samples, 0
        while True:
            yield self._long_enough(size)[first : first + size]
            first = (first + size) % len(self.samples)
            size = hop_samples

    def _long_enough(self, size: int) -> Samples:
        """Return the loop extended by ``size`` samples from its beginning."""
        times = 1 + -(-size // len(self.samples))
        return np.tile(self.samples, times)[: len(self.samples) + size]


def loop_of(bundle: Bundle, file: Path | None, name: str = "") -> LoopedSound:
    """Return the input audio of a bundle.

    Parameters
    ----------
    bundle : Bundle
    file : Path or None
        Samples at the bundle's rate as .npy (``prepare``); None: the golden inputs, or noise.
    name : str
        Name of the sound file the samples come from.

    """
    if file is not None:
        return LoopedSound("wav", name, np.load(file, allow_pickle=False))
    heard = [golden.samples for golden in bundle.golden if loud_enough(golden.samples)]
    if heard:
        return LoopedSound("golden", f"{len(heard)} golden inputs", np.concatenate(heard))
    return LoopedSound("noise", "synthetic", made_sound(bundle.sample_rate))


def prepare(wav: Path, rate: int, folder: Path) -> Path:
    """Write the first minute of a sound file as samples at a sample rate; return the .npy.

    Raises
    ------
    EdgepruneError
        The file cannot be read, or is silent.

    """
    from edgeprune_device.audio.sound_files import read_clip, seconds_of

    samples = read_clip(wav, rate, 0.0, min(MOST_SECONDS, seconds_of(wav)))
    if not loud_enough(samples):
        raise EdgepruneError(
            f"{wav} is silent, and silence has other latencies than audio.",
            "Name another file with --wav.",
        )
    target = folder / f"sound-{rate}.npy"
    np.save(target, samples, allow_pickle=False)
    return target


def loud_enough(samples: Samples) -> bool:
    """Return whether the RMS level is above ``SILENCE``."""
    return bool(np.sqrt(np.mean(np.square(samples, dtype=np.float64))) >= SILENCE)


def made_sound(rate: int, seconds: int = MADE_SECONDS) -> Samples:
    """Return synthetic wind (1/f noise, in gusts) with calls (falling whistles), always the same.

    Parameters
    ----------
    rate : int
        Sample rate in Hz.
    seconds : int
        Duration.

    Returns
    -------
    array (rate * seconds,)
        RMS 0.1.

    """
    rng = np.random.default_rng(0)
    n = rate * seconds
    spectrum = np.fft.rfft(rng.standard_normal(n)) / np.sqrt(np.maximum(np.arange(n // 2 + 1), 1))
    wind = np.fft.irfft(spectrum, n)
    time = np.arange(n) / rate
    wind *= (1 + 0.5 * np.sin(2 * np.pi * time / 7.0)) / wind.std()
    for start in rng.uniform(0, seconds - 0.5, round(CALLS_PER_SECOND * seconds)):
        inside = (time >= start) & (time < start + 0.4)
        since = time[inside] - start
        high = rate * rng.uniform(0.12, 0.3)
        wind[inside] += (
            1.5 * np.sin(np.pi * since / 0.4) * np.sin(2 * np.pi * high * (since - 0.6 * since**2))
        )
    return np.asarray(wind * (MADE_RMS / np.sqrt(np.mean(wind**2))), dtype=np.float32)
