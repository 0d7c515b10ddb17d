"""What passes from a source of sound to the recorder's loop: blocks, notices, or None for a tick."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Block:
    """A piece of the stream; stream time is counted in samples at the model's rate."""

    samples: NDArray[np.float32]
    """(n,), mono, in [-1, 1], at the model's rate; may be empty."""
    lost_samples: int = 0
    """Samples before the first that never arrived."""
    reason: str = "lost"
    """Why they did not: a short name, such as ``microphone lost``, ``stalled``, ``backlog``."""
    heard_at: float | None = None
    """Monotonic seconds at which the last sample was captured; None where there is no such time."""
    backlog_seconds: float = 0.0
    """Sound that was captured and waits behind this block."""


@dataclass(frozen=True)
class Notice:
    """Something that happened to the source or to the recorder, for the journal's events."""

    kind: str
    """A short name that programs can ask for, such as ``microphone-lost``."""
    text: str
    """One sentence for a person."""
    details: Mapping[str, Any] = field(default_factory=dict)


Item = Block | Notice | None
"""None: nothing has come for a moment, and the loop may look after other things."""
