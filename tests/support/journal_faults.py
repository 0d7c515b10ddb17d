"""What is done to a journal: a folder that lets nobody write, and waiting until a row is there."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgeprune_device.journal.journal import Journal


def tick_until(book: Journal, done: Callable[[], bool], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, book.failure
        book.tick(time.monotonic())
        time.sleep(0.01)


@contextmanager
def immutable(folder: Path) -> Iterator[None]:
    """Forbid every change in a folder, of open files, too (a read-only mount would be busy)."""
    done = subprocess.run(["chattr", "-R", "+i", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("chattr +i is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-R", "-i", folder], check=True)
