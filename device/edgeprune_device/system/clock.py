"""Whether the time of day can be trusted, and what it was when a sound was heard.

A board without a battery starts in 1970 or where it was switched off, and jumps when the network
comes. So order and durations come from stream time and the monotonic clock, which never jump; the
time of day is computed from them at the edge, and every detection says whether it was synchronised.

The kernel knows: adjtimex(2) returns ``STA_UNSYNC`` and ``maxerror``, which an NTP client maintains.
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
"""A clock that is slewed moves by 500 us/s at most (adjtimex(2)); more than this is a jump."""
EARLIEST = datetime(2025, 1, 1, tzinfo=UTC)
"""Before this program was written: no clock that shows it is right."""
TIMESYNCD = "run/systemd/timesync/synchronized"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class ClockState:
    """What is known of the wall clock."""

    synchronised: bool | None
    """With a time source, by the kernel's word; None: nothing here tells."""
    source: str
    """Who says so: ``kernel``, ``timesyncd``, ``calendar`` (before 2025), ``unknown``."""
    offset_bound_seconds: float | None = None
    """The kernel's maximum error; None where it is not known."""


UNKNOWN_CLOCK = ClockState(None, "unknown")


def clock_state(
    kernel: Callable[[], tuple[int, int, int] | None] | None = None, root: Path = Path("/"),
    wall: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> ClockState:  # fmt: skip
    """Ask whether the wall clock is synchronised.

    Parameters
    ----------
    kernel : callable or None
        Returns adjtimex's result, status flags and maxerror in microseconds, or None; None: the
        real one.
    root : Path
        Where timesyncd's file is looked for if the kernel does not answer.
    wall : callable
        The time of day.

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
    """Return adjtimex(2)'s result, status and maxerror (us); None where it cannot be asked."""
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
    """The time of day at moments of the monotonic clock, which is what the stream is timed by.

    The two clocks' difference is taken anew with every ``observe``: after a jump, earlier moments
    are told by the new one, for a clock that jumps has most often just been set right.

    Parameters
    ----------
    wall : datetime
        UTC now.
    monotonic : float
        ``time.monotonic()`` at the same moment.
    state : ClockState

    """

    def __init__(self, wall: datetime, monotonic: float, state: ClockState) -> None:
        self._offset = _seconds(wall) - monotonic
        self.state = _trusted(wall, state)
        """What a detection carries."""

    def observe(self, wall: datetime, monotonic: float, state: ClockState) -> list[Notice]:
        """Compare the clocks; call it about once a second.

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
        """Return the time of day of a moment, by what is known now."""
        return EPOCH + timedelta(seconds=self._offset + monotonic)


def _trusted(wall: datetime, state: ClockState) -> ClockState:
    if wall < EARLIEST:
        return replace(state, synchronised=False, source="calendar", offset_bound_seconds=None)
    return state


def _seconds(wall: datetime) -> float:
    return (wall - EPOCH).total_seconds()
