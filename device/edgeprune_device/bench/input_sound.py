"""What a benchmark listens to: real sound where there is some, and never silence.

Zeros are no sound to time a model with: kernels that skip them, and denormal numbers that slow
others down, give times no microphone ever will. Three kinds, and the result says which it was:

    wav      windows of a file that was given, at the bundle's hop
    golden   the bundle's own golden inputs, one after the other
    noise    wind with calls in it, made here: for a bundle whose golden inputs are silent

All are loops: a benchmark may take more windows than there is sound.
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
"""Of a file: more would be memory that is not the model's."""
SILENCE = 1e-4
"""RMS, full scale 1: -80 dB; what lies under it is no sound."""
MADE_SECONDS = 20
MADE_RMS = 0.1
CALLS_PER_SECOND = 0.7

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class LoopedSound:
    """Sound that begins again where it ends."""

    kind: str
    """``wav``, ``golden`` or ``noise``."""
    name: str
    """The file's, or what else it is."""
    samples: Samples
    """(n,), mono, at the bundle's rate."""

    def windows(self, window_samples: int, hop_samples: int) -> Iterator[Samples]:
        """Yield windows without end, a hop apart."""
        whole = self._long_enough(window_samples)
        first = 0
        while True:
            yield whole[first : first + window_samples]
            first = (first + hop_samples) % len(self.samples)

    def blocks(self, window_samples: int, hop_samples: int) -> Iterator[Samples]:
        """Yield the same sound as a stream without end: a window first, then a hop at a time."""
        size, first = window_samples, 0
        while True:
            yield self._long_enough(size)[first : first + size]
            first = (first + size) % len(self.samples)
            size = hop_samples

    def _long_enough(self, size: int) -> Samples:
        """Return the loop with its beginning behind its end, ``size`` samples over its length."""
        times = 1 + -(-size // len(self.samples))
        return np.tile(self.samples, times)[: len(self.samples) + size]


def loop_of(bundle: Bundle, file: Path | None, name: str = "") -> LoopedSound:
    """Return what a bundle is to listen to.

    Parameters
    ----------
    bundle : Bundle
    file : Path or None
        Samples at the bundle's rate as .npy (``prepare``); None: the golden inputs, or noise.
    name : str
        Of the sound file the samples come from.

    """
    if file is not None:
        return LoopedSound("wav", name, np.load(file, allow_pickle=False))
    heard = [golden.samples for golden in bundle.golden if loud_enough(golden.samples)]
    if heard:
        return LoopedSound("golden", f"{len(heard)} golden inputs", np.concatenate(heard))
    return LoopedSound("noise", "made here", made_sound(bundle.sample_rate))


def prepare(wav: Path, rate: int, folder: Path) -> Path:
    """Write the first minute of a sound file as samples at a rate; return the .npy.

    Raises
    ------
    EdgepruneError
        The file cannot be read, or is silent.

    """
    from edgeprune_device.audio.sound_files import read_clip, seconds_of

    samples = read_clip(wav, rate, 0.0, min(MOST_SECONDS, seconds_of(wav)))
    if not loud_enough(samples):
        raise EdgepruneError(
            f"{wav} is silent, and silence takes another time than sound.", "Give another --wav."
        )
    target = folder / f"sound-{rate}.npy"
    np.save(target, samples, allow_pickle=False)
    return target


def loud_enough(samples: Samples) -> bool:
    """Tell whether there is anything to hear."""
    return bool(np.sqrt(np.mean(np.square(samples, dtype=np.float64))) >= SILENCE)


def made_sound(rate: int, seconds: int = MADE_SECONDS) -> Samples:
    """Return wind (noise of 1/f power, in gusts) with calls (falling whistles), the same each time.

    Parameters
    ----------
    rate : int
        Hz.
    seconds : int

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
