"""When to record: time ranges of the day by the clock or the sun, and quiet ranges, which win.

    05:00-09:00   22:00-04:30   dawn-1h..dusk+0:30   sunset..23:00   20:00..dawn

A range begins on every day of local time; one that ends before it begins extends over midnight.
Which of the two it is does not change with the season: dawn and sunrise count as morning, sunset
and dusk as evening, so ``05:00..sunrise`` is empty on a summer's day on which the sun is up at
five, and does not last 24 hours. A time that the clocks skip in spring is shifted by the length of
the change; of one that they repeat in autumn, the first is used. Everything is computed in UTC.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from edgeprune_device.errors import EdgepruneError
from edgeprune_device.recorder.sun import EVENTS, solar_day, sun_event
from edgeprune_device.settings import Schedule as Entries

NOMINAL_MINUTES = {"dawn": 330, "sunrise": 360, "sunset": 1080, "dusk": 1110}
"""Nominal minutes of the day, for ordering among clock times."""
DAY = timedelta(days=1)
AROUND_DAYS = 2
"""Days before and after that a range can reach, with time zones and solar days."""
SEARCH_DAYS = 370
LEAST = timedelta(minutes=1)
"""Shorter ranges and gaps are ignored: two solar midnights are not exactly a day apart."""
EXAMPLE = "Examples: 05:00-09:00, 22:00-04:00, dawn-1h..dusk+0:30, 20:00..dawn."
CLOCK = re.compile(r"(\d{1,2}):(\d{2})")
SUN = re.compile(rf"({'|'.join(EVENTS)})(?:\s*([+-])\s*(.+))?")
OFFSET = re.compile(r"(?:(\d{1,2}):(\d{2}))|(?:(\d{1,2})\s*h)?\s*(?:(\d{1,4})\s*m(?:in)?)?")
MOST_OFFSET_MINUTES = 720


@dataclass(frozen=True)
class Point:
    """A time of day: minutes after midnight, or after an event of the sun."""

    event: str
    """One of ``sun.EVENTS``; empty: midnight by the clock."""
    minutes: int

    @property
    def nominal(self) -> int:
        """Minutes of the day by which it is ordered."""
        return NOMINAL_MINUTES[self.event] if self.event else self.minutes


@dataclass(frozen=True)
class TimeRange:
    """A time range from one point to another, on the same day or the next."""

    text: str
    begin: Point
    end: Point

    @property
    def over_midnight(self) -> bool:
        """Whether it ends on the next day."""
        if self.begin.event == self.end.event:
            return self.end.minutes <= self.begin.minutes
        return self.end.nominal <= self.begin.nominal


Span = tuple[datetime, datetime]
Place = tuple[float, float]


class ListeningSchedule:
    """When a recorder records.

    Parameters
    ----------
    entries : settings.Schedule
    zone : tzinfo or None
        Time zone of the clock times; None: that of the datetimes passed to its methods.

    Raises
    ------
    EdgepruneError
        A time range that is invalid, or one by the sun without coordinates.

    """

    def __init__(self, entries: Entries, zone: tzinfo | None = None) -> None:
        self.place = (
            None if entries.latitude is None or entries.longitude is None
            else (entries.latitude, entries.longitude)
        )  # fmt: skip
        self._listen = tuple(self._read("listen", text) for text in entries.listen)
        self._quiet = tuple(self._read("quiet", text) for text in entries.quiet)
        self._zone = zone

    @property
    def always(self) -> bool:
        """Whether there is no schedule."""
        return not self._listen and not self._quiet

    def listening(self, moment: datetime) -> bool:
        """Return whether to record at a time (an aware datetime)."""
        if self.always:
            return True
        zone, at = self._zone_of(moment), moment.astimezone(UTC)
        day = at.astimezone(zone).date()
        wanted = not self._listen or _within(at, self._spans(self._listen, day, zone))
        return wanted and not _within(at, self._spans(self._quiet, day, zone))

    def next_change(self, moment: datetime) -> datetime | None:
        """Return when ``listening`` changes next, in the moment's zone; None: not within a year."""
        if self.always:
            return None
        zone, at = self._zone_of(moment), moment.astimezone(UTC)
        now, day = self.listening(moment), at.astimezone(zone).date()
        for later in range(SEARCH_DAYS):
            on = day + later * DAY
            spans = self._spans(self._listen, on, zone) + self._spans(self._quiet, on, zone)
            for edge in sorted({edge for span in spans for edge in span}):
                local = edge.astimezone(zone)
                if edge > at and local.date() <= on and self.listening(local) != now:
                    return local
        return None

    def notes(self, day: date) -> list[str]:
        """Return a sentence for each solar event that does not occur on a day."""
        if self.place is None:
            return []
        names = {point.event for stretch in (*self._listen, *self._quiet)
                 for point in (stretch.begin, stretch.end) if point.event}  # fmt: skip
        said = []
        for name in sorted(names, key=list(EVENTS).index):
            if kind := sun_event(name, day, *self.place).kind:
                height = (
                    "6 degrees below the horizon" if name in ("dawn", "dusk") else "the horizon"
                )
                taken = "at solar noon" if kind == "below" else "at solar midnight"
                said.append(
                    f"On {day} the sun stays {kind} {height} at {self.place[0]:g}, "
                    f"{self.place[1]:g}: {name} is assumed {taken}."
                )
        return said

    def _spans(self, stretches: Sequence[TimeRange], day: date, zone: tzinfo) -> tuple[Span, ...]:
        return _spans_around(tuple(stretches), day, zone, self.place)

    def _zone_of(self, moment: datetime) -> tzinfo:
        if moment.tzinfo is None:
            raise ValueError(f"{moment} has no time zone")
        return self._zone or moment.tzinfo

    def _read(self, which: str, text: str) -> TimeRange:
        stretch = parse_time_range(text, f"schedule.{which}")
        if self.place is None and (name := stretch.begin.event or stretch.end.event):
            raise EdgepruneError(
                f"schedule.{which} has {text!r}, but {name} needs coordinates.",
                "Set schedule.latitude and schedule.longitude.",
            )
        return stretch


def parse_time_range(text: str, source: str = "schedule") -> TimeRange:
    """Parse a time range such as ``05:00-09:00`` or ``dawn-1h..dusk+0:30``.

    Raises
    ------
    EdgepruneError
        It is not a time range, or begins and ends at the same time.

    """
    parts = [part.strip() for part in text.lower().split("..")]
    if len(parts) == 1:
        parts = [part.strip() for part in text.split("-")]
        if not all(CLOCK.fullmatch(part) for part in parts):
            parts = []
    points = [_read_point(part) for part in parts]
    if len(points) != 2 or points[0] is None or points[1] is None:
        raise EdgepruneError(f"{source} has {text!r}, which is not a time range.", EXAMPLE)
    begin, end = points[0], points[1]
    if begin == end:
        raise EdgepruneError(
            f"{source} has {text!r}, which begins and ends at the same time.",
            "For the whole day write 00:00-24:00, or leave the list empty.",
        )
    return TimeRange(text, begin, end)


def local_zone(environ: Mapping[str, str] | None = None, root: Path = Path("/")) -> tzinfo:
    """Return the machine's time zone with its changes to and from summer time.

    From ``TZ``, or ``/etc/localtime`` under ``root``; UTC if neither exists, as in libc.

    Raises
    ------
    EdgepruneError
        ``TZ`` names an unknown time zone.

    """
    name = (os.environ if environ is None else environ).get("TZ", "").removeprefix(":")
    if name:
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise EdgepruneError(
                f"TZ = {name!r} is not a known time zone.", "sudo apt install tzdata"
            ) from None
    try:
        with (root / "etc/localtime").open("rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError):
        return UTC


def _read_point(text: str) -> Point | None:
    if found := CLOCK.fullmatch(text):
        hours, minutes = int(found[1]), int(found[2])
        whole = 60 * hours + minutes
        return Point("", whole) if minutes < 60 and whole <= 24 * 60 else None
    if not (found := SUN.fullmatch(text)):
        return None
    if found[3] is None:
        return Point(found[1], 0)
    parts = OFFSET.fullmatch(found[3].strip())
    if parts is None:
        return None
    hours, minutes = (int(parts[1] or parts[3] or 0), int(parts[2] or parts[4] or 0))
    offset = 60 * hours + minutes
    if offset > MOST_OFFSET_MINUTES or (parts[2] and minutes > 59):
        return None
    return Point(found[1], -offset if found[2] == "-" else offset)


@lru_cache(maxsize=256)
def _spans_around(
    stretches: tuple[TimeRange, ...], day: date, zone: tzinfo, place: Place | None
) -> tuple[Span, ...]:
    """Return the time ranges of the days around a day, in UTC, in order and without overlap."""
    found = []
    for stretch in stretches:
        for away in range(-AROUND_DAYS, AROUND_DAYS + 1):
            on = day + away * DAY
            begin = _instant(stretch.begin, on, zone, place)
            end = _instant(stretch.end, on + DAY * stretch.over_midnight, zone, place)
            if end - begin >= LEAST:
                found.append((begin, end))
    joined: list[Span] = []
    for begin, end in sorted(found):
        if joined and begin - joined[-1][1] < LEAST:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((begin, end))
    return tuple(joined)


def _instant(point: Point, day: date, zone: tzinfo, place: Place | None) -> datetime:
    """Return a point of a local day in UTC."""
    if not point.event or place is None:
        days, minutes = divmod(point.minutes, 24 * 60)  # 24:00 is the next day's 00:00
        clock = time(minutes // 60, minutes % 60)
        return datetime.combine(day + days * DAY, clock, zone).astimezone(UTC)
    noon = datetime.combine(day, time(12), zone)
    event = sun_event(point.event, solar_day(noon, place[1]), *place)
    return event.at + timedelta(minutes=point.minutes)


def _within(at: datetime, spans: Sequence[Span]) -> bool:
    return any(begin <= at < end for begin, end in spans)
