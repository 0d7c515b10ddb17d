"""The one error type of the three packages: a sentence, a hint, an exit status.

``edgeprune.cli.app.main`` is the only place that prints it and ends the program.

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
    """Something the user can put right, said in one sentence.

    Parameters
    ----------
    message : str
        One sentence: what was wrong, with which file or value.
    hint : str
        What to do about it, ideally the command to type; empty if there is nothing to add.
    status : int
        The exit status the command line ends with.

    """

    def __init__(self, message: str, hint: str = "", status: int = BAD_INPUT) -> None:
        super().__init__(message)
        self.hint = hint
        self.status = status
