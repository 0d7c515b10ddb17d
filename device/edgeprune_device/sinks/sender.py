"""Interface of a sink: a few functions and one kind of error."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Message = Mapping[str, Any]
"""A detection: column name -> value, without unknown values."""


class NotSentError(Exception):
    """A message did not arrive.

    Parameters
    ----------
    text : str
        Why, without any secret.
    refused : bool
        Whether the receiver rejects this message and would do so again; otherwise retry.

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
    """Digest of the receiver's address; each address has its own cursor."""
    send: Callable[[Message], None]
    """Sends a message; returns when the receiver has it, or raises NotSentError."""
    close: Callable[[], None]
    """Stops what is in progress, also from another thread, within a moment."""
    beat: Callable[[Message], None] | None = None
    """Sends the recorder's state, if the receiver shows it; raises NotSentError."""


def target_of(*parts: object) -> str:
    """Return a digest of a receiver's address."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:16]
