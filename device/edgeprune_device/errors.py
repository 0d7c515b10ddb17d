"""The error type of all three packages: a message, a hint and an exit status.

``edgeprune.cli.app.main`` is the only place that prints it and exits.

Exit statuses
-------------
0  done
1  the work ran and failed its own check (below the accuracy floor, a regression)
2  wrong usage or bad input
3  something is not installed
"""

from __future__ import annotations

FAILED_CHECK = 1
BAD_INPUT = 2
NOT_INSTALLED = 3


class EdgepruneError(Exception):
    """An error that the user can fix.

    Parameters
    ----------
    message : str
        One sentence: what was wrong, with which file, key or value.
    hint : str
        How to fix it, ideally the command to run; empty if there is nothing to add.
    status : int
        Exit status of the command line.

    """

    def __init__(self, message: str, hint: str = "", status: int = BAD_INPUT) -> None:
        super().__init__(message)
        self.hint = hint
        if hint:
            self.add_note(f"Hint: {hint}")  # a traceback in Python ends with it
        self.status = status
