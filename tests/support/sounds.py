"""Sounds of a microphone that is well, and of one that is not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RATE = 16000
Samples = NDArray[np.float32]


def noise(seconds: float, db: float = -40.0, seed: int = 0, rate: int = RATE) -> Samples:
    """Make white noise of a level in dB of full scale."""
    generator = np.random.default_rng(seed)
    return (10 ** (db / 20) * generator.standard_normal(round(seconds * rate))).astype(np.float32)


def repeated(seconds: float, block: int = 1024) -> Samples:
    """Make one block over and over, as a hung driver delivers it."""
    return np.resize(noise(block / RATE, -30), round(seconds * RATE))


def clipped(seconds: float) -> Samples:
    """Make noise of which most lies at full scale."""
    return np.asarray(np.clip(30 * noise(seconds, -10), -1, 1), np.float32)
