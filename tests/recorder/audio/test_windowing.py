"""Windows of a stream: the same however it arrives, none over a gap, nothing left unheard."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeprune_device.audio.windowing import Windower


def cut(sizes: list[int], window: int, hop: int) -> list[tuple[int, list[float]]]:
    """Push the numbers 0, 1, 2, ... in blocks of these sizes; return the windows."""
    windower, sample, found = Windower(window, hop), 0, []
    for size in sizes:
        block = np.arange(sample, sample + size, dtype=np.float32)
        found += [(first, got.tolist()) for first, got in windower.push(block)]
        sample += size
    return found + [(first, got.tolist()) for first, got in windower.flush()]


@pytest.mark.parametrize(("window", "hop"), [(10, 5), (10, 10), (10, 3), (4, 11), (7, 1)])
def test_the_windows_do_not_depend_on_the_blocks(window: int, hop: int) -> None:
    generator = np.random.default_rng(0)
    sizes = generator.integers(0, 13, 40).tolist()
    total = sum(sizes)
    expected = [(first, list(map(float, range(first, first + window))))
                for first in range(0, total - window + 1, hop)]  # fmt: skip
    for blocks in (sizes, [total], [1] * total):
        found = cut(blocks, window, hop)
        assert found[: len(expected)] == expected
        assert len(found) - len(expected) <= 1


@pytest.mark.parametrize(
    ("total", "last"),
    [(20, (10, 10)), (22, (10, 10)), (23, (13, 10)), (24, (14, 10)), (25, (15, 10))],
)
def test_the_last_window_ends_where_the_stream_ends_unless_little_is_unheard(
    total: int, last: tuple[int, int]
) -> None:
    first, window = cut([total], 10, 5)[-1]
    assert (first, len(window)) == last
    assert window == list(map(float, range(first, first + 10)))


def test_a_stream_shorter_than_a_window_stands_in_the_middle_of_zeros() -> None:
    windower = Windower(10, 5)
    assert not list(windower.push(np.ones(4, np.float32)))
    ((first, window),) = windower.flush()
    assert first == 0
    assert window.tolist() == [0, 0, 0, 1, 1, 1, 1, 0, 0, 0]


def test_no_window_spans_a_gap_and_the_sample_clock_goes_on() -> None:
    windower = Windower(10, 5)

    def block(first: int, count: int) -> NDArray[np.float32]:
        return np.arange(first, first + count, dtype=np.float32)

    before = [first for first, _ in windower.push(block(0, 18))]
    windower.gap(100)
    after = [(first, float(got[0])) for first, got in windower.push(block(118, 20))]
    assert before == [0, 5]
    assert after == [(118, 118.0), (123, 123.0), (128, 128.0)]
    assert windower.position == 138


def test_an_empty_stream_has_no_window() -> None:
    assert cut([0, 0], 10, 5) == []


def test_a_hop_that_was_long_and_is_short_again_leaves_the_last_window_whole() -> None:
    windower = Windower(10, 2)
    windower.hop_samples = 10
    sound = np.arange(40, dtype=np.float32)
    assert [first for first, _ in windower.push(sound[:20])] == [0, 10]
    windower.hop_samples = 2
    assert not list(windower.push(sound[20:24]))
    ((first, window),) = windower.flush()
    assert first == 14
    assert window.tolist() == sound[14:24].tolist()
