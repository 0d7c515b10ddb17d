"""Converts stream time to UTC, and describes the clock and the machine at that time.

A device's clock and the system clock run at different speeds, and the system clock may jump. So the
time of a sample is counted back from the monotonic time at which the newest sample was captured;
only that time is converted to UTC, by ``WallClock``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from edgeprune_device.system.clock import ClockState, WallClock

SYNCHRONISED = {True: "synchronised", False: "unsynchronised", None: "unknown"}


UNKNOWN = ClockState(None, "unknown")


class StreamTime:
    """Converts the samples of one session to UTC.

    Parameters
    ----------
    rate : int
        Sample rate of the stream in Hz.
    started : datetime
        Start of the session, UTC: the time of sample 0 until a source reports capture times.
    wall : WallClock or None
        None for a file, which has no time of day.

    """

    def __init__(self, rate: int, started: datetime, wall: WallClock | None = None) -> None:
        self.rate, self.started, self.wall = rate, started, wall
        self.throttled: int | None = None
        """Last known get_throttled flags of the board."""
        self._anchor: tuple[int, float] | None = None

    def observe(self, position: int, heard_at: float) -> None:
        """Note that sample ``position`` was captured at ``heard_at`` (monotonic seconds)."""
        self._anchor = position, heard_at

    def utc(self, sample: int) -> datetime:
        """Return the UTC time at which a sample was captured."""
        if self._anchor is None or self.wall is None:
            return self.started + timedelta(seconds=sample / self.rate)
        position, heard_at = self._anchor
        return self.wall.utc_of(heard_at - (position - sample) / self.rate)

    def facts(self, sample: int) -> TimeFacts:
        """Return the facts stored with a detection that begins at a sample."""
        clock = self.wall.state if self.wall else UNKNOWN
        return TimeFacts(
            SYNCHRONISED[clock.synchronised], clock.offset_bound_seconds, self.throttled,
            self.utc(sample),
        )  # fmt: skip


@dataclass(frozen=True)
class TimeFacts:
    """State of the clock and the board at the time of a detection."""

    clock: str = "unknown"
    """``synchronised``, ``unsynchronised`` or ``unknown``."""
    offset_bound_seconds: float | None = None
    """Largest possible error of the clock in seconds; None if unknown."""
    throttled: int | None = None
    """The board's flags (``vcgencmd get_throttled``); None if they cannot be read."""
    utc: datetime | None = None
    """UTC time at which it began; None: session start plus stream time."""
