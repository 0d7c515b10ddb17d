"""Sound as it comes in: blocks from a file, from standard input, or from the microphone's process.

Each source yields ``Block``s of mono float32 at the model's rate; ``lost_samples`` stand before a
block's first one. The live sources are read by a thread, so that the caller is never stuck in a
read: it gets None when nothing has come for a moment.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen
from typing import IO

import numpy as np
import soxr
from numpy.typing import NDArray

from edgeprune_device import microphone
from edgeprune_device.errors import FAILED_CHECK, EdgepruneError
from edgeprune_device.sound import stream_file

BLOCK_SECONDS = 0.1
TICK_SECONDS = 0.2
QUEUE_SECONDS = 30.0
FULL_SCALE = 32768.0
LINES_KEPT = 20  # of what the microphone's process says


@dataclass(frozen=True)
class Block:
    """A piece of the stream."""

    samples: NDArray[np.float32]
    """(n,), mono, in [-1, 1]."""
    lost_samples: int = 0
    """Samples before the first that never arrived."""


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

    # A pipe may be faster than the model: it waits, nothing is dropped.
    yield from _read_aside(read, drop=False)


def from_microphone(device: str | None, sample_rate: int) -> Iterator[Block | None]:
    """Yield the microphone, captured by a child that is killed in the end.

    Raises
    ------
    EdgepruneError
        What the child says, or its end.

    """
    command = [sys.executable, "-m", "edgeprune_device.microphone", "--rate", str(sample_rate),
               "--block-seconds", str(BLOCK_SECONDS)]  # fmt: skip
    if device is not None:
        command += ["--device", device]
    child = Popen(
        command, stdin=PIPE, stdout=PIPE, stderr=PIPE,
        bufsize=0, start_new_session=True,  # a Ctrl-C in the terminal reaches the parent alone
    )  # fmt: skip

    def read() -> Iterator[Block]:
        with _opened(child.stdout) as stream:
            yield from packets(stream, sample_rate)

    said: deque[bytes] = deque(maxlen=LINES_KEPT)
    ear = threading.Thread(target=_keep_lines, args=(_opened(child.stderr), said), daemon=True)
    ear.start()
    try:
        yield from _read_aside(read, drop=True)
        ear.join(TICK_SECONDS)
        raise _error_of(list(said))
    finally:
        child.kill()
        child.wait()
        _opened(child.stdin).close()


def packets(stream: IO[bytes], sample_rate: int) -> Iterator[Block]:
    """Turn the microphone process's packets into blocks at the model's rate, losses counted."""
    resampler: soxr.ResampleStream | None = None
    expected = overflowed = 0
    while len(header := read_exactly(stream, microphone.HEADER.size)) == microphone.HEADER.size:
        magic, rate, total, count, overflows = microphone.HEADER.unpack(header)
        if magic != microphone.MAGIC:
            raise EdgepruneError("The capture process sent no packet.", "", FAILED_CHECK)
        samples = _samples(read_exactly(stream, count * microphone.BYTES_PER_SAMPLE))
        lost = round((total - count - expected) * sample_rate / rate)
        if overflows > overflowed:
            lost = max(lost, 1)  # PortAudio does not say how many; no window may span the place
        expected, overflowed = total, overflows
        if rate != sample_rate:
            if resampler is not None and lost:  # what stands before a gap says nothing of the rest
                yield Block(resampler.resample_chunk(samples[:0], last=True))
                resampler = None
            if resampler is None:
                resampler = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")
            samples = resampler.resample_chunk(samples)
        yield Block(samples, lost)


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


def _read_aside(read: Callable[[], Iterator[Block]], *, drop: bool) -> Iterator[Block | None]:
    """Run a source in a thread; yield what it gives, or None when nothing came for a moment.

    With ``drop``, blocks that find the queue full are lost, and counted in the next one.
    """
    held: queue.Queue[Block | BaseException | None] = queue.Queue(
        round(QUEUE_SECONDS / BLOCK_SECONDS)
    )

    def run() -> None:
        lost = 0
        try:
            for block in read():
                whole = Block(block.samples, block.lost_samples + lost)
                try:
                    held.put(whole, block=not drop)
                    lost = 0
                except queue.Full:
                    lost = whole.lost_samples + len(whole.samples)
            if lost:
                held.put(Block(np.empty(0, dtype=np.float32), lost))
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


def _opened(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise ValueError("the child has no such pipe")
    return stream


def _keep_lines(stream: IO[bytes], said: deque[bytes]) -> None:
    """Keep the last lines: ALSA writes one for each overrun, and a full pipe would stop the child."""
    with stream:
        rest = b""
        while data := stream.read(4096):
            *whole, rest = (rest + data).split(b"\n")
            said.extend(line for line in whole if line.strip())
    if rest.strip():
        said.append(rest)


def _error_of(said: list[bytes]) -> EdgepruneError:
    """Return the error of a capture process that has ended, from its last lines."""
    lines = [line.decode("utf-8", "replace").strip() for line in said]
    try:
        told = json.loads(lines[-1])
        return EdgepruneError(told["error"], told["hint"], told["status"])
    except (IndexError, ValueError, KeyError, TypeError):
        last = lines[-1] if lines else "no message"
        return EdgepruneError(
            f"The capture process ended by itself ({last}).",
            "edgeprune devices lists the inputs.", FAILED_CHECK,
        )  # fmt: skip
