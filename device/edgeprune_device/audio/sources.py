"""Audio sources: a file, standard input, or the microphone.

Each source yields ``Block``s of mono float32 at the model's rate; ``lost_samples`` are the samples
lost before a block. Files and pipes are read as fast as the caller consumes them. Live sources
yield None when nothing has arrived for a moment, so that the caller never blocks in a read.
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
    """Yield raw 16-bit little-endian mono audio at the model's rate from standard input."""

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
    """Return the microphone, captured by a process that is replaced after failures.

    Parameters
    ----------
    audio : Audio
    sample_rate : int
        Rate of the model in Hz.
    clock : callable
        Returns monotonic seconds.
    wait : bool
        Whether to wait for an input that is absent at the start; otherwise that is an error.

    Returns
    -------
    Microphone
        An iterator of blocks, notices and None; ``close`` ends it.

    """
    return Microphone(audio, sample_rate, clock=clock, wait=wait)


def read_exactly(stream: IO[bytes], count: int) -> bytes:
    """Read ``count`` bytes, or fewer at the end of the stream.

    For unbuffered streams: a thread that waits in a buffered one holds its lock, and Python aborts
    if it exits then.
    """
    parts = []
    while count > 0 and (part := stream.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _read_aside(read: Callable[[], Iterator[Block]]) -> Iterator[Block | None]:
    """Run a source in a thread; yield its blocks, or None when nothing arrived for a moment.

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
        except Exception as error:  # whatever it is, the caller must not wait forever
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
