"""Stream time: a sample's time of day, counted back from the newest one, by a clock that may jump."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from edgeprune_device.journal.stream_time import StreamTime, TimeFacts
from edgeprune_device.system.clock import ClockState, WallClock

RATE = 16_000
START = datetime(2026, 5, 1, 4, tzinfo=UTC)
GOOD = ClockState(True, "kernel", 0.01)


def test_a_file_counts_from_its_start_and_nothing_is_known_of_its_clock() -> None:
    times = StreamTime(RATE, START)
    times.observe(32_000, 1234.5)  # a file has no moments
    assert times.utc(48_000) == START + timedelta(seconds=3)
    assert times.facts(48_000) == TimeFacts("unknown", None, None, START + timedelta(seconds=3))


def test_before_a_source_tells_when_sound_came_the_start_is_sample_nought() -> None:
    times = StreamTime(RATE, START, WallClock(START + timedelta(seconds=9), 0.0, GOOD))
    assert times.utc(8_000) == START + timedelta(seconds=0.5)


def test_a_sample_is_as_old_as_the_samples_that_came_after_it() -> None:
    """At 100 s of the monotonic clock it is 05:00:00, and sample 160,000 has just been captured."""
    wall = WallClock(datetime(2026, 5, 1, 5, tzinfo=UTC), 100.0, GOOD)
    times = StreamTime(RATE, START, wall)
    times.observe(160_000, 100.0)
    assert times.utc(160_000) == datetime(2026, 5, 1, 5, tzinfo=UTC)
    assert times.utc(160_000 - 40_000) == datetime(2026, 5, 1, 4, 59, 57, 500_000, tzinfo=UTC)
    times.observe(176_000, 101.25)  # the device's clock is slow: a quarter of a second too late
    assert times.utc(176_000) == datetime(2026, 5, 1, 5, 0, 1, 250_000, tzinfo=UTC)
    assert times.utc(160_000) == datetime(2026, 5, 1, 5, 0, 0, 250_000, tzinfo=UTC)


def test_after_a_jump_the_same_sample_has_the_new_clocks_time() -> None:
    wall = WallClock(START, 100.0, GOOD)
    times = StreamTime(RATE, START, wall)
    times.observe(16_000, 100.0)
    before = times.utc(0)
    wall.observe(START + timedelta(hours=1, seconds=1), 101.0, GOOD)
    assert times.utc(0) - before == timedelta(hours=1)


@pytest.mark.parametrize(
    ("synchronised", "said"), [(True, "synchronised"), (False, "unsynchronised"), (None, "unknown")]
)
def test_a_detection_says_whether_its_clock_was_synchronised(
    synchronised: bool | None, said: str
) -> None:
    wall = WallClock(START, 0.0, ClockState(synchronised, "kernel", 0.02))
    times = StreamTime(RATE, START, wall)
    times.throttled = 0x50000
    times.observe(0, 0.0)
    assert times.facts(0) == TimeFacts(said, 0.02, 0x50000, START)
