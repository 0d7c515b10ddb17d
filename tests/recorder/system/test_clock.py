"""Clocks that jump, start in 1970 or are not synchronised: injected, and the kernel's own."""

from __future__ import annotations

import shutil
import subprocess
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from faults_table import Tally
from hypothesis import given
from hypothesis import strategies as st

from edgeprune_device.system.clock import ClockState, WallClock, clock_state, read_kernel

GOOD, BAD = ClockState(True, "kernel", 0.01), ClockState(False, "kernel")
NOW = datetime(2026, 5, 1, 4, tzinfo=UTC)


def test_the_flags_of_the_kernel_decide_and_its_bound_is_in_seconds() -> None:
    def told(result: int, flags: int, error: int) -> ClockState:
        return clock_state(lambda: (result, flags, error), wall=lambda: NOW)

    assert told(0, 0x2001, 12_500) == ClockState(True, "kernel", 0.0125)
    assert told(5, 0x0040, 16_000_000) == ClockState(False, "kernel")
    assert told(5, 0x0001, 10) == ClockState(False, "kernel")


def test_where_the_kernel_does_not_answer_a_file_of_timesyncd_does_or_nobody(
    tmp_path: Path,
) -> None:
    assert clock_state(lambda: None, tmp_path, lambda: NOW) == ClockState(None, "unknown")
    (tmp_path / "run/systemd/timesync").mkdir(parents=True)
    (tmp_path / "run/systemd/timesync/synchronized").touch()
    assert clock_state(lambda: None, tmp_path, lambda: NOW) == ClockState(True, "timesyncd")


def test_no_word_of_the_kernel_makes_1970_right() -> None:
    start = datetime(1970, 1, 1, 0, 0, 12, tzinfo=UTC)
    assert clock_state(lambda: (0, 0, 1), wall=lambda: start) == ClockState(False, "calendar")
    assert WallClock(start, 12.0, GOOD).state == ClockState(False, "calendar")


def test_this_kernel_answers_as_adjtimex_or_timedatectl_says() -> None:
    """The oracle: Python reads the same structure as the C library's own tool, where it is here."""
    answer = read_kernel()
    if answer is None:
        pytest.skip("this kernel lets nobody ask adjtimex")
    result, flags, error = answer
    assert 0 <= result <= 5
    assert 0 <= error <= 2**40
    assert result == 5 or not flags & 0x0040  # TIME_ERROR where it is not synchronised
    if tool := shutil.which("adjtimex"):
        said = subprocess.run([tool, "-p"], capture_output=True, text=True, check=True).stdout
        assert f"status: {flags}" in " ".join(said.split())


@pytest.mark.fault("F17")
@pytest.mark.parametrize("jump", [3600, -3600, 86_400, -86_400, 1.5, -1.5])
def test_a_jump_is_noticed_once_and_order_and_durations_stay(jump: float, tally: Tally) -> None:
    """Six jumps, of an hour, a day and 1.5 s, both ways: one notice each, nothing else changes.

    Detections are a second apart in stream time, heard 0.2 s before they are told, with a jump in
    the middle. Nothing is lost: what changes is the time of day alone.
    """
    clock = WallClock(NOW, 100.0, GOOD)
    told, notices = [], []
    for second in range(1, 61):
        shown = NOW + timedelta(seconds=second + (jump if second >= 30 else 0))
        notices += clock.observe(shown, 100.0 + second, GOOD)
        told.append((second, clock.utc_of(100.0 + second - 0.2), clock.state.synchronised))
    assert [notice.kind for notice in notices] == ["clock-jumped"]
    assert notices[0].details["seconds"] == pytest.approx(jump)
    for part in (told[:29], told[29:]):
        steps = [b[1] - a[1] for a, b in pairwise(part)]
        assert all(abs(step.total_seconds() - 1) < 1e-5 for step in steps)
    assert told[-1][1] == NOW + timedelta(seconds=60 + jump - 0.2)
    # A span that was heard across the jump is as long as it was: both ends by one difference.
    assert clock.utc_of(135.0) - clock.utc_of(125.0) == timedelta(seconds=10)
    tally(1, 0, "one notice for each jump")


@pytest.mark.fault("F17")
def test_a_board_that_starts_in_1970_is_set_right_and_says_so_from_then_on(tally: Tally) -> None:
    """One start in 1970, synchronised after a minute: before it False, after it True."""
    start = datetime(1970, 1, 1, tzinfo=UTC)
    clock = WallClock(start, 5.0, BAD)
    heard = 60.0
    assert clock.observe(start + timedelta(seconds=60), 65.0, BAD) == []
    assert clock.state.synchronised is False
    assert clock.utc_of(heard).year == 1970
    notices = clock.observe(NOW, 66.0, GOOD)
    assert [notice.kind for notice in notices] == ["clock-jumped", "clock-synchronised"]
    assert clock.state == GOOD
    assert clock.utc_of(heard) == NOW - timedelta(seconds=6)  # what was heard before it, too
    tally(1, 0)


@pytest.mark.fault("F17")
def test_a_clock_that_is_slewed_is_followed_without_a_notice(tally: Tally) -> None:
    """An hour at 500 us/s, the most adjtimex slews: followed to 0.1 ms, no notice."""
    clock = WallClock(NOW, 0.0, GOOD)
    for second in range(1, 3601):
        assert clock.observe(NOW + timedelta(seconds=second * 1.0005), float(second), GOOD) == []
    apart = clock.utc_of(3600.0) - (NOW + timedelta(seconds=3600 * 1.0005))
    assert abs(apart.total_seconds()) < 1e-4
    tally(1, 0)


def test_losing_the_time_source_is_noticed_and_so_is_not_knowing() -> None:
    clock = WallClock(NOW, 0.0, GOOD)
    lost = clock.observe(NOW + timedelta(seconds=1), 1.0, BAD)
    assert [notice.text for notice in lost] == ["The clock is not synchronised (kernel)."]
    unknown = clock.observe(NOW + timedelta(seconds=2), 2.0, ClockState(None, "unknown"))
    assert [notice.text for notice in unknown] == [
        "The clock is not known to be synchronised (unknown)."
    ]


@given(st.lists(st.tuples(st.floats(0.01, 10), st.floats(-1e6, 1e6)), max_size=30))
def test_whatever_the_clock_does_durations_are_those_of_the_monotonic_clock(
    moves: list[tuple[float, float]],
) -> None:
    clock, monotonic, wall = WallClock(NOW, 0.0, GOOD), 0.0, NOW
    for passed, jump in moves:
        monotonic += passed
        wall += timedelta(seconds=passed + jump)
        said = clock.observe(wall, monotonic, GOOD)
        assert len(said) == (abs(jump) > 1 or (abs(jump) > 1 - 1e-3 and len(said) == 1))
        span = clock.utc_of(monotonic) - clock.utc_of(monotonic - 5)
        assert abs(span.total_seconds() - 5) < 1e-5


def test_the_real_clocks_agree_with_themselves() -> None:
    clock = WallClock(datetime.now(UTC), time.monotonic(), clock_state())
    apart = clock.utc_of(time.monotonic()) - datetime.now(UTC)
    assert abs(apart.total_seconds()) < 5  # a busy machine
