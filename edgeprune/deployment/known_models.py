"""Table of known third-party models: the front end that each needs, and its labels.

The front ends are those the models were trained with, as numbers and arrays that become part of the
bundle: MLPerf Tiny's keyword spotting and streaming wake word (github.com/mlcommons/tiny,
benchmark/training/*/get_dataset.py), whose ``tf.signal`` functions are reimplemented here; the
bands follow HTK's mel scale, 1127 ln(1 + f / 700).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
WINDOW, BANDS, COSINES = (f"frontend/{name}.npy" for name in ("window", "bands", "cosines"))


@dataclass(frozen=True)
class Kind:
    """Properties of a model that its file does not state."""

    sample_rate: int = 0
    """Sample rate in Hz; 0: set by the user."""
    window_samples: int = 0
    """Samples per window; 0: the size of the file's input."""
    hop_samples: int = 0
    """Samples between windows; 0: set by the user."""
    labels: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    """Background labels, which are not reported."""
    activation: str = ""
    speech: tuple[str, ...] = ()
    """Labels of speech, for the recorder's privacy rule."""
    sound: str = ""
    """Name of the input for the sound; empty: the only input."""
    scores: str = ""
    """Name of the output with the scores; empty: the only output."""
    extras: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the adapter: constants, state, frames, frontend."""
    arrays: Mapping[str, Array] = field(default_factory=dict)
    """Arrays of the front end, by their names in the bundle."""


def mel_bands(count: int, fft: int, rate: int, low: float, high: float) -> Array:
    """Return triangular bands, evenly spaced in mel: (fft / 2 + 1, count), as in ``tf.signal``.

    Parameters
    ----------
    count : int
        Number of bands.
    fft : int
        Length of the Fourier transform.
    rate : int
        Sample rate in Hz.
    low, high : float
        Edges of the lowest and the highest band, in Hz.

    """

    def mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(1127.0 * np.log1p(hertz / 700.0))

    bins = mel(np.linspace(0.0, rate / 2, fft // 2 + 1))[:, None]
    lowest, highest = (float(mel(np.array(edge))) for edge in (low, high))
    edges = np.linspace(lowest, highest, count + 2)
    left, middle, right = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (bins - left) / (middle - left), (right - bins) / (right - middle)
    bands = np.maximum(0.0, np.minimum(rising, falling))
    bands[0] = 0.0  # the DC bin belongs to no band
    return np.asarray(bands, dtype=np.float32)


def cosines(bands: int, count: int) -> Array:
    """Return the first columns of DCT-II over sqrt(2 * bands), (bands, count): HTK's MFCC."""
    places = np.pi / bands * (np.arange(bands)[:, None] + 0.5) * np.arange(count)
    return np.asarray(2 * np.cos(places) / math.sqrt(2 * bands), dtype=np.float32)


def _hann(length: int) -> Array:
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length), dtype=np.float32)


KINDS: dict[str, Kind] = {
    "": Kind(),
    "mlperf-keywords": Kind(  # 49 frames of 30 ms every 20 ms, 10 MFCC
        16000, 16000, 4000,
        ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes", "silence", "unknown"),
        ("silence", "unknown"), "softmax",
        extras={"frontend": {
            "window": WINDOW, "bands": BANDS, "cosines": COSINES, "step": 320, "fft": 512,
            "peak": True, "add": 1e-6,
        }},
        arrays={WINDOW: _hann(480), BANDS: mel_bands(40, 512, 16000, 20.0, 4000.0),
                COSINES: cosines(40, 10)},
    ),
    "mlperf-wakeword": Kind(  # 30 frames of 64 ms every 32 ms, 40 bands
        16000, 16000, 2048, ("marvin", "silence", "unknown"), ("silence", "unknown"), "softmax",
        extras={"frontend": {
            "window": WINDOW, "bands": BANDS, "step": 512, "fft": 1024, "preemphasis": 1 - 2**-5,
            "power": 2, "scale": 1 / 1024, "floor": 1e-30,
            "gain": 10 / math.log(10) / 64, "offset": 52 / 64, "low": 0.0, "high": 1.0,
        }},
        arrays={WINDOW: np.hamming(1024).astype(np.float32),
                BANDS: mel_bands(40, 1024, 16000, 0.0, 8000.0)},
    ),
    "silero-vad": Kind(  # 32 ms at a time, with 4 ms of the 32 before; half of a window is run-in
        16000, 64 * 512, 32 * 512, ("voice",), (), "sigmoid", ("voice",), "input", "output",
        extras={
            "frames": {"samples": 512, "context": 64, "run_in": 32},
            "state": [{"input": "state", "output": "stateN", "shape": [2, 1, 128]}],
            "constants": [{"name": "sr", "dtype": "int64", "shape": [], "value": 16000}],
        },
    ),
}  # fmt: skip
