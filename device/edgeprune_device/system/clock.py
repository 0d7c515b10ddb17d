"""Tells whether the wall clock can be trusted and converts monotonic time to UTC.

A board without a battery starts in 1970 or at the time it was switched off, and jumps when the
network connects. Order and durations therefore come from stream time and the monotonic clock, which
never jump; UTC is computed from them only for output, and every detection records whether the clock
was synchronised.

The kernel knows: adjtimex(2) returns ``STA_UNSYNC`` and ``maxerror``, which an NTP client
maintains.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from edgeprune_device.stream import Notice

STA_UNSYNC = 0x0040
TIME_ERROR = 5
MICROSECONDS = 1_000_000
JUMP_SECONDS = 1.0
"""A slewed clock moves by at most 500 us/s (adjtimex(2)); a larger change is a jump."""
EARLIEST = datetime(2025, 1, 1, tzinfo=UTC)
"""A date before this program was written; a clock that shows an earlier one is wrong."""
TIMESYNCD = "run/systemd/timesync/synchronized"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class ClockState:
    """State of the wall clock."""

    synchronised: bool | None
    """Whether it is synchronised to a time source; None: unknown."""
    source: str
    """Source of that fact: ``kernel``, ``timesyncd``, ``calendar`` (before 2025), ``unknown``."""
    offset_bound_seconds: float | None = None
    """Maximum error reported by the kernel, seconds; None if unknown."""


UNKNOWN_CLOCK = ClockState(None, "unknown")


def clock_state(
    kernel: Callable[[], tuple[int, int, int] | None] | None = None, root: Path = Path("/"),
    wall: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> ClockState:  # fmt: skip
    """Determine whether the wall clock is synchronised.

    Parameters
    ----------
    kernel : callable or None
        Returns adjtimex's result, status flags and maxerror in microseconds, or None. None: the
        real adjtimex.
    root : Path
        Root folder below which timesyncd's file is looked up if adjtimex is not available.
    wall : callable
        Returns the current time, UTC.

    """
    if wall() < EARLIEST:
        return ClockState(False, "calendar")
    if (answer := (kernel or read_kernel)()) is not None:
        result, flags, error = answer
        bad = bool(flags & STA_UNSYNC) or result == TIME_ERROR
        return ClockState(not bad, "kernel", None if bad else error / MICROSECONDS)
    if (root / TIMESYNCD).exists():
        return ClockState(True, "timesyncd")
    return UNKNOWN_CLOCK


class _Timex(ctypes.Structure):
    _fields_ = (
        ("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long), ("esterror", ctypes.c_long), ("status", ctypes.c_int),
        ("constant", ctypes.c_long), ("precision", ctypes.c_long), ("tolerance", ctypes.c_long),
        ("seconds", ctypes.c_long), ("microseconds", ctypes.c_long), ("tick", ctypes.c_long),
        ("ppsfreq", ctypes.c_long), ("jitter", ctypes.c_long), ("shift", ctypes.c_int),
        ("stabil", ctypes.c_long), ("jitcnt", ctypes.c_long), ("calcnt", ctypes.c_long),
        ("errcnt", ctypes.c_long), ("stbcnt", ctypes.c_long), ("tai", ctypes.c_int),
        ("unused", ctypes.c_int * 11),
    )  # fmt: skip


def read_kernel() -> tuple[int, int, int] | None:
    """Return adjtimex(2)'s result, status and maxerror (us); None if it is not available."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        ask = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError):
        return None
    found = _Timex()  # modes 0: nothing is set
    result = int(ask(ctypes.byref(found)))
    return None if result < 0 else (result, int(found.status), int(found.maxerror))


class WallClock:
    """Wall-clock time of moments of the monotonic clock, by which the stream is timed.

    Every ``observe`` measures the difference of the two clocks again. After a jump, earlier moments
    are converted with the new difference, because a clock usually jumps when it is set right.

    Parameters
    ----------
    wall : datetime
        Current time, UTC.
    monotonic : float
        ``time.monotonic()`` at the same moment, seconds.
    state : ClockState

    """

    def __init__(self, wall: datetime, monotonic: float, state: ClockState) -> None:
        self._offset = _seconds(wall) - monotonic
        self.state = _trusted(wall, state)
        """State that is stored with each detection."""

    def observe(self, wall: datetime, monotonic: float, state: ClockState) -> list[Notice]:
        """Compare the clocks; call this about once a second.

        Returns
        -------
        list of Notice
            ``clock-jumped`` with ``seconds`` (forward is positive), ``before`` and ``after``;
            ``clock-synchronised`` or ``clock-unsynchronised`` when that changes.

        """
        offset, said = _seconds(wall) - monotonic, []
        by, earlier = offset - self._offset, self.state
        if abs(by) > JUMP_SECONDS:
            before = self.utc_of(monotonic)
            said.append(Notice(
                "clock-jumped",
                f"The clock jumped {'forward' if by > 0 else 'back'} by {abs(by):.1f} s, to "
                f"{wall.isoformat(timespec='seconds')}.",
                {"seconds": round(by, 3), "before": before.isoformat(), "after": wall.isoformat()},
            ))  # fmt: skip
        self._offset, self.state = offset, _trusted(wall, state)
        if self.state.synchronised != earlier.synchronised:
            good = self.state.synchronised
            said.append(Notice(
                "clock-synchronised" if good else "clock-unsynchronised",
                f"The clock is {'' if good else 'not ' if good is False else 'not known to be '}"
                f"synchronised ({self.state.source}).",
            ))  # fmt: skip
        return said

    def utc_of(self, monotonic: float) -> datetime:
        """Return the UTC time of a monotonic moment, with the latest known difference."""
        return EPOCH + timedelta(seconds=self._offset + monotonic)


def _trusted(wall: datetime, state: ClockState) -> ClockState:
    if wall < EARLIEST:
        return replace(state, synchronised=False, source="calendar", offset_bound_seconds=None)
    return state


def _seconds(wall: datetime) -> float:
    return (wall - EPOCH).total_seconds()
