"""A queue of rows that cannot be written to the journal yet: ordered, bounded, also on disk.

A row is appended to ``spool.jsonl`` with a sync, so that it survives a crash; if that file cannot
be written either, it waits in memory only. The file is emptied when no row waits. Its lock shows a
starting recorder which earlier one is dead: a second recorder on the same journal uses
``spool-2.jsonl``, and so on.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

Entry = tuple[str, dict[str, Any]]
"""Name of a table and a row of it."""
LARGEST_BYTES = 64_000_000
"""Largest size of the file; further rows wait in memory only."""


class Spool:
    """A bounded queue backed by a file, which is locked as long as it is open.

    Parameters
    ----------
    folder : Path
        Folder of the journal.
    limit : int
        Largest number of rows that wait.

    Attributes
    ----------
    left_behind : list of Entry
        Rows left by crashed recorders, in order, until ``adopted`` is called.
    busy : list of str
        Names of the spools of running recorders.

    Raises
    ------
    OSError
        No file can be opened in the folder.

    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._limit = limit
        self._held: dict[str, Entry] = {}
        self._unsaved: dict[str, Entry] = {}
        self._others: list[int] = []
        self._exempt: set[str] = set()
        self._bytes = 0
        self.left_behind: list[Entry] = []
        self.busy: list[str] = []
        own: int | None = None
        for name, handle in _take_all(folder):
            if handle is None:
                self.busy.append(name)
                continue
            self.left_behind += _read(folder / name)
            if own is None:
                own, self.name = handle, name
            else:
                self._others.append(handle)
        assert own is not None
        self._own = own

    def __len__(self) -> int:
        """Return the number of waiting rows."""
        return len(self._held)

    @property
    def is_saved(self) -> bool:
        """Whether all waiting rows are in the file, too."""
        return not self._unsaved

    def put(self, key: str, entry: Entry, *, exempt: bool = False) -> bool:
        """Queue a row; False if the queue is full.

        A row waiting under the same key is replaced in place. Exempt rows (totals, the end of a
        session) are few and do not count.
        """
        counted = len(self._held) - len(self._exempt)
        if not exempt and key not in self._held and counted >= self._limit:
            return False
        if exempt:
            self._exempt.add(key)
        self._held[key] = self._unsaved[key] = entry
        return True

    def first(self, number: int) -> list[tuple[str, Entry]]:
        """Return up to ``number`` rows that have waited longest."""
        return list(islice(self._held.items(), number))

    def done(self, keys: list[str]) -> None:
        """Remove rows; the file is emptied with the last one."""
        for key in keys:
            del self._held[key]
            self._unsaved.pop(key, None)
            self._exempt.discard(key)
        if not self._held and self._bytes:
            self._cut(0)

    def save(self) -> bool:
        """Append rows not in the file yet; False if that is not possible now."""
        if not self._unsaved:
            return True
        data = b"".join(_line(key, entry) for key, entry in self._unsaved.items())
        if self._bytes + len(data) > LARGEST_BYTES:
            return False
        try:
            whole = os.write(self._own, data) == len(data)
            os.fsync(self._own)
        except OSError:
            whole = False
        if not whole:
            self._cut(self._bytes)  # no half line in front of the next one
            return False
        self._bytes += len(data)
        self._unsaved.clear()
        return True

    def adopted(self) -> None:
        """Empty the files of crashed recorders: their rows are in the database."""
        self.left_behind = []
        for handle in (self._own, *self._others):
            os.truncate(handle, 0)
        for handle in self._others:
            os.close(handle)
        self._others = []

    def close(self) -> None:
        """Release the lock; waiting rows stay in the file."""
        for handle in (self._own, *self._others):
            os.close(handle)
        self._others = []

    def _cut(self, size: int) -> None:
        try:
            os.truncate(self._own, size)
            self._bytes = size
        except OSError:  # rows written twice count once, because each has a key
            self._bytes = os.fstat(self._own).st_size


def _take_all(folder: Path) -> Iterator[tuple[str, int | None]]:
    """Lock every spool of a folder, and one more if all are taken; None for a taken one."""
    free = False
    for number in count(1):
        path = folder / ("spool.jsonl" if number == 1 else f"spool-{number}.jsonl")
        if not path.exists() and free:
            return
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            yield path.name, None
        else:
            free = True
            yield path.name, handle


def _read(path: Path) -> list[Entry]:
    """Read a spool's rows in order; a later row with the same key replaces the earlier one."""
    found: dict[str, Entry] = {}
    for line in path.read_bytes().splitlines():
        try:
            key, table, row = json.loads(line)
        except ValueError:  # torn by the crash: it was never acknowledged
            continue
        found[key] = (table, row)
    return list(found.values())


def _line(key: str, entry: Entry) -> bytes:
    return (json.dumps([key, *entry], ensure_ascii=False) + "\n").encode()
