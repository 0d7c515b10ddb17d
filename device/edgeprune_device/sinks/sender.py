"""What a sink is to the thread that feeds it: a few functions, and one way to fail."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Message = Mapping[str, Any]
"""A detection: the columns of its row, by name, without those that are not known."""


class NotSentError(Exception):
    """A message did not arrive.

    Parameters
    ----------
    text : str
        Why, without any secret.
    refused : bool
        The receiver says no to this message, and would again; otherwise it is worth trying on.

    """

    def __init__(self, text: str, *, refused: bool = False) -> None:
        super().__init__(text)
        self.refused = refused


@dataclass(frozen=True)
class Sender:
    """One receiver of detections."""

    name: str
    """``mqtt``, ``webhook`` or ``command``."""
    target: str
    """Digest of where they go: what was sent elsewhere is no reason to start in the middle."""
    send: Callable[[Message], None]
    """Returns when the receiver has the message; raises NotSentError."""
    close: Callable[[], None]
    """Ends what is going on, also from another thread, and takes no more than a moment."""
    beat: Callable[[Message], None] | None = None
    """Shows the state of the recorder, if the receiver can; raises NotSentError."""


def target_of(*parts: object) -> str:
    """Return a digest of a receiver's address."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:16]
