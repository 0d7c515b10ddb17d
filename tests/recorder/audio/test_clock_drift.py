"""Frames against the clock: losses without a flag are found, drift is none, lateness is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune_device.audio.clock_drift import ClockDrift

RATE = 48000
BLOCK = 4800


def run(
    seconds: float, *, lost: dict[float, float] | None = None, ppm: float = 0.0, late: float = 0.0,
    lag: ClockDrift | None = None,
) -> tuple[ClockDrift, list[tuple[float, float]]]:  # fmt: skip
    """Feed callbacks of a device; return what was found lost, and when."""
    lag, found, due = lag or ClockDrift(RATE), [], sorted((lost or {}).items())
    random, total, clock = np.random.default_rng(0), 0, 1000.0
    while clock < 1000 + seconds:
        clock += BLOCK / RATE * (1 + ppm * 1e-6)
        while due and clock >= 1000 + due[0][0]:
            clock += due.pop(0)[1]
        total += BLOCK
        if seconds_lost := lag.observe(total, clock + float(random.exponential(late + 1e-9))):
            found.append((clock - 1000, seconds_lost))
    return lag, found


@settings(max_examples=30, deadline=None)
@given(at=st.floats(31, 200), lost=st.floats(0.11, 100), late=st.sampled_from([0.0, 0.01, 0.05]))
def test_a_loss_that_no_flag_tells_is_found_within_two_windows_and_measured(
    at: float, lost: float, late: float
) -> None:
    _, found = run(at + lost + 70, lost={at: lost}, late=late)
    assert len(found) == 1
    when, seconds = found[0]
    assert at + lost < when <= at + lost + 61 + late
    assert seconds == pytest.approx(lost, abs=0.003 + late)


@pytest.mark.parametrize("ppm", [-500, -50, 0, 50, 500])
def test_drift_is_not_loss_and_is_told(ppm: float) -> None:
    lag, found = run(4000, ppm=ppm, late=0.01)
    assert not found
    assert lag.drift_seconds == pytest.approx(4000 * ppm * 1e-6, abs=0.04)
    assert lag.drift_ppm == pytest.approx(ppm, abs=20)


def test_late_callbacks_are_no_loss_and_the_lag_is_that_of_the_punctual_ones() -> None:
    lag, found = run(600, late=0.2)
    assert not found
    assert lag.seconds == pytest.approx(1000, abs=0.005)


def test_each_of_several_losses_is_counted_and_drift_stays_apart() -> None:
    lag, found = run(1000, lost={100.0: 0.5, 400.0: 2.0, 700.0: 0.2}, ppm=100, late=0.01)
    assert [seconds for _, seconds in found] == pytest.approx([0.5, 2.0, 0.2], abs=0.02)
    assert lag.counted == pytest.approx(2.7, abs=0.05)
    assert lag.drift_seconds == pytest.approx(0.1, abs=0.05)
    assert lag.seconds == pytest.approx(1000 + 2.7 + 0.1, abs=0.05)


def test_what_was_late_for_a_whole_window_and_not_lost_is_taken_back() -> None:
    lag, found, total = ClockDrift(RATE), list[float](), 0
    for number in range(3000):
        total += BLOCK
        late = 0.4 if 1000 < number < 1700 else 0.0  # 70 s without one punctual callback
        found.append(lag.observe(total, 1000 + 0.1 * number + late))
    first, second = (seconds for seconds in found if seconds)
    assert [first, second] == pytest.approx([0.4, -0.4])
    assert lag.counted == pytest.approx(0)
    assert lag.drift_seconds == pytest.approx(0, abs=1e-6)


def test_in_the_first_hour_drift_is_not_told_in_ppm() -> None:
    lag, _ = run(3500)
    assert lag.drift_ppm is None
