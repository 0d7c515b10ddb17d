"""Captured sound in shared memory: a ring that one process writes and another reads.

The memory is an open file without a name, so that nothing is left whichever of the two is killed.

    bytes 0-7     frames written since the stream began
    bytes 8-15    CLOCK_MONOTONIC of the last callback, in nanoseconds
    from 64 on    the ring: mono, 16-bit or float32

Beside it a pipe carries a record for each callback, small enough to be written whole or not at all.
Its system calls put memory in order between the two processes, and they wake the reader. Records
tell totals, so one that finds the pipe full is no loss. The reader never touches the
``GUARD_SECONDS`` that the writer may be writing, and asks again after copying how far it has come.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = b"EPm2"
RECORD = struct.Struct("<4sIQQII")
HEADER_BYTES = 64
GUARD_SECONDS = 2.0
TYPES: dict[str, np.dtype[Any]] = {"int16": np.dtype("<i2"), "float32": np.dtype("<f4")}
FULL_SCALE = 32768.0


@dataclass(frozen=True)
class Record:
    """What a callback tells."""

    total: int
    """Frames since the stream began, this callback's included."""
    nanoseconds: int
    """CLOCK_MONOTONIC at the callback."""
    frames: int
    """Frames of this callback."""
    overflows: int
    """Callbacks so far before which PortAudio says that input was lost, without saying how much."""

    def packed(self) -> bytes:
        """Return its bytes."""
        overflows = self.overflows & 0xFFFFFFFF
        return RECORD.pack(MAGIC, self.frames, self.total, self.nanoseconds, overflows, 0)


def unpacked(data: bytes) -> tuple[list[Record], bytes]:
    """Return the records in some bytes, and the beginning of the next.

    Raises
    ------
    ValueError
        There is something else.

    """
    whole = len(data) // RECORD.size * RECORD.size
    records = []
    for magic, frames, total, nanoseconds, overflows, _ in RECORD.iter_unpack(data[:whole]):
        if magic != MAGIC:
            raise ValueError("the capture process sent no record")
        records.append(Record(total, nanoseconds, frames, overflows))
    return records, data[whole:]


def nameless_file() -> int:
    """Return the descriptor of a new file in memory that has no name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("edgeprune-ring")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class SharedRing:
    """Both ends' view of the memory.

    Parameters
    ----------
    descriptor : int
        Of the file; stays open.
    kind : str
        ``int16`` or ``float32``.
    capacity : int
        Frames that the ring holds.

    """

    def __init__(self, descriptor: int, kind: str, capacity: int) -> None:
        size = HEADER_BYTES + capacity * TYPES[kind].itemsize
        if os.fstat(descriptor).st_size < size:
            os.ftruncate(descriptor, size)
        self.capacity = capacity
        memory = mmap.mmap(descriptor, size)  # unmapped with the last array that looks at it
        self.head = np.frombuffer(memory, np.uint64, 2)  # aligned: each is one store
        self.frames = np.frombuffer(memory, TYPES[kind], capacity, HEADER_BYTES)


class Writer:
    """The capture process's end."""

    def __init__(self, ring: SharedRing) -> None:
        self.ring, self.total = ring, 0

    def write(self, samples: NDArray[np.generic], nanoseconds: int) -> None:
        """Write the frames of a callback; those that do not fit the ring at all are passed over."""
        ring = self.ring
        self.total += len(samples)
        kept = samples[-ring.capacity :]
        first = (self.total - len(kept)) % ring.capacity
        head = min(len(kept), ring.capacity - first)
        ring.frames[first : first + head] = kept[:head]
        ring.frames[: len(kept) - head] = kept[head:]
        ring.head[1] = nanoseconds
        ring.head[0] = self.total


class Reader:
    """The listener's end.

    Parameters
    ----------
    ring : SharedRing
    keep : int
        Frames that may wait; what is older is lost. At most the capacity without the guard.

    """

    def __init__(self, ring: SharedRing, keep: int) -> None:
        if not 0 < keep < ring.capacity:
            raise ValueError(f"{keep} frames cannot wait in a ring of {ring.capacity}")
        self.ring, self.keep, self.position = ring, keep, 0

    @property
    def written(self) -> int:
        """Frames that the writer has told of in memory."""
        return int(self.ring.head[0])

    @property
    def last_callback(self) -> float:
        """Monotonic seconds of the last callback; 0 before the first."""
        return int(self.ring.head[1]) / 1e9

    def read(self, total: int, most: int) -> tuple[int, NDArray[np.float32]]:
        """Read on.

        Parameters
        ----------
        total : int
            Frames that a record has told of.
        most : int
            Frames to return at most.

        Returns
        -------
        lost : int
            Frames before the first that were overwritten before they were read.
        samples : array (n,)
            In [-1, 1].

        """
        start = max(self.position, min(self.written - self.keep, total))
        end = min(total, start + most)
        samples = self._copied(start, end)
        overwritten = min(max(self.written - self.keep - start, 0), end - start)  # meanwhile
        lost = start + overwritten - self.position
        self.position = max(end, self.position)
        return lost, samples[overwritten:]

    def _copied(self, start: int, end: int) -> NDArray[np.float32]:
        count, first = max(0, end - start), start % self.ring.capacity
        head = min(count, self.ring.capacity - first)
        frames = self.ring.frames
        parts = np.concatenate([frames[first : first + head], frames[: count - head]])
        samples = parts.astype(np.float32)
        return samples / np.float32(FULL_SCALE) if parts.dtype == TYPES["int16"] else samples
