"""Ends the program when the model does not answer: a thread, for the loop itself is stuck then.

systemd's watchdog would do the same later; without systemd nothing else would. What was committed
stays, the journal's next session records the unclean end.
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
    """Watch a model from a thread of its own.

    Parameters
    ----------
    busy_since : callable
        Monotonic seconds since when the model has been at work on a window; None: it is not.
    hang_seconds : float
        A window that takes longer ends the program with status 1.
    end : callable
        Ends it, whatever its other threads do.
    now : callable
        Monotonic seconds.
    look_seconds : float
        Between looks.

    Returns
    -------
    callable
        Ends the watch.

    """
    over = threading.Event()

    def watch() -> None:
        while not over.wait(look_seconds):
            since = busy_since()
            if since is not None and now() - since > hang_seconds:
                sys.stderr.write(
                    f"error: The model has been at work on one window for {hang_seconds:g} s.\n"
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
