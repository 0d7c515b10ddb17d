"""Keep what a native library prints away from the terminal, and hand it over.

LiteRT says on standard error that it made a delegate, converters log every pass: nothing a user
can act on. What they print goes past Python's own streams, so both file descriptors are turned
aside, into a file that is read when the block ends.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout

STREAMS = (1, 2)  # standard output and error


@contextmanager
def quiet() -> Iterator[list[str]]:
    """Turn standard output and error aside while the block runs.

    Other threads are silent as well for that time.

    Yields
    ------
    list of str
        Empty; holds what was printed, one text, once the block has ended or raised.

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
