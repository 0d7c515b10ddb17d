"""The journal of a recorder: SQLite in WAL mode and JSON lines, with the same rows in both.

    detections, events, coverage, clips -> writer -> journal.sqlite, detections.jsonl

A row is acknowledged when it is committed, which ``add`` does at once if possible. A disk that is
full, read-only or failing, or another program's lock, does not stop a recorder: rows wait in order
in ``spool.jsonl`` and in memory, and ``tick`` tries again. Rows left by a crashed recorder are
written at the next start, once.

A detection's id is derived from the bundle, the source, its first sample and its label, so that
processing the same file twice gives the same rows. The database is authoritative; the lines follow
it.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

from edgeprune_device.detection.events import Detection
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.journal.jsonl import LINES
from edgeprune_device.journal.schema import DATABASE
from edgeprune_device.journal.stream_time import TimeFacts
from edgeprune_device.journal.write_queue import Entry
from edgeprune_device.journal.writer import JournalWriter, text_of
from edgeprune_device.stream import Notice
from edgeprune_device.system.files import sync_folder, write_whole

STATS = "stats.json"
Clock = Callable[[], datetime]
"""Returns the current time, UTC."""


UNKNOWN = TimeFacts()


@dataclass(frozen=True)
class Total:
    """Total of the samples of an hour with one kind of coverage; never decreases in a session."""

    hour: str
    """Hour such as ``2026-05-01T12+00:00`` (``coverage.by_hour``); of a file, any hour's name."""
    kind: str
    """``analysed``, ``dropped``, ``invalid`` or ``not captured``."""
    reason: str
    """A short name; empty for ``analysed``."""
    samples: int


class Journal:
    """One session in a journal folder; the entries of earlier sessions stay.

    Parameters
    ----------
    folder : Path
        Created if missing; must otherwise be a journal or empty.
    bundle, digest : str
        Name and digest of the bundle in use.
    source : str
        Name of the audio source.
    live : bool
        Whether detections have a time of day; those of a file have none.
    clock : callable
        Returns the current time, UTC.
    source_digest : str
        Digest of a file's bytes, because recorders give different files the same name.
    spool_rows : int
        Largest number of rows that wait while nothing can be written.
    rate : int or None
        Sample rate of the stream in Hz, which converts coverage to time.
    monotonic : callable
        Returns monotonic seconds.
    started : datetime or None
        Start of the session, if it was before the journal was opened; None: now.

    Raises
    ------
    EdgepruneError
        The folder has other content or cannot be written.

    """

    def __init__(
        self, folder: Path, bundle: str, digest: str, source: str, *, live: bool, clock: Clock,
        source_digest: str = "", spool_rows: int = 10_000, rate: int | None = None,
        monotonic: Callable[[], float] = time.monotonic, started: datetime | None = None,
    ) -> None:  # fmt: skip
        self.folder = folder
        self._clock, self._live = clock, live
        self._started = started or clock()
        self._digest = digest
        moment = self._started.isoformat() if live else source_digest
        self._key = f"{digest} {source} {moment}"
        self._events = self._session = 0
        self._totals: Counter[tuple[str, str, str]] = Counter()
        try:
            _make_folder(folder)
            self._store = JournalWriter(folder, clock, spool_rows, live=live, event=self._event_entry,
                                monotonic=monotonic)  # fmt: skip
            try:
                self._session = self._store.begin(
                    started_utc=text_of(self._started), bundle=bundle, bundle_digest=digest,
                    source=source, rate=rate, live=live,
                )  # fmt: skip
                sync_folder(folder)
            except BaseException:
                self._store.release()
                raise
        except (OSError, sqlite3.Error) as error:
            reason = (isinstance(error, OSError) and error.strerror) or error
            raise EdgepruneError(
                f"The journal {folder} cannot be written: {reason}.",
                "Is the disk full, or does the folder belong to another user?",
            ) from error

    @property
    def found(self) -> tuple[Notice, ...]:
        """Notices of repairs when it was opened; they are also among the events."""
        return tuple(self._store.found)

    @property
    def session(self) -> int:
        """Number of the session."""
        return self._session

    @property
    def acknowledged(self) -> int:
        """Number of rows committed since the start."""
        return self._store.acknowledged

    @property
    def pending(self) -> int:
        """Number of rows that wait to be written."""
        return self._store.pending

    @property
    def lost(self) -> int:
        """Number of rows that will never be written: the queue was full, or they were invalid."""
        return self._store.lost

    @property
    def committed_at(self) -> float:
        """Monotonic seconds of the last successful commit; initially of the start."""
        return self._store.committed_at

    @property
    def failure(self) -> str:
        """The current failure as a sentence; empty if there is none."""
        found = self._store.failure
        return found and f"The journal {self.folder} cannot be written {found}."

    def add(
        self, detection: Detection, first_sample: int, facts: TimeFacts = UNKNOWN,
        last_sample: int | None = None,
    ) -> str:  # fmt: skip
        """Write a detection to database and lines, or queue it; return its id.

        It is on disk if nothing is ``pending`` when this returns.
        """
        label = _storable(detection.label)
        name = _name(f"{self._key} {first_sample} {label}")
        start = round(float(detection.start_seconds), 4)
        row = {
            "id": name, "start_seconds": start,
            "end_seconds": round(float(detection.end_seconds), 4), "label": label,
            "score": round(float(detection.score), 4), "first_sample": int(first_sample),
            "last_sample": last_sample, "bundle_digest": self._digest, "session": self._session,
            **dict.fromkeys(("utc", "clock", "offset_bound_seconds", "throttled")),
        }  # fmt: skip
        if self._live:  # a file gives the same rows on every machine
            utc = facts.utc or self._started + timedelta(seconds=start)
            row.update(utc=text_of(utc), clock=facts.clock, throttled=facts.throttled,
                       offset_bound_seconds=facts.offset_bound_seconds)  # fmt: skip
        self._store.put(name, "detections", row)
        return name

    def event(self, notice: Notice, sample: int | None = None) -> None:
        """Write an event that happened at a sample of the stream."""
        key, (table, row) = self._event_entry(notice, sample)
        self._store.put(key, table, row)

    def coverage(self, totals: Iterable[Total]) -> None:
        """Write the coverage totals of hours; a later total replaces an earlier one."""
        self._store.put_totals([
            (f"{self._session} {total.hour} {total.kind} {total.reason}",
             {"session": self._session, **vars(total)}) for total in totals
        ])  # fmt: skip

    def covered(self, pieces: Iterable[tuple[str, str, str, int]]) -> None:
        """Add the output of ``coverage.by_hour`` (hour, kind, reason, samples) to the totals."""
        changed = {}
        for hour, kind, reason, samples in pieces:
            self._totals[hour, kind, reason] += samples
            changed[hour, kind, reason] = self._totals[hour, kind, reason]
        self.coverage(Total(*key, samples) for key, samples in changed.items())

    def clip(
        self, detection: str, path: str, first_sample: int, samples: int, size: int,
        locked: bool = False,
    ) -> None:  # fmt: skip
        """Write that a detection's clip was saved at a path in the folder; size is in bytes."""
        row = {"path": path, "detection": detection, "session": self._session, "utc": self._utc(),
               "first_sample": first_sample, "samples": samples, "bytes": size,
               "locked": int(locked)}  # fmt: skip
        self._store.put(f"clip {path}", "clips", row)

    def clip_paths(self) -> list[str] | None:
        """Return the paths of the clips that have a row; None if they cannot be read now."""
        return self._store.clip_paths()

    def forget_clip(self, path: str) -> None:
        """Write that a clip's file was deleted."""
        row = {"path": path, "session": self._session}
        self._store.put(f"forgotten {path}", "forgotten", row)

    def tick(self, now: float) -> None:
        """Retry what could not be written, or write a sign of life; takes at most half a second.

        ``now`` is in monotonic seconds.
        """
        self._store.tick(now)

    def close(self, stats: dict[str, Any]) -> None:
        """End the session: its statistics go to the database and, atomically, to ``stats.json``.

        Raises
        ------
        EdgepruneError
            Something could not be written and, for a live recorder, is not in the spool on disk.

        """
        text = json.dumps(stats, indent=1, ensure_ascii=False)
        row = {"session": self._session, "utc": text_of(self._clock()), "stats": text}
        self._store.put(f"end {self._session}", "ends", row, exempt=True)
        safe = self._store.close()
        missing = self._store.lost + self._store.pending
        if not safe or (missing and not self._live):
            raise EdgepruneError(
                f"{missing} rows could not be written to {self.folder}: {self._store.error}.",
                "Is the disk full?",
            )
        try:
            write_whole(self.folder / STATS, text + "\n")
        except OSError as error:
            if not self._live:  # those of a live recorder are in its session's row or spool
                raise EdgepruneError(
                    f"The session's statistics could not be written to {self.folder}: {error}.",
                    "Is the disk full?",
                ) from error

    def __enter__(self) -> Journal:
        """Open for one session."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        """Release the files, whatever happened."""
        self._store.release()

    def _event_entry(self, notice: Notice, sample: int | None = None) -> tuple[str, Entry]:
        self._events += 1
        key = _name(f"{self._key} event {self._events} {sample} {notice.kind} {notice.text}")
        details = json.dumps(dict(notice.details), default=str) if notice.details else None
        return key, ("events", {
            "id": key, "session": self._session, "utc": self._utc(), "sample": sample,
            "kind": notice.kind, "text": _storable(notice.text), "details": details,
        })  # fmt: skip

    def _utc(self) -> str | None:
        return text_of(self._clock()) if self._live else None


def _make_folder(folder: Path) -> None:
    """Create the folder; reject one with other content."""
    is_journal = any((folder / name).is_file() for name in (DATABASE, LINES, "spool.jsonl"))
    if folder.exists() and not is_journal:
        if not folder.is_dir():
            raise EdgepruneError(f"{folder} is a file, not a folder for a journal.")
        if any(folder.iterdir()):
            raise EdgepruneError(
                f"{folder} is not empty and is not a journal.", "Name another folder with -o."
            )
    folder.mkdir(parents=True, exist_ok=True)
    sync_folder(folder.parent)


def _storable(text: str) -> str:
    """Return a text that UTF-8 can encode: lone surrogates become question marks."""
    return text.encode("utf-8", "replace").decode()


def _name(text: str) -> str:
    return hashlib.sha256(_storable(text).encode()).hexdigest()[:16]
