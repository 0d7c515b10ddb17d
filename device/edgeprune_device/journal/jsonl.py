"""Writes ``detections.jsonl``: every detection of the database as a line, in the same order.

A line is written and synced before its row is committed, and the file's length is committed with
it. At the start only this number and the last line are compared, even after many months; only if
they differ is the file read, and rewritten from the first difference on.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LINES = "detections.jsonl"
LENGTH = "lines_bytes"
KEYS = ("id", "start_seconds", "end_seconds", "label", "score", "utc", "clock",
        "offset_bound_seconds", "throttled", "first_sample", "last_sample",
        "bundle_digest")  # fmt: skip
"""Keys of a line, and columns of a row."""
ROWS = f"SELECT {', '.join(KEYS)} FROM detections"
BATCH = 1000


def line_of(row: Iterable[Any]) -> bytes:
    """Return a row (columns as ``KEYS``) as a line; unknown values are left out.

    Raises
    ------
    ValueError
        The row has a number that JSON cannot represent.

    """
    shown = {key: value for key, value in zip(KEYS, row, strict=True) if value is not None}
    return (json.dumps(shown, ensure_ascii=False, allow_nan=False) + "\n").encode()


class Lines:
    """The file of lines, open for appending."""

    def __init__(self, folder: Path) -> None:
        # Unbuffered: a line is written, or has failed, when its call returns.
        self._file = (folder / LINES).open("a+b", buffering=0)
        self._torn: int | None = None

    def size(self) -> int:
        """Return the file's length in bytes; the remains of a failed write are cut off first."""
        if self._torn is not None:
            self.cut(self._torn)
        return os.fstat(self._file.fileno()).st_size

    def append(self, data: bytes) -> None:
        """Append lines; they are on disk when this returns.

        Raises
        ------
        OSError
            They could not be written, or only in part.

        """
        if self._file.write(data) != len(data):  # a full disk silently writes a part only
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(self._file.fileno())

    def cut(self, size: int) -> None:
        """Shorten the file to a length in bytes, now or, if that fails, before the next line."""
        self._torn = size
        if os.fstat(self._file.fileno()).st_size > size:
            self._file.truncate(size)
        self._torn = None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def mend(self, database: sqlite3.Connection) -> None:
        """Make the lines equal to the rows (inside an open transaction)."""
        kept = database.execute("SELECT value FROM meta WHERE key = ?", (LENGTH,)).fetchone()
        if kept is not None and self.size() >= kept[0] and self._ends_well(database, kept[0]):
            self.cut(kept[0])  # a line whose row was not committed
        else:
            self._rewrite_from_first_difference(database)
        note_length(database, self.size())

    def _ends_well(self, database: sqlite3.Connection, size: int) -> bool:
        last = database.execute(f"{ROWS} ORDER BY seq DESC LIMIT 1").fetchone()
        line = line_of(last) if last else b""
        if size < len(line) or (size and not last):
            return False
        return os.pread(self._file.fileno(), len(line), size - len(line)) == line

    def _rewrite_from_first_difference(self, database: sqlite3.Connection) -> None:
        rows = map(line_of, database.execute(f"{ROWS} ORDER BY seq"))
        same = 0
        wrong = b""
        self._file.seek(0)
        with open(os.dup(self._file.fileno()), "rb") as reader:  # buffered, and closed by itself
            for line in rows:
                if reader.readline() != line:
                    wrong = line
                    break
                same += len(line)
        self.cut(same)
        batch = [wrong]
        for line in rows:
            batch.append(line)
            if len(batch) == BATCH:
                self.append(b"".join(batch))
                batch = []
        if any(batch):
            self.append(b"".join(batch))


def note_length(database: sqlite3.Connection, size: int) -> None:
    """Store the file's length in bytes in the open transaction."""
    database.execute("INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = "
                     "excluded.value", (LENGTH, size))  # fmt: skip
