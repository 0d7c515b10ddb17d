"""Folders in memory: a test waits for the program, and not for a disk that others use as well.

A sync of a busy disk takes up to a second, and hundreds of tests write to a journal. Where there is
no such place, or too little room, folders lie where pytest puts them; with
``EDGEPRUNE_TESTS_ON_DISK`` set, too, and there they stay for a look after a failure.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = Path("/dev/shm")
LEAST_FREE_BYTES = 1 << 30
ON_DISK = "EDGEPRUNE_TESTS_ON_DISK"


def memory() -> Path | None:
    """Return where files lie in memory, may be run, and have room; None where nothing does."""
    try:
        found = os.statvfs(MEMORY)
    except OSError:
        return None
    usable = not found.f_flag & (os.ST_NOEXEC | os.ST_RDONLY)
    roomy = found.f_bavail * found.f_frsize >= LEAST_FREE_BYTES
    return MEMORY if usable and roomy and not os.environ.get(ON_DISK) else None


@contextmanager
def memory_folder(other: Path) -> Iterator[Path]:
    """Give a new folder in memory, gone in the end; ``other`` where there is no such place."""
    place = memory()
    if place is None:
        yield other
        return
    with tempfile.TemporaryDirectory(
        prefix="test-", dir=place, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)
