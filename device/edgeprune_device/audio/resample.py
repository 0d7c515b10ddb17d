"""A resampler for a stream with gaps; the result equals resampling each piece as a whole.

soxr's stream returns what its batch function returns, bit for bit, for any chunking; n samples
become n times the ratio, rounded half up. Before a gap the stream is flushed and the filter reset.
"""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

from edgeprune_device.audio.sound_files import QUALITY


class Resampler:
    """Resamples mono audio from one rate to another.

    Parameters
    ----------
    source_rate, rate : int
        Input and output rate in Hz.

    """

    def __init__(self, source_rate: int, rate: int) -> None:
        self.source_rate, self.rate = source_rate, rate
        self.frames_in = 0
        """Input frames since the beginning, gaps included."""
        self.samples_out = 0
        """Output samples since the beginning, gaps included."""
        self._stream: soxr.ResampleStream | None = None

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take samples (n,); return those that are ready (fewer at the start)."""
        self.frames_in += len(samples)
        if self.source_rate != self.rate:
            if self._stream is None:
                self._stream = soxr.ResampleStream(
                    self.source_rate, self.rate, 1, dtype="float32", quality=QUALITY
                )
            samples = np.asarray(self._stream.resample_chunk(samples))
        self.samples_out += len(samples)
        return samples

    def flush(self) -> NDArray[np.float32]:
        """Return the samples still in the filter, and reset it."""
        if self._stream is None:
            return np.empty(0, dtype=np.float32)
        rest = np.asarray(self._stream.resample_chunk(np.empty(0, dtype=np.float32), last=True))
        self._stream = None
        self.samples_out += len(rest)
        return rest

    @property
    def held_seconds(self) -> float:
        """Duration of the audio taken but not yet returned."""
        return self.frames_in / self.source_rate - self.samples_out / self.rate

    def gap(self, frames: int) -> int:
        """Skip frames that are missing; call it after ``flush``.

        Returns
        -------
        int
            Missing output samples, at least 1; the position stays exact after any number of gaps.

        """
        self.frames_in += frames
        due = (2 * self.frames_in * self.rate // self.source_rate + 1) // 2
        lost = max(1, due - self.samples_out)
        self.samples_out += lost
        return lost
