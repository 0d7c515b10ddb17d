"""A spectrogram in front of a model that takes no samples: frames, spectrum, bands, logarithm.

Models made here have their front end inside the graph. Of a foreign model it is declared in the
bundle, number by number, with its window, bands and cosines as arrays that the bundle carries: the
recorder multiplies what it is given, and derives nothing. Steps that a front end lacks are numbers
that change nothing.

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
    """What a front end does, in its order; the defaults change nothing."""

    window: str
    """Name in the bundle of the window of a frame, (frame,)."""
    bands: str
    """Name of the bands, (fft / 2 + 1, bands)."""
    cosines: str = ""
    """Name of a cosine transform, (bands, coefficients); empty: none."""
    step: int = 160
    """Samples from one frame to the next, at least 1."""
    fft: int = 512
    """Length of the transform, at least a frame."""
    peak: bool = False
    """Divide a window by its largest sample, where that is over 0."""
    preemphasis: float = 0.0
    """Share of the sample before that is taken off each sample, 0 to 1."""
    power: int = 1
    """1: magnitudes, 2: powers."""
    scale: float = 1.0
    """What the spectrum is multiplied by."""
    floor: float = 0.0
    """Least value of the spectrum."""
    add: float = 0.0
    """Added before the logarithm, to what must be over 0 then."""
    gain: float = 1.0
    """What the natural logarithm is multiplied by."""
    offset: float = 0.0
    """Added after that."""
    low: float = -math.inf
    high: float = math.inf
    """Bounds of the result."""


def features_of(entry: Mapping[str, Any]) -> SpectrogramFeatures:
    """Return the front end that a manifest's entry declares.

    Raises
    ------
    KeyError, TypeError, ValueError
        An entry is missing, unknown, of another type or out of range.

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
    """Return where the arrays do not fit one another and the model; empty if they do.

    Parameters
    ----------
    features : SpectrogramFeatures
    arrays : mapping
        By their names in the bundle.
    samples : int
        Of the recorder's window.
    count : int
        Numbers that the model takes.

    """
    window, bands = arrays[features.window], arrays[features.bands]
    if window.ndim != 1 or not 1 <= len(window) <= min(features.fft, samples):
        return "the window of its front end has another length"
    if bands.ndim != 2 or bands.shape[0] != features.fft // 2 + 1:
        return "the bands of its front end do not fit its transform"
    if (bands < 0).any() or (
        features.add == 0 and not (features.floor and bands.any(axis=0).all())
    ):
        return "its front end would take the logarithm of nothing"
    width = bands.shape[1]
    if features.cosines:
        cosines = arrays[features.cosines]
        if cosines.ndim != 2 or cosines.shape[0] != width:
            return "the cosines of its front end do not fit its bands"
        width = cosines.shape[1]
    frames = 1 + (samples - len(window)) // features.step
    if frames * width != count:
        return f"its front end gives {frames} x {width} numbers and the model takes {count}"
    return ""


def compute(samples: Array, features: SpectrogramFeatures, arrays: Mapping[str, Array]) -> Array:
    """Compute the features of a window of sound.

    Parameters
    ----------
    samples : array (samples,)
    features : SpectrogramFeatures
    arrays : mapping
        By their names in the bundle.

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
