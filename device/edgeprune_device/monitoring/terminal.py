"""What a person sees of a listener: a line for each detection, and a live line in a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress

QUIET_SECONDS = 10.0  # between status lines where there is no terminal
LIVE_SECONDS = 0.25  # between changes of the live line
Say = Callable[[str], None]


class Screen:
    """What a person sees: a line for each detection, and a live line where there is a terminal.

    A terminal that has gone, or a full disk behind it, is no reason to stop listening.

    Parameters
    ----------
    say : callable
        Gets a line.
    watched : bool
        Somebody else shows how things are, as systemd does: no lines now and then, which would be
        8,640 a day in its log.

    """

    def __init__(self, say: Say, *, watched: bool = False) -> None:
        self._say, self._watched = say, watched
        self.live = sys.stderr.isatty()
        self.shown = time.monotonic()

    def show(self, text: Callable[[], str]) -> None:
        """Change the live line, or say it now and then."""
        wait = LIVE_SECONDS if self.live else QUIET_SECONDS
        if time.monotonic() - self.shown < wait:
            return
        self.shown = time.monotonic()
        if self.live:
            self._write(text())
        elif not self._watched:
            self.line(text())

    def line(self, text: str) -> None:
        """Say a line, above the live one."""
        self._write()
        with suppress(OSError):
            self._say(text)

    def end(self) -> None:
        """Take the live line away."""
        self._write()

    def _write(self, text: str = "") -> None:
        """Put a text in place of the live line."""
        if self.live:
            with suppress(OSError):
                sys.stderr.write(f"\r\x1b[K{text}")
                sys.stderr.flush()


def clock(seconds: float) -> str:
    """Write stream time as 00:01:23.4."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 10:02d}.{rest % 10}"
