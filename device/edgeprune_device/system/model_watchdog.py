"""Ends the program when the model hangs.

It runs in a thread, because the loop itself is blocked then. systemd's watchdog would do the same
later; without systemd nothing else would. Committed data stays, and the journal's next session
records the unclean exit.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable

from edgeprune_device.errors import FAILED_CHECK

LOOK_SECONDS = 1.0


def watch_for_hang(
    busy_since: Callable[[], float | None], hang_seconds: float,
    end: Callable[[int], None] = os._exit, now: Callable[[], float] = time.monotonic,
    look_seconds: float = LOOK_SECONDS,
) -> Callable[[], None]:  # fmt: skip
    """Watch for a hanging model from a separate thread.

    Parameters
    ----------
    busy_since : callable
        Returns the monotonic time, seconds, at which the model began the current window; None if it
        is idle.
    hang_seconds : float
        A window that takes longer ends the program with status 1.
    end : callable
        Ends the process with an exit status, whatever its other threads do.
    now : callable
        Returns monotonic seconds.
    look_seconds : float
        Time between two checks.

    Returns
    -------
    callable
        Stops the watch.

    """
    over = threading.Event()

    def watch() -> None:
        while not over.wait(look_seconds):
            since = busy_since()
            if since is not None and now() - since > hang_seconds:
                sys.stderr.write(
                    f"error: The model has taken more than {hang_seconds:g} s for one window.\n"
                    "hint: Is the board out of memory? edgeprune doctor times the bundle.\n"
                )
                sys.stderr.flush()
                end(FAILED_CHECK)
                return

    thread = threading.Thread(target=watch, name="hang", daemon=True)
    thread.start()

    def stop() -> None:
        over.set()
        thread.join()

    return stop
