"""Cuts an endless stream into windows, independent of block sizes, never across a gap."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.audio.sound_files import pad_to_window


class Windower:
    """Buffers as much of the stream as the next window needs.

    Parameters
    ----------
    window_samples : int
        Length of a window in samples.
    hop_samples : int
        From the start of a window to the start of the next, in samples; may be longer than a
        window. The attribute may be changed; it applies after the next window.

    """

    def __init__(self, window_samples: int, hop_samples: int) -> None:
        self.window_samples = window_samples
        self.hop_samples = hop_samples
        self.position = 0
        """Samples of the stream so far, lost ones included."""
        self._held = np.empty(0, dtype=np.float32)
        self._begin = 0  # first sample after the last gap
        self._next = 0  # first sample of the next window
        self._heard = 0  # end of the last window

    @property
    def due(self) -> int:
        """Number of samples missing until the next window is complete, at least 1."""
        return max(1, self._next + self.window_samples - self.position)

    def push(self, block: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Take the next samples; yield (first sample in the stream, window) once complete."""
        self._held = np.concatenate([self._held, block])
        self.position += len(block)
        while self._next + self.window_samples <= self.position:
            first = self._next
            offset = first - self.position
            end = offset + self.window_samples
            window = self._held[offset : end or None].copy()
            self._heard = first + self.window_samples
            self._next += self.hop_samples
            yield first, window
        # A window is enough: the next one begins in it, and a last one may end with the stream.
        self._held = self._held[-self.window_samples :]

    def gap(self, lost_samples: int) -> None:
        """Skip lost samples; the incomplete window is dropped with them."""
        self.position += lost_samples
        self._held = np.empty(0, dtype=np.float32)
        self._begin = self._next = self._heard = self.position

    def flush(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield a last window that ends with the stream, if half a hop or more is in no window.

        A stream shorter than a window is centered in zeros, as a clip is.
        """
        unheard = self.position - self._heard
        if unheard == 0 or 2 * unheard < self.hop_samples:
            return
        if self.position - self._begin < self.window_samples:
            yield self._begin, pad_to_window(self._held, self.window_samples)[0]
        else:
            yield self.position - self.window_samples, self._held[-self.window_samples :].copy()
