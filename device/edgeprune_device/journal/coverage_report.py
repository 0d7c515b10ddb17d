"""Coverage by hour: how many seconds of each hour were analysed, dropped, invalid or not captured.

    hour = analysed + dropped(why) + invalid(why) + not captured(why) + not running

The recorder counts samples; a recorder that is off counts none, so "not running" is the rest of an
hour between the first session's start and the last sign of life. If the clock was set, or two
recorders shared a journal, an hour may have more seconds than it lasts: this is reported as "over",
and not hidden in another column. A board that starts in 1970 has no time of day until its clock is
set: audio recorded before that is listed, and the years between are not counted. Files are counted
by the hours of their stream.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from edgeprune_device.journal.export import moment, reading
from edgeprune_device.journal.schema import VERSION
from edgeprune_device.system.clock import EARLIEST

KINDS = ("analysed", "dropped", "invalid", "not captured")
HOUR = timedelta(hours=1)
SLACK_SECONDS = 1e-6


@dataclass
class Hour:
    """Coverage of one hour in seconds."""

    name: str
    """Hour such as ``2026-05-01T12`` (UTC), or the source and the hour of the stream."""
    length: float
    """Seconds of it between the first and last entry of the journal; of a file, its duration."""
    parts: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    """Seconds by kind and reason."""

    @property
    def balance(self) -> float:
        """Seconds without samples: over 0: not running; under 0: counted twice."""
        left = self.length - sum(self.parts.values())
        return left if abs(left) > SLACK_SECONDS else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON; ``kinds`` plus ``not_running`` less ``over`` is ``seconds``."""
        kinds: dict[str, dict[str, float]] = {kind: {} for kind in KINDS}
        for (kind, reason), seconds in sorted(self.parts.items()):
            kinds.setdefault(kind, {})[reason] = round(seconds, 6)
        return {"hour": self.name, "seconds": round(self.length, 6), "kinds": kinds,
                "not_running": round(max(0.0, self.balance), 6),
                "over": round(max(0.0, -self.balance), 6)}  # fmt: skip


def coverage(journal: Path) -> dict[str, Any]:
    """Return the hours of a journal folder, with their sum and a text table.

    Raises
    ------
    EdgepruneError
        There is no journal, or it cannot be read.

    """
    with reading(journal) as database:
        if database.execute("PRAGMA user_version").fetchone()[0] < VERSION:
            hours: list[Hour] = []
        else:
            hours = _live_hours(database) + _file_hours(database)
    total = Hour("all", sum(hour.length for hour in hours))
    for hour in hours:
        for part, seconds in hour.parts.items():
            total.parts[part] += seconds
    rows = [hour.as_dict() for hour in hours]
    whole = total.as_dict()
    whole["not_running"] = round(sum(row["not_running"] for row in rows), 6)
    whole["over"] = round(sum(row["over"] for row in rows), 6)
    return {"hours": rows, "total": whole, "text": _text(rows, whole)}


def _live_hours(database: sqlite3.Connection) -> list[Hour]:
    """Return every hour from the first start to the last sign of life, including empty ones."""
    first, last = database.execute(
        "SELECT min(started_utc), max(coalesce(ended_utc, last_alive, started_utc)) "
        "FROM sessions WHERE live = 1 AND started_utc <> ''"
    ).fetchone()
    if first is None:
        return []
    start, end = (datetime.fromisoformat(text).astimezone(UTC) for text in (first, last))
    set_late = start < EARLIEST <= end
    if set_late:
        start = _clock_set(database, end)
    hours: dict[str, Hour] = {}
    at = start.replace(minute=0, second=0, microsecond=0)
    while at < end or not hours:
        length = (min(end, at + HOUR) - max(start, at)).total_seconds()
        name = f"{at:%Y-%m-%dT%H}"
        hours[name] = Hour(name, max(0.0, length))
        at += HOUR
    for row in _parts(database, live=1):
        name = f"{moment(row['hour'], 'hour'):%Y-%m-%dT%H}"
        hour = hours.setdefault(name, Hour(name, 0.0))
        seconds = row["samples"] / row["rate"]
        hour.parts[row["kind"], row["reason"]] += seconds
        if set_late and name < f"{EARLIEST:%Y}":
            hour.length += seconds
    return [hours[name] for name in sorted(hours)]


def _clock_set(database: sqlite3.Connection, end: datetime) -> datetime:
    """Return the first time recorded after the clock was set."""
    found = database.execute(
        "SELECT min(utc) FROM (SELECT started_utc AS utc FROM sessions WHERE live = 1 "
        "UNION ALL SELECT utc FROM events) WHERE utc >= ?", (EARLIEST.isoformat(),),
    ).fetchone()[0]  # fmt: skip
    return datetime.fromisoformat(found).astimezone(UTC) if found else end


def _file_hours(database: sqlite3.Connection) -> list[Hour]:
    """Return the hours of each file's stream; their length is that of the samples."""
    hours: dict[str, Hour] = {}
    for row in _parts(database, live=0):
        name = f"{row['source']} (session {row['session']}) {row['hour']}"
        hour = hours.setdefault(name, Hour(name, 0.0))
        seconds = row["samples"] / row["rate"]
        hour.parts[row["kind"], row["reason"]] += seconds
        hour.length += seconds
    return list(hours.values())


def _parts(database: sqlite3.Connection, *, live: int) -> list[sqlite3.Row]:
    return database.execute(
        "SELECT session, source, rate, hour, kind, reason, samples FROM coverage "
        "JOIN sessions ON sessions.id = session WHERE live = ? AND rate > 0 "
        "ORDER BY session, hour", (live,),
    ).fetchall()  # fmt: skip


def _text(rows: Sequence[Mapping[str, Any]], total: Mapping[str, Any]) -> str:
    """Return a text table of seconds; reasons are in the last column."""
    if not rows:
        return "The journal has no coverage."
    head = ("hour", *KINDS, "not running", "reasons")
    body = [head, *(_cells(row) for row in (*rows, total))]
    widths = [max(len(line[i]) for line in body) for i in range(len(head) - 1)]
    lines = []
    for line in body:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:-1], widths[1:], strict=True)]
        lines.append("  ".join((*cells, line[-1])).rstrip())
    return "\n".join((*lines, "(seconds)"))


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    why = [
        f"{reason} {seconds:.1f}"
        for kind in row["kinds"] for reason, seconds in row["kinds"][kind].items() if reason
    ]  # fmt: skip
    if row["over"]:
        why.append(f"{row['over']:.1f} too much: the clock was set, or two recorders ran")
    kinds = (f"{sum(row['kinds'][kind].values()):.1f}" for kind in KINDS)
    return (row["hour"], *kinds, f"{row['not_running']:.1f}", ", ".join(why))
