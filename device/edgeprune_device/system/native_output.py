"""Captures what native libraries print, so that it does not reach the terminal.

LiteRT reports on standard error that it created a delegate, converters log every pass: nothing a
user can act on. Such output bypasses Python's own streams, so both file descriptors are redirected
into a file that is read when the block ends.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout

STREAMS = (1, 2)  # standard output and error


@contextmanager
def capture_native_output() -> Iterator[list[str]]:
    """Redirect standard output and standard error while the block runs.

    Other threads are silenced as well for that time.

    Yields
    ------
    list of str
        Empty; after the block has ended or raised, it holds the printed text as one string.

    """
    said: list[str] = []
    _flush()
    with tempfile.TemporaryFile() as file, ExitStack() as back:
        for stream in STREAMS:
            try:
                kept = os.dup(stream)
            except OSError:  # a service may run without it
                continue
            back.callback(_restore, kept, stream)
            os.dup2(file.fileno(), stream)
        text = os.fdopen(os.dup(file.fileno()), "w", encoding="utf-8", errors="replace")
        try:
            with redirect_stdout(text), redirect_stderr(text):
                yield said
        finally:
            _flush()
            text.close()
            back.close()
            file.seek(0)
            said.append(file.read().decode("utf-8", "replace"))


def _restore(kept: int, stream: int) -> None:
    os.dup2(kept, stream)
    os.close(kept)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
