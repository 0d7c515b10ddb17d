"""Where detections go: SQLite in WAL mode and JSON lines, the same rows in both.

    detections, events, coverage, clips -> store.py -> journal.sqlite, detections.jsonl

A row is acknowledged when it is committed, which ``add`` does at once if it can. A disk that is
full, read-only or failing, or another program's lock, does not stop a recorder: rows wait in order
in ``spool.jsonl`` and in memory, and ``tick`` tries again. What dead recorders left there is taken
in at the next start, once.

A detection's id follows from the bundle, the source, its first sample and its label, so that the
same file heard twice gives the same rows. The database is what counts; the lines follow it.
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
from edgeprune_device.journal.writer import Store, text_of
from edgeprune_device.stream import Notice
from edgeprune_device.system.files import sync_folder, write_whole

STATS = "stats.json"
Clock = Callable[[], datetime]
"""Gives the time in UTC."""


UNKNOWN = TimeFacts()


@dataclass(frozen=True)
class Total:
    """What became of so many samples of an hour, in all; it never falls within a session."""

    hour: str
    """``2026-05-01T12+00:00`` (``ledger.by_hour``), or, of a file, any name of an hour of it."""
    kind: str
    """``analysed``, ``dropped``, ``invalid`` or ``not captured``."""
    reason: str
    """A short name; empty for what was analysed."""
    samples: int


class Journal:
    """One session's entry in a journal folder; an earlier session's entries stay.

    Parameters
    ----------
    folder : Path
        Made if missing; must be a journal or empty otherwise.
    bundle, digest : str
        Name and digest of the bundle that listens.
    source : str
        What is listened to.
    live : bool
        Detections carry the time of day; those of a file do not.
    clock : callable
        The time in UTC.
    source_digest : str
        Of a file's bytes: recorders give different files the same name.
    spool_rows : int
        Rows that may wait while nothing can be written.
    rate : int or None
        Samples per second of the stream, which turns coverage into time.
    monotonic : callable
        Seconds that never go back.
    started : datetime or None
        When the session began, where that was before the journal could be opened; None: now.

    Raises
    ------
    EdgepruneError
        The folder holds something else or cannot be written.

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
            self._store = Store(folder, clock, spool_rows, live=live, event=self._event_entry,
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
                "Is the disk full, or the folder another user's?",
            ) from error

    @property
    def found(self) -> tuple[Notice, ...]:
        """What had to be put right when it was opened; it is among the events."""
        return tuple(self._store.found)

    @property
    def session(self) -> int:
        """The session's number."""
        return self._session

    @property
    def acknowledged(self) -> int:
        """Rows that were committed since the start."""
        return self._store.acknowledged

    @property
    def pending(self) -> int:
        """Rows that wait to be written."""
        return self._store.pending

    @property
    def lost(self) -> int:
        """Rows that will never be written: more waited than may, or they were not fit to be."""
        return self._store.lost

    @property
    def committed_at(self) -> float:
        """Monotonic seconds of the last successful commit, at first of the start."""
        return self._store.committed_at

    @property
    def trouble(self) -> str:
        """What is wrong, in a sentence; empty if nothing is."""
        found = self._store.trouble
        return found and f"The journal {self.folder} cannot be written {found}."

    def add(
        self, detection: Detection, first_sample: int, facts: TimeFacts = UNKNOWN,
        last_sample: int | None = None,
    ) -> str:  # fmt: skip
        """Write a detection to both, or let it wait; return its id.

        It is on the disk if nothing is ``pending`` when this returns.
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
        """Write that something happened, at a sample of the stream."""
        key, (table, row) = self._event_entry(notice, sample)
        self._store.put(key, table, row)

    def coverage(self, totals: Iterable[Total]) -> None:
        """Write what became of each hour's samples; a later total replaces an earlier one."""
        self._store.put_totals([
            (f"{self._session} {total.hour} {total.kind} {total.reason}",
             {"session": self._session, **vars(total)}) for total in totals
        ])  # fmt: skip

    def covered(self, pieces: Iterable[tuple[str, str, str, int]]) -> None:
        """Add to the totals what ``ledger.by_hour`` yields: hour, kind, reason and samples."""
        changed = {}
        for hour, kind, reason, samples in pieces:
            self._totals[hour, kind, reason] += samples
            changed[hour, kind, reason] = self._totals[hour, kind, reason]
        self.coverage(Total(*key, samples) for key, samples in changed.items())

    def clip(
        self, detection: str, path: str, first_sample: int, samples: int, size: int,
        locked: bool = False,
    ) -> None:  # fmt: skip
        """Write that a detection's sound was kept, at a path within the folder, in bytes."""
        row = {"path": path, "detection": detection, "session": self._session, "utc": self._utc(),
               "first_sample": first_sample, "samples": samples, "bytes": size,
               "locked": int(locked)}  # fmt: skip
        self._store.put(f"clip {path}", "clips", row)

    def clip_paths(self) -> list[str] | None:
        """Return the paths of the clips that have a row; None while that cannot be read."""
        return self._store.clip_paths()

    def forget_clip(self, path: str) -> None:
        """Write that a clip's file was deleted."""
        row = {"path": path, "session": self._session}
        self._store.put(f"forgotten {path}", "forgotten", row)

    def tick(self, now: float) -> None:
        """Try again what could not be written, or give a sign of life; takes half a second at most.

        ``now`` is in monotonic seconds.
        """
        self._store.tick(now)

    def close(self, stats: dict[str, Any]) -> None:
        """End the session: its figures go to the database and, whole, to ``stats.json``.

        Raises
        ------
        EdgepruneError
            Something could not be written and, of a live recorder, does not wait on the disk.

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
            if not self._live:  # a live recorder's are in its session's row, or wait for it
                raise EdgepruneError(
                    f"The session's figures could not be written to {self.folder}: {error}.",
                    "Is the disk full?",
                ) from error

    def __enter__(self) -> Journal:
        """Open for one session."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        """Let go of the files, whatever happened."""
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
    """Make the folder; leave alone one that holds something else."""
    is_journal = any((folder / name).is_file() for name in (DATABASE, LINES, "spool.jsonl"))
    if folder.exists() and not is_journal:
        if not folder.is_dir():
            raise EdgepruneError(f"{folder} is a file, not a folder for a journal.")
        if any(folder.iterdir()):
            raise EdgepruneError(
                f"{folder} is not empty and holds no journal.", "Name another folder with -o."
            )
    folder.mkdir(parents=True, exist_ok=True)
    sync_folder(folder.parent)


def _storable(text: str) -> str:
    """Return a text that UTF-8 can hold: lone surrogates become question marks."""
    return text.encode("utf-8", "replace").decode()


def _name(text: str) -> str:
    return hashlib.sha256(_storable(text).encode()).hexdigest()[:16]
