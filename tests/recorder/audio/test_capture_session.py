"""One capture process's sound: blocks that have their time, losses that are made up for once."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune_device.audio.capture_session import CaptureSession
from edgeprune_device.audio.shared_ring import Reader, Record, SharedRing, Writer, nameless_file
from edgeprune_device.stream import Block

RATE, MODEL = 48000, 16000
FRAMES = 4800
START = 500.0


class Device:
    """Writes counted frames on an injected clock."""

    def __init__(self, seconds: float = 10.0, sample_rate: int = RATE) -> None:
        number = nameless_file()
        ring = SharedRing(number, "int16", round((seconds + 2) * RATE))
        os.close(number)
        self.writer, self.clock, self.overflows = Writer(ring), START, 0
        self.session = CaptureSession(Reader(ring, round(seconds * RATE)), RATE, sample_rate)
        self.session.open = True
        self.blocks: list[Block] = []

    def call(self, late: float = 0.0) -> None:
        """Capture a tenth of a second."""
        self.clock += FRAMES / RATE
        first = self.writer.total
        nanoseconds = round(1e9 * (self.clock + late))
        self.writer.write((np.arange(first, first + FRAMES) % 30011).astype(np.int16), nanoseconds)
        self.session.observe([Record(self.writer.total, nanoseconds, FRAMES, self.overflows)])

    def read(self) -> Iterator[Block]:
        """Read what there is."""
        while True:
            found = list(self.session.items())
            self.blocks += found
            yield from found
            if not self.session.waiting:
                return


def position(blocks: list[Block]) -> int:
    return sum(len(block.samples) + block.lost_samples for block in blocks)


def test_a_blocks_time_is_that_of_its_last_sample_resampled_or_not() -> None:
    for sample_rate in (RATE, MODEL):
        device = Device(sample_rate=sample_rate)
        for _ in range(20):
            device.call()
            for block in device.read():
                wanted = START + position(device.blocks) / sample_rate
                assert block.heard_at == pytest.approx(wanted, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(1, 60), st.booleans()), min_size=1, max_size=30),
       sample_rate=st.sampled_from([RATE, MODEL, 44100]))  # fmt: skip
def test_heard_and_lost_together_are_what_was_captured(
    steps: list[tuple[int, bool]], sample_rate: int
) -> None:
    device = Device(2.0, sample_rate)
    for calls, overflow in steps:
        device.overflows += overflow
        for _ in range(calls):
            device.call()
        list(device.read())
    blocks = [*device.blocks, *device.session.finish()]
    wanted = device.writer.total * sample_rate / RATE
    extra = sum(block.lost_samples for block in blocks if block.reason == "overflow")
    assert wanted - 1 <= position(blocks) <= wanted + extra + 1
    backlog = sum(block.lost_samples for block in blocks if block.reason == "backlog")
    overwritten = sum(max(0, calls * FRAMES - 2 * RATE) for calls, _ in steps)
    assert backlog == pytest.approx(overwritten * sample_rate / RATE, abs=len(steps) + extra)


def test_what_waits_is_told_with_each_block() -> None:
    device = Device()
    for _ in range(30):
        device.call()
    assert [block.backlog_seconds for block in device.read()] == pytest.approx(
        [2.5, 2.0, 1.5, 1.0, 0.5, 0.0]
    )


def test_a_loss_that_was_none_is_made_up_for_by_the_next() -> None:
    device = Device()
    for number in range(5000):
        if number == 3000:
            device.clock += 1.0  # frames are lost, and no flag says so
        device.call(late=0.4 if 1000 < number < 1700 else 0.0)
        list(device.read())
        if number == 2900:
            assert device.session.early_seconds == pytest.approx(0.4, abs=1e-3)
    losses = [block for block in device.blocks if block.lost_samples]
    assert [block.reason for block in losses] == ["driver", "driver"]
    assert [block.lost_samples / RATE for block in losses] == pytest.approx([0.4, 0.6], abs=1e-3)
    assert device.session.early_seconds == 0
    assert position(device.blocks) / RATE == pytest.approx(device.clock - START, abs=1e-3)


def test_what_waits_at_the_end_is_a_gap_so_that_the_stream_ends_where_capture_did() -> None:
    for sample_rate in (RATE, MODEL):
        device = Device(sample_rate=sample_rate)
        for _ in range(30):
            device.call()
        device.blocks += list(device.session.items())  # half a second of three
        rest = device.session.rest()
        assert rest is not None
        assert rest.reason == "backlog"
        assert len(rest.samples) == 0
        assert position([*device.blocks, rest]) == 3 * sample_rate
        assert rest.heard_at == pytest.approx(START + 3)
        list(device.read())
        device.blocks += list(device.session.finish())
    assert device.session.rest() is None
