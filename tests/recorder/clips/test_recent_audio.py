"""Recent audio: the last samples by their place in the stream, and never over a gap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeprune_device.clips.recent_audio import RecentAudio


def sound(first: int, last: int) -> NDArray[np.float32]:
    """Return samples that tell their place: sample n is n of 32,768."""
    return (np.arange(first, last) / 32768).astype(np.float32)


def filled(*pieces: tuple[int, int]) -> RecentAudio:
    recent = RecentAudio()
    for first, last in pieces:
        recent.push(first, sound(first, last))
    return recent


def test_samples_are_read_back_by_their_place_over_the_edges_of_pieces() -> None:
    recent = filled((0, 10), (10, 25), (25, 30))
    first, samples = recent.read(0, 8, 27)
    assert (first, samples.tolist()) == (8, list(range(8, 27)))
    assert samples.dtype == np.int16
    assert recent.position == 30


def test_a_span_that_reaches_over_what_is_held_gives_what_there_is() -> None:
    recent = filled((0, 10), (10, 20), (20, 30))
    recent.drop(12)  # the piece that holds sample 12 stays
    first, samples = recent.read(0, 5, 40)
    assert (first, samples.tolist()) == (10, list(range(10, 30)))
    assert recent.read(0, 2, 6)[1].tolist() == []
    recent.drop(20)
    assert recent.read(0, 5, 40)[0] == 20


def test_sound_after_a_gap_is_another_stretch_and_is_never_joined() -> None:
    recent = filled((0, 10), (15, 25))
    assert recent.position == 25
    assert recent.read(0, 0, 25)[1].tolist() == list(range(10))
    first, samples = recent.read(1, 0, 25)
    assert (first, samples.tolist()) == (15, list(range(15, 25)))


def test_the_stretch_of_a_span_is_the_one_that_holds_most_of_it() -> None:
    recent = filled((0, 10), (15, 25))
    assert recent.stretch_of(2, 18) == (0, 0, 10)  # 8 against 3
    assert recent.stretch_of(8, 25) == (1, 15, 25)  # 2 against 10
    assert recent.stretch_of(8, 17) == (0, 0, 10)  # 2 and 2: the earlier one
    assert recent.stretch_of(10, 15) is None
    assert recent.stretch_of(30, 40) is None


def test_a_gap_without_samples_and_an_empty_block_are_none() -> None:
    recent = filled((0, 10))
    recent.push(10, sound(10, 10))
    assert recent.stretch_of(0, 10) == (0, 0, 10)
    recent.gap(10)  # a source that was lost for no time begins anew all the same
    recent.push(10, sound(10, 20))
    assert recent.stretch_of(12, 18) == (1, 10, 20)


def test_what_comes_before_the_position_is_a_mistake_of_the_program() -> None:
    recent = filled((0, 10))
    with pytest.raises(ValueError, match=r"Sample 9 comes after sample 10"):
        recent.push(9, sound(9, 12))


def test_dropping_forgets_stretches_of_which_nothing_is_held() -> None:
    recent = filled((0, 10), (15, 25), (40, 50))
    recent.drop(30)
    assert recent.begins == {2: 40}
    assert recent.stretch_of(0, 50) == (2, 40, 50)
    recent.drop(100)
    assert (list(recent.pieces), recent.begins) == ([], {2: 40})  # which still goes on


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=12), st.data())
def test_any_span_of_any_stretch_is_what_a_list_of_all_samples_says(
    steps: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Steps of lost and heard samples; the oracle holds (stretch, sample) one by one."""
    recent, oracle, position, stretch = RecentAudio(), list[tuple[int, int]](), 0, 0
    for lost, heard in steps:
        stretch += lost > 0
        position += lost
        recent.push(position, sound(position, position + heard))
        oracle += [(stretch, sample) for sample in range(position, position + heard)]
        position += heard
    first = data.draw(st.integers(0, position))
    last = data.draw(st.integers(first, position))
    number = data.draw(st.integers(0, stretch))
    wanted = [sample for held, sample in oracle if held == number and first <= sample < last]
    found, samples = recent.read(number, first, last)
    assert samples.tolist() == wanted
    assert not wanted or found == wanted[0]
