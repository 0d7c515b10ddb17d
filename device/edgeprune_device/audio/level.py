"""Level of audio in dB relative to full scale."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def level_db(samples: NDArray[np.float32]) -> float:
    """Return the RMS level of samples (n,) in dBFS; minus infinity for digital silence."""
    power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
    return 10 * math.log10(power) if power > 0 else -math.inf
