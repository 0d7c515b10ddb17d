"""Sources: a file, standard input and the microphone as one kind of stream, and no read that is stuck."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from edgeprune_device.audio import sources
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.settings import Audio
from edgeprune_device.stream import Block


def test_a_source_that_is_faster_than_its_reader_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "QUEUE_SECONDS", 2 * sources.BLOCK_SECONDS)
    far = threading.Event()

    def read() -> Iterator[Block]:
        for number in range(5):
            if number == 4:
                far.set()
            yield Block(np.full(10, number, np.float32))

    source = sources._read_aside(read)
    first = next(source)  # starts the thread
    assert not far.wait(0.1)
    blocks = [block for block in (first, *source) if block is not None]
    assert [block.samples[0] for block in blocks] == [0, 1, 2, 3, 4]


def test_an_unforeseen_error_of_a_source_reaches_the_reader() -> None:
    def read() -> Iterator[Block]:
        yield Block(np.ones(10, np.float32))
        raise RuntimeError("the resampler broke")

    with pytest.raises(RuntimeError, match="the resampler broke"):
        for _, _ in zip(sources._read_aside(read), range(20), strict=False):
            pass


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_file_comes_in_blocks_at_the_models_rate_without_a_loss(
    rate: int, tmp_path: Path
) -> None:
    sound = 0.1 * np.random.default_rng(0).standard_normal(rate + 37)
    soundfile.write(tmp_path / "s.wav", sound, rate, subtype="FLOAT")
    blocks = list(sources.from_file(tmp_path / "s.wav", 16_000))
    whole = soxr.resample(sound.astype(np.float32), rate, 16_000, quality="HQ")
    heard = np.concatenate([block.samples for block in blocks])
    np.testing.assert_allclose(heard, whole, atol=1e-5)
    assert len(blocks) > 9
    assert {(block.lost_samples, block.heard_at) for block in blocks} == {(0, None)}


def test_a_file_that_cannot_be_read_is_one_sentence_when_it_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(EdgepruneError, match="There is no sound file"):
        next(sources.from_file(tmp_path / "nothing.wav", 16_000))


@contextmanager
def typed(patch: pytest.MonkeyPatch) -> Iterator[int]:
    """Have a pipe as standard input; give its other end."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as stdin:
        patch.setattr(sys, "stdin", stdin)
        yield writer


def test_standard_input_is_sixteen_bit_little_endian_and_half_a_sample_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second and a bit, in pieces that end in the middle of a sample; one byte is left over."""
    values = np.arange(-8050, 8050, dtype="<i2")
    data = values.tobytes() + b"x"
    with typed(monkeypatch) as pipe:

        def send() -> None:
            for first in range(0, len(data), 4999):
                os.write(pipe, data[first : first + 4999])
            os.close(pipe)

        thread = threading.Thread(target=send)
        thread.start()
        blocks = [block for block in sources.from_stdin(16_000) if block is not None]
        thread.join()
    assert [len(block.samples) for block in blocks] == [1600] * 10 + [100]
    heard = np.concatenate([block.samples for block in blocks])
    np.testing.assert_array_equal(heard, values.astype(np.float32) / 32768)


def test_while_nothing_comes_the_reader_gets_none_and_is_not_stuck(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sources, "TICK_SECONDS", 0.01)
    with typed(monkeypatch) as pipe:
        source = sources.from_stdin(16_000)
        assert [next(source) for _ in range(3)] == [None, None, None]
        os.write(pipe, bytes(3200))
        found = next(block for block in source if block is not None)
        assert len(found.samples) == 1600
        os.close(pipe)
        assert [block for block in source if block is not None] == []


def test_so_many_bytes_are_read_however_few_come_at_a_time() -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(3, size or 0))

    assert sources.read_exactly(Slow(b"0123456789"), 7) == b"0123456"
    assert sources.read_exactly(Slow(b"0123456789"), 20) == b"0123456789"
    assert sources.read_exactly(Slow(b""), 5) == b""


def test_the_microphone_is_opened_as_it_was_asked_for() -> None:
    audio, clock = Audio(device="usb", gain_db=3), iter([1.0, 2.0])
    microphone = sources.from_microphone(audio, 16_000, clock=lambda: next(clock), wait=True)
    assert (microphone.audio, microphone.sample_rate, microphone.wait) == (audio, 16_000, True)
    assert microphone.child is None  # no process before the first sound is asked for
    microphone.close()
