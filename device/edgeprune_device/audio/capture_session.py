"""Turns one capture process's frames into blocks at the model's rate, including losses."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.audio.clock_drift import ClockDrift
from edgeprune_device.audio.resample import Resampler
from edgeprune_device.audio.shared_ring import Reader, Record
from edgeprune_device.stream import Block

CHUNK_SECONDS = 0.5
NOTHING = np.empty(0, dtype=np.float32)


class CaptureSession:
    """The audio of one capture process from its first frame to its last.

    Parameters
    ----------
    reader : Reader
        Reader of the process's ring.
    rate, sample_rate : int
        Capture rate and rate of the model, in Hz.
    gain : float
        Linear factor.

    """

    def __init__(self, reader: Reader, rate: int, sample_rate: int, gain: float = 1.0) -> None:
        self.reader, self.rate = reader, rate
        self.lag = ClockDrift(rate)
        self.open = False
        """Whether the first frames have arrived and their time is known."""
        self._gain = np.float32(gain)
        self._resampler = Resampler(rate, sample_rate)
        self._total = self._overflows = 0
        self._places: deque[int] = deque()  # positions, in frames, before which audio was lost
        self._unheard = 0  # frames lost by the clock; under 0: too many were counted

    @property
    def waiting(self) -> bool:
        """Whether there are frames to read."""
        return self.open and self.reader.position < self._total

    @property
    def backlog_seconds(self) -> float:
        """Duration of the captured audio that has not been read."""
        return (self._total - self.reader.position) / self.rate

    @property
    def early_seconds(self) -> float:
        """Audio that was counted as lost but arrived later; the next loss compensates for it."""
        return max(0, -self._unheard) / self.rate

    def observe(self, records: Iterable[Record]) -> None:
        """Take in the records of callbacks."""
        for record in records:
            lost_seconds = self.lag.observe(record.total, record.nanoseconds / 1e9)
            self._unheard += round(lost_seconds * self.rate)
            if record.overflows != self._overflows:
                self._places.append(record.total - record.frames)
            self._total, self._overflows = record.total, record.overflows

    def items(self) -> Iterator[Block]:
        """Yield the next half second of audio, if available, after the losses before it."""
        position = self.reader.position
        if self._places and self._places[0] <= position:
            self._places.popleft()
            yield from self._gap(1, "overflow", position)
        if self._unheard > 0:
            frames, self._unheard = self._unheard, 0
            yield from self._gap(frames, "driver", position)
        limit = min(self._total, self._places[0]) if self._places else self._total
        lost, samples = self.reader.read(limit, round(CHUNK_SECONDS * self.rate))
        if lost:
            while self._places and self._places[0] <= position + lost:
                self._places.popleft()  # already part of the gap
            yield from self._gap(lost, "backlog", position + lost)
        if len(samples):
            if self._gain != 1:
                with np.errstate(over="ignore", invalid="ignore"):  # left to signal_health
                    samples = np.clip(samples * self._gain, -1, 1)
            yield from self._block(self._resampler.push(samples))

    def rest(self) -> Block | None:
        """Return captured audio that will not be read any more as a gap; None if there is none."""
        seconds = self.backlog_seconds + self._resampler.held_seconds
        lost = round(seconds * self._resampler.rate)
        heard_at = self.lag.seconds + self._total / self.rate
        return Block(NOTHING, lost, "backlog", heard_at) if lost > 0 else None

    def complete(self) -> None:
        """Include what the ended writer has written without a record."""
        self._total = max(self._total, self.reader.written)

    def finish(self) -> Iterator[Block]:
        """Yield the rest of the resampler's buffer."""
        yield from self._block(self._resampler.flush())

    def _gap(self, frames: int, reason: str, position: int) -> Iterator[Block]:
        yield from self.finish()  # samples before a gap must not be filtered with later ones
        heard_at = self.lag.seconds + position / self.rate
        lost = self._resampler.gap(frames)
        yield Block(NOTHING, lost, reason, heard_at, self.backlog_seconds)

    def _block(self, samples: NDArray[np.float32]) -> Iterator[Block]:
        if len(samples):
            heard_at = (
                self.lag.seconds + self.reader.position / self.rate - self._resampler.held_seconds
            )
            yield Block(samples, heard_at=heard_at, backlog_seconds=self.backlog_seconds)
