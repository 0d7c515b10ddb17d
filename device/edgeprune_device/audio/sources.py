"""Sound as it comes in: from a file, from standard input, or from the microphone.

Each source yields ``Block``s of mono float32 at the model's rate; ``lost_samples`` stand before a
block's first one. Files and pipes are read as fast as the caller takes them. The live sources give
None when nothing has come for a moment, so that the caller is never stuck in a read.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.audio.microphone import Microphone
from edgeprune_device.audio.shared_ring import FULL_SCALE
from edgeprune_device.audio.sound_files import stream_file
from edgeprune_device.settings import Audio
from edgeprune_device.stream import Block

BLOCK_SECONDS = 0.1
TICK_SECONDS = 0.2
QUEUE_SECONDS = 30.0


def from_file(path: Path, sample_rate: int) -> Iterator[Block]:
    """Yield a sound file, resampled as it is read.

    Raises
    ------
    EdgepruneError
        As ``stream_file``.

    """
    block = round(BLOCK_SECONDS * sample_rate)
    return (Block(samples) for samples in stream_file(path, sample_rate, block))


def from_stdin(sample_rate: int) -> Iterator[Block | None]:
    """Yield raw 16-bit little-endian mono samples at the model's rate from standard input."""

    def read() -> Iterator[Block]:
        wanted = 2 * round(BLOCK_SECONDS * sample_rate)
        with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as pipe:
            while data := read_exactly(pipe, wanted):
                yield Block(_samples(data[: len(data) // 2 * 2]))

    yield from _read_aside(read)


def from_microphone(
    audio: Audio, sample_rate: int, *, clock: Callable[[], float] = time.monotonic,
    wait: bool = False,
) -> Microphone:  # fmt: skip
    """Return the microphone, captured by a process that is killed and replaced where it must be.

    Parameters
    ----------
    audio : Audio
    sample_rate : int
        The model's, in Hz.
    clock : callable
        Monotonic seconds.
    wait : bool
        Wait for an input that is not there at the start; otherwise that is an error.

    Returns
    -------
    Microphone
        An iterator of blocks, notices and None; ``close`` ends it.

    """
    return Microphone(audio, sample_rate, clock=clock, wait=wait)


def read_exactly(stream: IO[bytes], count: int) -> bytes:
    """Read so many bytes, or what there is before the end.

    For unbuffered streams: a thread that is waiting in a buffered one holds its lock, and Python
    aborts if it must end then.
    """
    parts = []
    while count > 0 and (part := stream.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _read_aside(read: Callable[[], Iterator[Block]]) -> Iterator[Block | None]:
    """Run a source in a thread; yield what it gives, or None when nothing came for a moment.

    A source that is faster than its reader waits: nothing is dropped.
    """
    held: queue.Queue[Block | BaseException | None] = queue.Queue(
        round(QUEUE_SECONDS / BLOCK_SECONDS)
    )

    def run() -> None:
        try:
            for block in read():
                held.put(block)
            held.put(None)
        except Exception as error:  # whatever it is, the caller must not wait for ever
            held.put(error)

    threading.Thread(target=run, daemon=True).start()
    while True:
        try:
            item = held.get(timeout=TICK_SECONDS)
        except queue.Empty:
            yield None
            continue
        if item is None:
            return
        if isinstance(item, BaseException):
            raise item
        yield item


def _samples(data: bytes) -> NDArray[np.float32]:
    return np.frombuffer(data, dtype="<i2").astype(np.float32) / np.float32(FULL_SCALE)
