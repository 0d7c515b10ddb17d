"""The ring in shared memory: what is read is what was written, and what was not is counted."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune_device.audio.shared_ring import (
    FULL_SCALE,
    Reader,
    Record,
    SharedRing,
    Writer,
    nameless_file,
    unpacked,
)


@pytest.fixture
def descriptor() -> Iterator[int]:
    number = nameless_file()
    yield number
    os.close(number)


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(1, 70), st.booleans(), st.integers(1, 90)), max_size=40),
       kind=st.sampled_from(["int16", "float32"]))  # fmt: skip
def test_every_frame_is_read_once_or_counted_as_lost(
    steps: list[tuple[int, bool, int]], kind: str
) -> None:
    number = nameless_file()
    written, scale = SharedRing(number, kind, 100), FULL_SCALE if kind == "int16" else 1.0
    writer, reader = Writer(written), Reader(SharedRing(number, kind, 100), 80)
    os.close(number)  # both have it: the name is not needed, nor is the descriptor
    timeline = np.full(4000, -1.0)
    for count, look, most in steps:
        first = writer.total
        writer.write(np.arange(first, first + count).astype(kind), 5_000_000_000)
        if look:
            before = reader.position
            lost, samples = reader.read(writer.total, most)
            assert reader.position == before + lost + len(samples)
            assert lost == max(0, writer.total - 80 - before)  # what is older than may wait
            timeline[before + lost : reader.position] = samples * scale
    heard = timeline >= 0
    np.testing.assert_array_equal(timeline[heard], np.flatnonzero(heard))
    assert reader.written == writer.total
    assert reader.last_callback == (5.0 if steps else 0.0)


def test_what_is_overwritten_while_it_is_being_read_is_lost_and_not_heard(descriptor: int) -> None:
    ring = SharedRing(descriptor, "int16", 100)
    writer, reader = Writer(ring), Reader(ring, 80)
    writer.write(np.arange(80, dtype=np.int16), 1)
    copy = reader._copied

    def interrupted(start: int, end: int) -> np.ndarray:
        samples = copy(start, end)
        writer.write(np.arange(80, 110, dtype=np.int16), 2)  # the writer was faster
        return samples

    reader._copied = interrupted  # type: ignore[method-assign]
    lost, samples = reader.read(80, 80)
    assert (lost, len(samples)) == (30, 50)
    np.testing.assert_array_equal(samples * FULL_SCALE, np.arange(30, 80))


def test_a_reader_whose_records_are_old_reads_nothing_that_was_overwritten(descriptor: int) -> None:
    ring = SharedRing(descriptor, "int16", 100)
    writer, reader = Writer(ring), Reader(ring, 80)
    writer.write(np.zeros(1000, np.int16), 1)  # more than the ring holds
    assert reader.read(50, 80)[0] == 50  # all that this record tells of has gone
    lost, samples = reader.read(1000, 1000)
    assert (lost, len(samples)) == (870, 80)


@given(records=st.lists(st.builds(Record, st.integers(0, 2**60), st.integers(0, 2**62),
                                  st.integers(0, 2**31), st.integers(0, 2**32 - 1))),
       cuts=st.lists(st.integers(1, 100), max_size=20))  # fmt: skip
def test_records_come_through_a_pipe_in_any_pieces(records: list[Record], cuts: list[int]) -> None:
    sent, found, rest = b"".join(record.packed() for record in records), [], b""
    for cut in [*cuts, len(sent)]:
        part, sent = sent[:cut], sent[cut:]
        whole, rest = unpacked(rest + part)
        found += whole
    assert found == records
    assert rest == b""


def test_something_else_in_the_pipe_is_noticed() -> None:
    with pytest.raises(ValueError, match="something that is not a record"):
        unpacked(b"Traceback (most recent call last)")


def test_a_reader_stays_off_the_part_that_is_being_written(descriptor: int) -> None:
    with pytest.raises(ValueError, match="100 frames cannot wait in a ring of 100"):
        Reader(SharedRing(descriptor, "int16", 100), 100)
