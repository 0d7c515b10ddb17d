"""Terminal output of a recorder: a line per detection, and a live status line."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress

QUIET_SECONDS = 10.0  # between status lines if there is no terminal
LIVE_SECONDS = 0.25  # between updates of the live line
Say = Callable[[str], None]


class TerminalOutput:
    """Prints a line per detection, and a live status line if there is a terminal.

    A closed terminal, or a full disk behind it, is not a reason to stop recording.

    Parameters
    ----------
    say : callable
        Prints a line.
    watched : bool
        Whether another program shows the status, as systemd does: then no periodic status lines,
        which would be 8,640 a day in its log.

    """

    def __init__(self, say: Say, *, watched: bool = False) -> None:
        self._say, self._watched = say, watched
        self.live = sys.stderr.isatty()
        self.shown = time.monotonic()

    def show(self, text: Callable[[], str]) -> None:
        """Update the live line, or print it as a line from time to time."""
        wait = LIVE_SECONDS if self.live else QUIET_SECONDS
        if time.monotonic() - self.shown < wait:
            return
        self.shown = time.monotonic()
        if self.live:
            self._write(text())
        elif not self._watched:
            self.line(text())

    def line(self, text: str) -> None:
        """Print a line above the live line."""
        self._write()
        with suppress(OSError):
            self._say(text)

    def end(self) -> None:
        """Remove the live line."""
        self._write()

    def _write(self, text: str = "") -> None:
        """Replace the text of the live line."""
        if self.live:
            with suppress(OSError):
                sys.stderr.write(f"\r\x1b[K{text}")
                sys.stderr.flush()


def clock(seconds: float) -> str:
    """Format stream time as 00:01:23.4."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 10:02d}.{rest % 10}"
