"""Writes rows to a journal's database and lines, a commit at a time, or queues them.

    put -> spool -> drain: BEGIN IMMEDIATE, rows, lines (synced), sign of life, COMMIT -> done

A commit that fails (a full, read-only or failing disk, another program's lock) leaves its rows in
the spool, in order, and the delay before the next try doubles up to ten seconds. No call takes much
longer than the database's busy timeout and a disk sync. Rows that crashed recorders left in their
spools are written when the store is opened; rows have keys, so nothing is written twice.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgeprune_device.journal.jsonl import KEYS, Lines, line_of, note_length
from edgeprune_device.journal.recovery import SOURCE, STAND_IN, mark_unclean, open_intact
from edgeprune_device.journal.schema import DATABASE, check_index, close_database
from edgeprune_device.journal.write_queue import Entry, Spool
from edgeprune_device.stream import Notice

BUSY_MILLISECONDS = {True: 250, False: 5000}
"""Longest wait for another writer, by ``live``."""
BATCH = 200
DRAIN_SECONDS = 0.2
FIRST_DELAY, LONGEST_DELAY = 0.5, 10.0
"""Seconds between tries during a failure."""
ALIVE_SECONDS = 60.0
"""Longest time without a commit; then a sign of life is committed."""
CLOSE_SECONDS = 2.0
"""Time limit for waiting rows at the end."""
UNFIT = (sqlite3.IntegrityError, ValueError, OverflowError)
"""Errors of an invalid row, such as one with a score that is not a number."""
STATEMENTS = {
    "detections": f"INSERT INTO detections ({', '.join(KEYS)}, session) VALUES "
    f"({', '.join(':' + key for key in KEYS)}, :session) ON CONFLICT DO NOTHING",
    "events": "INSERT INTO events (id, session, utc, sample, kind, text, details) VALUES "
    "(:id, :session, :utc, :sample, :kind, :text, :details) ON CONFLICT DO NOTHING",
    "coverage": "INSERT INTO coverage VALUES (:session, :hour, :kind, :reason, :samples) "
    "ON CONFLICT DO UPDATE SET samples = max(samples, excluded.samples)",
    "clips": "INSERT INTO clips (path, detection, session, utc, first_sample, samples, bytes, "
    "locked) VALUES (:path, :detection, :session, :utc, :first_sample, :samples, :bytes, :locked) "
    "ON CONFLICT DO NOTHING",
    "forgotten": "DELETE FROM clips WHERE path = :path",
    "ends": "UPDATE sessions SET ended_utc = :utc, stats = :stats, clean = 1 WHERE id = :session",
}


class JournalWriter:
    """A journal folder's files, open for one session.

    Parameters
    ----------
    folder : Path
        Existing folder.
    now : callable
        Returns the current time, UTC.
    spool_rows : int
        Largest number of rows that wait.
    live : bool
        Whether to never wait long for another writer.
    event : callable
        Converts a notice to a key and a row of ``events``.
    monotonic : callable
        Returns monotonic seconds.

    Attributes
    ----------
    acknowledged, lost : int
        Number of rows that were committed, and that never will be.
    committed_at : float
        Monotonic seconds of the last commit.
    error : str
        The last error; kept after recovery.
    found : list of Notice
        What was repaired when the folder was opened.

    Raises
    ------
    EdgepruneError
        The database is of a later version, or malformed while another recorder uses it.
    OSError, sqlite3.Error
        The folder cannot be written.

    """

    def __init__(
        self, folder: Path, now: Callable[[], datetime], spool_rows: int, *, live: bool,
        event: Callable[[Notice], tuple[str, Entry]], monotonic: Callable[[], float],
    ) -> None:  # fmt: skip
        self._file = folder / DATABASE
        self._live, self._now, self._event, self._monotonic = live, now, event, monotonic
        self._failing_since: float | None = None
        self._delay = self._retry_at = 0.0
        self._told = self.acknowledged = self.lost = self.session = 0
        self.error = ""
        self.committed_at = monotonic()
        with ExitStack() as held:
            self._spool = held.enter_context(closing(Spool(folder, spool_rows)))
            self._database, self.found = open_intact(folder, now(), self._spool.busy)
            held.callback(close_database, self._database, self._file)
            self._lines = held.enter_context(closing(Lines(folder)))
            with self._transaction():
                self._lines.mend(self._database)
            self.found += self._take_in()
            self._held = held.pop_all()

    def begin(self, **entry: Any) -> int:
        """Add a session, with events of what was repaired; return its number.

        Raises
        ------
        OSError, sqlite3.Error
            It cannot be written.

        """
        entry = {**entry, "last_alive": text_of(self._now()), "spool": self._spool.name}
        with self._transaction():  # repairs are recorded with the session, or found again
            written = self._database.execute(
                f"INSERT INTO sessions ({', '.join(entry)}) VALUES ({', '.join('?' * len(entry))})",
                tuple(entry.values()),
            )
            self.session = written.lastrowid or 0
            self.found += mark_unclean(self._database, self.session, self._spool.busy)
            for notice in self.found:
                _, (table, row) = self._event(notice)
                self._database.execute(STATEMENTS[table], {**row, "session": self.session})
        self._database.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS[self._live]}")
        return self.session

    @property
    def pending(self) -> int:
        """Number of waiting rows."""
        return len(self._spool)

    @property
    def failure(self) -> str:
        """The current failure; empty if the last try succeeded."""
        if self._failing_since is None:
            return ""
        where = "in memory and on the disk" if self._spool.is_saved else "in memory only"
        lost = f"; {self.lost} are lost" if self.lost else ""
        return f"({self.error}): {self.pending} rows wait {where}{lost}"

    def clip_paths(self) -> list[str] | None:
        """Return the paths of all clips' rows; None if the database cannot be read now."""
        try:
            return [row[0] for row in self._database.execute("SELECT path FROM clips")]
        except sqlite3.Error:
            return None

    def put_totals(self, totals: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Write rows of ``coverage`` together; a row waiting under the same key is replaced."""
        for key, row in totals:
            self._spool.put(key, ("coverage", row), exempt=True)
        self._go_on()

    def put(self, key: str, table: str, row: dict[str, Any], *, exempt: bool = False) -> None:
        """Write a row now or queue it; an exempt row is queued beyond the limit."""
        if self._spool.put(key, (table, row), exempt=exempt):
            self._go_on()
            return
        self.lost += 1
        if self.lost == self._told + 1:  # on disk at once: a crash must not hide it
            self._say("spool-full", "The queue is full: further rows are lost.")
            self._spool.save()

    def tick(self, now: float) -> None:
        """Retry what could not be written, or write a sign of life; ``now`` is monotonic."""
        if self._failing_since is not None:
            if now >= self._retry_at:
                self._drain()
        elif self.pending:
            self._drain()
        elif now - self.committed_at >= ALIVE_SECONDS:
            try:
                self._commit([])
            except (OSError, sqlite3.Error) as error:
                self._fail(error)

    def close(self) -> bool:
        """Write waiting rows, for a limited time, and release; return whether all are on disk."""
        until = self._monotonic() + CLOSE_SECONDS
        self._drain()
        while self.pending and self._monotonic() < until:
            time.sleep(0.1 if self._failing_since is not None else 0)
            self._drain()
        safe = self._spool.save()  # also read at the next start of a file
        self.release()
        return safe

    def release(self) -> None:
        """Release the files and the lock."""
        self._held.close()

    def _say(self, kind: str, text: str, **details: Any) -> None:
        """Queue an event of the store itself, beyond the limit if necessary."""
        self._spool.put(*self._event(Notice(kind, text, details)), exempt=True)

    def _go_on(self) -> None:
        """Write now if that worked the last time; otherwise keep it on disk until a tick."""
        if self._failing_since is None:
            self._drain()
        else:
            self._spool.save()
            if not self._live:  # a file's loop has no ticks
                self.tick(self._monotonic())

    def _drain(self) -> None:
        """Commit waiting rows in order, for DRAIN_SECONDS."""
        until, size = self._monotonic() + DRAIN_SECONDS, BATCH
        while self.pending:
            waiting = self._spool.first(size)
            try:
                self._commit([entry for _, entry in waiting])
            except UNFIT as error:
                if len(waiting) > 1:
                    size = 1
                    continue
                self.lost += 1
                self.error = str(error)
            except (OSError, sqlite3.Error) as error:
                self._fail(error)
                return
            self._recovered()  # its event is queued before the spool is found empty
            self._spool.done([key for key, _ in waiting])
            if self._monotonic() >= until:
                return

    def _fail(self, error: Exception) -> None:
        now = self._monotonic()
        self.error = str(error)
        if self._failing_since is None:
            self._failing_since, self._delay = now, FIRST_DELAY / 2
            self._say("journal-trouble", f"The journal cannot be written: {error}.")
        self._delay = min(2 * self._delay, LONGEST_DELAY)
        self._retry_at = now + self._delay
        self._spool.save()

    def _recovered(self) -> None:
        """Report how long the failure lasted and how many rows were lost."""
        if self._failing_since is not None:
            seconds = round(self._monotonic() - self._failing_since, 1)
            self._failing_since = None
            text = f"The journal can be written again after {seconds:g} s ({self.error})."
            self._say("journal-recovered", text, seconds=seconds, waiting=self.pending)
        if self.lost > self._told:
            number, self._told = self.lost - self._told, self.lost
            self._say("rows-lost", f"{number} rows were lost ({self.error}).", rows=number)

    def _commit(self, entries: list[Entry]) -> None:
        with self._transaction():
            lines = []
            for table, row in entries:
                written = self._database.execute(STATEMENTS[table], row)
                if table == "detections" and written.rowcount == 1:
                    lines.append(line_of(row[key] for key in KEYS))
            if lines:  # none if the same file was processed before
                self._lines.append(b"".join(lines))
                note_length(self._database, self._lines.size())
            self._database.execute("UPDATE sessions SET last_alive = ? WHERE id = ?",
                                   (text_of(self._now()), self.session))  # fmt: skip
        self.acknowledged += len(entries)
        self.committed_at = self._monotonic()

    def _take_in(self) -> list[Notice]:
        """Write the rows left by crashed recorders."""
        left, unfit = self._spool.left_behind, 0
        for number in {row["session"] for _, row in left}:
            self._database.execute(STAND_IN, (number, SOURCE))
        for start in range(0, len(left), BATCH):
            batch = left[start : start + BATCH]
            try:
                self._commit(batch)
            except UNFIT:
                for entry in batch:
                    try:
                        self._commit([entry])
                    except UNFIT:
                        unfit += 1
        self._spool.adopted()
        if not left:
            return []
        text = f"{len(left) - unfit} rows left waiting by an earlier recorder were written."
        if unfit:
            text += f" {unfit} were invalid."
        return [Notice("spool-taken-in", text, {"rows": len(left) - unfit, "unfit": unfit})]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Commit all or nothing, with the journal locked against other recorders."""
        check_index(self._file)
        self._database.execute("BEGIN IMMEDIATE")
        try:
            size = self._lines.size()
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                self._lines.cut(size)
                raise
        except BaseException:
            if self._database.in_transaction:  # SQLite may have rolled back by itself
                self._database.execute("ROLLBACK")
            raise


def text_of(time: datetime) -> str:
    """Format a time as the journal does: UTC, to the millisecond."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds")
