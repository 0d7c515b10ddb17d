"""Events: which windows count, what joins, what is hushed; a window at a time, by hand."""

from __future__ import annotations

import math

import pytest

from edgeprune_device.detection.events import Confirmation, Detection, Events


def test_an_event_of_one_window_has_its_times() -> None:
    event = Detection("robin", 0.9, 3.0, 4.0)
    assert (event.from_seconds, event.to_seconds) == (3.0, 4.0)


def window(label: str, score: float, start: float) -> Detection:
    return Detection(label, score, start, start + 1)


def test_a_window_over_the_threshold_counts_at_once_and_goes_on_while_it_is_not_released() -> None:
    confirm = Confirmation()
    assert confirm.take(window("robin", 0.4, 0), over=False) is None  # nothing has begun
    first = window("robin", 0.7, 1)
    assert confirm.take(first, over=True) is first
    second = window("robin", 0.5, 2)
    assert confirm.take(second, over=False) is second
    confirm.miss()
    assert confirm.take(window("robin", 0.5, 3), over=False) is None


def test_the_window_that_confirms_brings_the_surest_of_those_before_it_and_their_times() -> None:
    confirm = Confirmation(2, 3)
    assert confirm.take(window("robin", 0.9, 0), over=True) is None
    assert confirm.earliest_seconds == 0
    confirm.miss()
    assert confirm.take(window("robin", 0.7, 2), over=True) == Detection("robin", 0.9, 0, 1, 0, 3)
    assert confirm.earliest_seconds == math.inf  # all are used up
    assert confirm.take(window("robin", 0.8, 3), over=True) == window("robin", 0.8, 3)


def test_votes_older_than_the_last_m_windows_are_forgotten() -> None:
    confirm = Confirmation(2, 3)
    confirm.take(window("robin", 0.9, 0), over=True)
    confirm.miss()
    confirm.miss()
    assert confirm.take(window("robin", 0.9, 3), over=True) is None
    assert confirm.earliest_seconds == 3
    confirm.flush()
    assert confirm.earliest_seconds == math.inf
    assert confirm.take(window("robin", 0.9, 4), over=True) is None


def run(events: Events, *found: tuple[float, Detection | None]) -> list[tuple[float, Detection]]:
    """Give windows to a stream of events; return what it reported, each with the window's start."""
    done = [(start, event) for start, one in found for event in events.take(start, one)]
    return done + [(math.inf, event) for event in events.flush()]


def test_an_event_ends_with_a_window_that_says_nothing_or_with_one_that_does_not_touch_it() -> None:
    robin, late = window("robin", 0.9, 0), window("robin", 0.7, 1.0)
    assert run(Events(0), (0, robin), (0.5, None)) == [(0.5, robin)]
    assert run(Events(0), (0, robin), (1.0, late)) == [(1.0, robin), (math.inf, late)]
    surer = window("robin", 0.95, 0.5)
    assert run(Events(0), (0, robin), (0.5, surer)) == [
        (math.inf, Detection("robin", 0.95, 0.5, 1.5, 0.0, 1.5))
    ]


def test_the_surer_label_of_windows_that_touch_is_the_event() -> None:
    found = run(Events(0), (0, window("wren", 0.7, 0)), (0.5, window("robin", 0.9, 0.5)))
    assert [(event.label, event.from_seconds, event.to_seconds) for _, event in found] == [
        ("robin", 0.0, 1.5)
    ]


def test_a_label_is_hushed_from_its_last_window_on_and_others_are_not() -> None:
    """The second and the third come within 2 s of the last that was heard, reported or not."""
    events, starts = Events(2.0), (0, 2.999, 5.5, 8.5)
    found = run(events, *((start, window("robin", 0.9, start)) for start in starts))
    assert [(event.label, event.start_seconds) for _, event in found] == [
        ("robin", 0), ("robin", 8.5),
    ]  # fmt: skip
    found = run(Events(2.0), (0, window("robin", 0.9, 0)), (2, window("wren", 0.9, 2)))
    assert [event.label for _, event in found] == ["robin", "wren"]


def test_events_of_a_label_join_over_less_than_the_merging_time_and_wait_for_it() -> None:
    events = Events(0, merge_seconds=2.0)
    first, near, far = window("robin", 0.9, 0), window("robin", 0.7, 2.5), window("robin", 0.8, 6)
    found = run(events, (0, first), (1, None), (2.5, near), (3.5, None), (5.5, None), (6, far))
    assert [(at, event.from_seconds, event.to_seconds, event.score) for at, event in found] == [
        (5.5, 0, 3.5, 0.9), (math.inf, 6, 7, 0.8),
    ]  # fmt: skip


def test_events_that_lie_just_the_merging_time_apart_are_two() -> None:
    found = run(Events(0, 2.0), (0, window("robin", 0.9, 0)), (3, window("robin", 0.8, 3.0)))
    assert [event.from_seconds for _, event in found] == [0, 3]


def test_what_never_ends_is_reported_when_it_is_long_enough() -> None:
    events = Events(0, merge_seconds=2.0, longest_seconds=4.0)
    found = run(events, *((start, window("robin", 0.9, start)) for start in range(10)))
    assert [(at, event.from_seconds, event.to_seconds) for at, event in found] == [
        (4, 0, 4), (8, 4, 8), (math.inf, 8, 10),
    ]  # fmt: skip


def test_an_event_waits_while_windows_before_it_may_still_count() -> None:
    events = Events(0, merge_seconds=1.0)
    assert events.take(0, window("robin", 0.9, 0)) == []
    assert events.take(1.0, None, earliest_seconds=0.5) == []
    assert events.take(3.0, None, earliest_seconds=1.5) == []  # one at 1.5 would join it
    assert [event.label for event in events.take(3.0, None)] == ["robin"]


def test_one_that_begins_just_too_late_to_join_does_not_though_the_first_still_waits() -> None:
    events = Events(0, merge_seconds=2.0)
    first, second = window("robin", 0.9, 0), window("robin", 0.8, 3)
    assert events.take(0, first) == []
    assert events.take(3, second, earliest_seconds=0.5) == []  # a window at 0.5 may still count
    assert events.take(4, None, earliest_seconds=0.5) == [first]
    assert events.flush() == [second]


@pytest.mark.parametrize("hop", [0.05, 0.01])
def test_just_a_window_away_is_so_wherever_in_the_stream_and_whatever_a_float_makes_of_it(
    hop: float,
) -> None:
    """So many hops later a window of a second has ended; in floats it may seem not to have."""
    windows, off = round(1 / hop), 0
    for number in range(0, 20_000, 7):
        start, later = hop * number, hop * (number + windows)
        off += later < start + 1
        found = run(
            Events(0), (start, window("robin", 0.9, start)), (later, window("wren", 0.95, later))
        )
        assert [event.label for _, event in found] == ["robin", "wren"]
    assert off > 0
