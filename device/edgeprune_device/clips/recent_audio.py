"""Buffer of the last samples of a stream, as 16 bits, by position and never across a gap."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.clips.clip_files import to_pcm16


@dataclass
class RecentAudio:
    """The last samples in pieces; the pieces of one stretch follow one another without a gap."""

    position: int = 0
    """Samples of the stream so far, lost ones included."""
    stretch: int = 0
    """Number of the current stretch (audio between two gaps)."""
    pieces: deque[tuple[int, int, NDArray[np.int16]]] = field(default_factory=deque)
    """Stretch, first sample, samples."""
    begins: dict[int, int] = field(default_factory=dict)
    """First sample of each buffered stretch."""

    def push(self, first: int, samples: NDArray[np.float32]) -> None:
        """Take the next samples; a distance from the last ones is a gap.

        Raises
        ------
        ValueError
            They begin before the position.

        """
        if first != self.position:
            self.gap(first)
        if len(samples):
            self.begins.setdefault(self.stretch, first)
            self.pieces.append((self.stretch, first, to_pcm16(samples)))
            self.position += len(samples)

    def gap(self, position: int) -> None:
        """End the stretch; the next one begins at ``position``."""
        if position < self.position:
            raise ValueError(f"Sample {position} comes after sample {self.position}.")
        self.position = position
        self.stretch += 1

    def drop(self, before: int) -> None:
        """Drop pieces that end at or before a sample."""
        while self.pieces and self.pieces[0][1] + len(self.pieces[0][2]) <= before:
            self.pieces.popleft()
        oldest = self.pieces[0][0] if self.pieces else self.stretch
        self.begins = {k: begin for k, begin in self.begins.items() if k >= oldest}

    def stretch_of(self, first: int, last: int) -> tuple[int, int, int] | None:
        """Return (number, begin, end) of the stretch with most of a span; None if none has any."""
        held: dict[int, int] = {}
        for number, start, samples in self.pieces:
            shared = min(last, start + len(samples)) - max(first, start)
            if shared > 0:
                held[number] = held.get(number, 0) + shared
        if not held:
            return None
        best = max(held, key=lambda number: (held[number], -number))
        ends = [start + len(samples) for number, start, samples in self.pieces if number == best]
        return best, self.begins[best], ends[-1]

    def read(self, stretch: int, begin: int, end: int) -> tuple[int, NDArray[np.int16]]:
        """Return the buffered part of a span in one stretch: its first sample, and the samples."""
        parts, first = [np.empty(0, np.int16)], begin
        for number, start, samples in self.pieces:
            low, high = max(begin - start, 0), min(end - start, len(samples))
            if number == stretch and low < high:
                if len(parts) == 1:
                    first = start + low
                parts.append(samples[low:high])
        return first, np.concatenate(parts)
