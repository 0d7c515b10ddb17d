"""From a sample of the stream to the time of day, and what is known of clock and board then.

A device's clock and the system's do not run alike, and the system's may jump. So a sample's time is
taken from the monotonic moment at which the newest sample was captured, counted back; only that
moment is turned into the time of day, by ``WallClock``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from edgeprune_device.system.clock import ClockState, WallClock

SYNCHRONISED = {True: "synchronised", False: "unsynchronised", None: "unknown"}


UNKNOWN = ClockState(None, "unknown")


class StreamTime:
    """The times of one session.

    Parameters
    ----------
    rate : int
        Samples per second of the stream.
    started : datetime
        The session's start in UTC: sample 0, until a source tells when sound was captured.
    wall : WallClock or None
        None for a file, which has no time of day.

    """

    def __init__(self, rate: int, started: datetime, wall: WallClock | None = None) -> None:
        self.rate, self.started, self.wall = rate, started, wall
        self.throttled: int | None = None
        """The board's flags, as they were found last."""
        self._anchor: tuple[int, float] | None = None

    def observe(self, position: int, heard_at: float) -> None:
        """Note that the stream had come to ``position`` at ``heard_at`` (monotonic seconds)."""
        self._anchor = position, heard_at

    def utc(self, sample: int) -> datetime:
        """Return when a sample was captured."""
        if self._anchor is None or self.wall is None:
            return self.started + timedelta(seconds=sample / self.rate)
        position, heard_at = self._anchor
        return self.wall.utc_of(heard_at - (position - sample) / self.rate)

    def facts(self, sample: int) -> TimeFacts:
        """Return what a detection that began with a sample carries."""
        clock = self.wall.state if self.wall else UNKNOWN
        return TimeFacts(
            SYNCHRONISED[clock.synchronised], clock.offset_bound_seconds, self.throttled,
            self.utc(sample),
        )  # fmt: skip


@dataclass(frozen=True)
class TimeFacts:
    """What is known of the clock and the board at the time of a detection."""

    clock: str = "unknown"
    """``synchronised``, ``unsynchronised`` or ``unknown``."""
    offset_bound_seconds: float | None = None
    """How wrong the clock may be at most, where that is known."""
    throttled: int | None = None
    """The board's flags (``vcgencmd get_throttled``); None where they cannot be read."""
    utc: datetime | None = None
    """When it began; None: the session's start and the stream's time."""
