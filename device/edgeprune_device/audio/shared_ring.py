"""A ring of captured audio in shared memory that one process writes and another reads.

The memory is an open file without a name, so that nothing remains when either process is killed.

    bytes 0-7     frames written since the stream began
    bytes 8-15    CLOCK_MONOTONIC of the last callback, in nanoseconds
    from 64 on    the ring: mono, 16-bit or float32

A pipe also carries a record for each callback, small enough to be written atomically. Its system
calls order memory between the two processes and wake the reader. Records carry totals, so nothing
is lost if one does not fit the full pipe. The reader never touches the last ``GUARD_SECONDS``,
which the writer may be overwriting, and checks the writer's position again after copying.
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
    """The record of a callback."""

    total: int
    """Frames since the stream began, including this callback."""
    nanoseconds: int
    """CLOCK_MONOTONIC at the callback, ns."""
    frames: int
    """Frames of this callback."""
    overflows: int
    """Callbacks so far for which PortAudio reported an input overflow, of unknown length."""

    def packed(self) -> bytes:
        """Return the record as bytes."""
        overflows = self.overflows & 0xFFFFFFFF
        return RECORD.pack(MAGIC, self.frames, self.total, self.nanoseconds, overflows, 0)


def unpacked(data: bytes) -> tuple[list[Record], bytes]:
    """Return the complete records in some bytes, and the remaining bytes.

    Raises
    ------
    ValueError
        The bytes are not records.

    """
    whole = len(data) // RECORD.size * RECORD.size
    records = []
    for magic, frames, total, nanoseconds, overflows, _ in RECORD.iter_unpack(data[:whole]):
        if magic != MAGIC:
            raise ValueError("the capture process sent something that is not a record")
        records.append(Record(total, nanoseconds, frames, overflows))
    return records, data[whole:]


def nameless_file() -> int:
    """Return the descriptor of a new file in memory without a name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("edgeprune-ring")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class SharedRing:
    """View of the shared memory for reader and writer.

    Parameters
    ----------
    descriptor : int
        Descriptor of the file; stays open.
    kind : str
        ``int16`` or ``float32``.
    capacity : int
        Number of frames that the ring holds.

    """

    def __init__(self, descriptor: int, kind: str, capacity: int) -> None:
        size = HEADER_BYTES + capacity * TYPES[kind].itemsize
        if os.fstat(descriptor).st_size < size:
            os.ftruncate(descriptor, size)
        self.capacity = capacity
        memory = mmap.mmap(descriptor, size)  # unmapped with the last array that uses it
        self.head = np.frombuffer(memory, np.uint64, 2)  # aligned: each is one store
        self.frames = np.frombuffer(memory, TYPES[kind], capacity, HEADER_BYTES)


class Writer:
    """Writes the ring, in the capture process."""

    def __init__(self, ring: SharedRing) -> None:
        self.ring, self.total = ring, 0

    def write(self, samples: NDArray[np.generic], nanoseconds: int) -> None:
        """Write the frames of a callback; of more than ``capacity`` only the last are written."""
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
    """Reads the ring, in the recorder.

    Parameters
    ----------
    ring : SharedRing
    keep : int
        Frames that may wait; older ones are lost. At most the capacity without the guard.

    """

    def __init__(self, ring: SharedRing, keep: int) -> None:
        if not 0 < keep < ring.capacity:
            raise ValueError(f"{keep} frames cannot wait in a ring of {ring.capacity}")
        self.ring, self.keep, self.position = ring, keep, 0

    @property
    def written(self) -> int:
        """Frames written so far, according to the shared memory."""
        return int(self.ring.head[0])

    @property
    def last_callback(self) -> float:
        """Monotonic seconds of the last callback; 0 before the first."""
        return int(self.ring.head[1]) / 1e9

    def read(self, total: int, most: int) -> tuple[int, NDArray[np.float32]]:
        """Read the next frames.

        Parameters
        ----------
        total : int
            Frames written so far, according to the last record.
        most : int
            Largest number of frames to return.

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
