"""A resampler for a stream with gaps: the same samples as resampling each piece whole.

soxr's stream gives what its batch gives, bit for bit, for any chunking; n samples become n times
the ratio, rounded with a half up. What stands before a gap is flushed, and the filter begins anew.
"""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

from edgeprune_device.audio.sound_files import QUALITY


class Resampler:
    """Mono samples from one rate to another.

    Parameters
    ----------
    source_rate, rate : int
        Hz.

    """

    def __init__(self, source_rate: int, rate: int) -> None:
        self.source_rate, self.rate = source_rate, rate
        self.frames_in = 0
        """Frames since the beginning, those of gaps included."""
        self.samples_out = 0
        """Samples given since the beginning, those of gaps included."""
        self._stream: soxr.ResampleStream | None = None

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take samples; return those that are ready, fewer than the ratio says at the start."""
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
        """Return what is held back, and begin anew."""
        if self._stream is None:
            return np.empty(0, dtype=np.float32)
        rest = np.asarray(self._stream.resample_chunk(np.empty(0, dtype=np.float32), last=True))
        self._stream = None
        self.samples_out += len(rest)
        return rest

    @property
    def held_seconds(self) -> float:
        """Sound that was taken and not given yet."""
        return self.frames_in / self.source_rate - self.samples_out / self.rate

    def gap(self, frames: int) -> int:
        """Pass over frames that are missing, after ``flush``.

        Returns
        -------
        int
            Samples that are missing for it, one at least: the position is right to a sample after
            any number of gaps.

        """
        self.frames_in += frames
        due = (2 * self.frames_in * self.rate // self.source_rate + 1) // 2
        lost = max(1, due - self.samples_out)
        self.samples_out += lost
        return lost
