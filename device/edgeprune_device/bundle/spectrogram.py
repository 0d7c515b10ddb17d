"""Computes a spectrogram for models that do not take samples as input.

Models made by edgeprune have their front end inside the graph. The front end of a third-party model
is declared in the bundle by its parameters, with its window, filter bank and cosine transform as
arrays in the bundle: the recorder only multiplies and derives nothing. Steps that a front end lacks
have parameters that change nothing.

    samples / peak -> preemphasis -> frames * window -> |FFT| ** power * scale, at least floor
    -> @ bands -> + add -> log -> * gain + offset -> clipped -> @ cosines
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[np.float32]


KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,), "int": (int,), "bool": (bool,), "float": (int, float),
}  # fmt: skip


@dataclass(frozen=True)
class SpectrogramFeatures:
    """Parameters of a front end, in order of computation; the defaults change nothing."""

    window: str
    """Name in the bundle of the window function, array (frame,)."""
    bands: str
    """Name in the bundle of the filter bank, array (fft / 2 + 1, bands)."""
    cosines: str = ""
    """Name in the bundle of a cosine transform, array (bands, coefficients); empty: none."""
    step: int = 160
    """Hop between frames in samples, at least 1."""
    fft: int = 512
    """Length of the FFT, at least a frame."""
    peak: bool = False
    """Divide the input by its largest sample, if that is over 0."""
    preemphasis: float = 0.0
    """Pre-emphasis coefficient, 0 to 1: y[n] = x[n] - c x[n - 1]."""
    power: int = 1
    """Exponent of the magnitude: 1 (magnitude) or 2 (power)."""
    scale: float = 1.0
    """Factor of the spectrum, over 0."""
    floor: float = 0.0
    """Smallest value of the spectrum, at least 0."""
    add: float = 0.0
    """Added before the logarithm, whose argument must be over 0; at least 0."""
    gain: float = 1.0
    """Factor of the natural logarithm."""
    offset: float = 0.0
    """Added to the scaled logarithm."""
    low: float = -math.inf
    high: float = math.inf
    """Bounds to which the result is clipped."""


def features_of(entry: Mapping[str, Any]) -> SpectrogramFeatures:
    """Return the front end that a manifest's entry ``frontend`` declares.

    Raises
    ------
    KeyError, TypeError, ValueError
        An entry is missing, unknown, of the wrong type or out of range.

    """
    known = {entry.name: str(entry.type) for entry in fields(SpectrogramFeatures)}
    for key in entry:
        value: Any = entry[key]
        wanted = KINDS[known[key]]
        if not isinstance(value, wanted) or (isinstance(value, bool) and known[key] != "bool"):
            raise TypeError(key)
        if known[key] == "float" and not math.isfinite(entry[key]):
            raise ValueError(key)
    made = SpectrogramFeatures(**entry)
    if not (made.step >= 1 and 2 <= made.fft <= 1 << 20 and made.power in (1, 2)
            and 0 <= made.preemphasis <= 1 and made.scale > 0 and made.floor >= 0 and made.add >= 0
            and made.low < made.high):  # fmt: skip
        raise ValueError("frontend")
    return made


def arrays_problem(
    features: SpectrogramFeatures, arrays: Mapping[str, Array], samples: int, count: int
) -> str:
    """Return how the arrays do not fit one another or the model; empty if they fit.

    Parameters
    ----------
    features : SpectrogramFeatures
    arrays : mapping
        Arrays by their names in the bundle.
    samples : int
        Length of the recorder's window in samples.
    count : int
        Number of values in the model's input.

    """
    window, bands = arrays[features.window], arrays[features.bands]
    if window.ndim != 1 or not 1 <= len(window) <= min(features.fft, samples):
        return "the window of its front end has the wrong length"
    if bands.ndim != 2 or bands.shape[0] != features.fft // 2 + 1:
        return "the filter bank of its front end does not fit its FFT"
    if (bands < 0).any() or (
        features.add == 0 and not (features.floor and bands.any(axis=0).all())
    ):
        return "its front end would take the logarithm of 0"
    width = bands.shape[1]
    if features.cosines:
        cosines = arrays[features.cosines]
        if cosines.ndim != 2 or cosines.shape[0] != width:
            return "the cosine transform of its front end does not fit its filter bank"
        width = cosines.shape[1]
    frames = 1 + (samples - len(window)) // features.step
    if frames * width != count:
        return f"its front end gives {frames} x {width} values, but the model expects {count}"
    return ""


def compute(samples: Array, features: SpectrogramFeatures, arrays: Mapping[str, Array]) -> Array:
    """Compute the features of a window of audio.

    Parameters
    ----------
    samples : array (samples,)
        Audio in [-1, 1].
    features : SpectrogramFeatures
    arrays : mapping
        Arrays by their names in the bundle.

    Returns
    -------
    array (frames, coefficients)

    """
    heard: Any = samples.astype(np.float32)
    largest = heard.max()
    if features.peak and largest > 0:
        heard = heard / largest
    if features.preemphasis:
        before = np.concatenate([np.zeros(1, np.float32), heard[:-1]])
        heard = heard - np.float32(features.preemphasis) * before
    window = arrays[features.window]
    frames = sliding_window_view(heard, len(window))[:: features.step] * window
    spectrum = np.abs(np.fft.rfft(frames, features.fft)) ** features.power
    spectrum = np.maximum(features.scale * spectrum, features.floor)
    logs = np.log(spectrum @ arrays[features.bands].astype(np.float64) + features.add)
    found: Any = np.clip(features.gain * logs + features.offset, features.low, features.high)
    if features.cosines:
        found = found @ arrays[features.cosines].astype(np.float64)
    return np.asarray(found, dtype=np.float32)
