"""Items an audio source passes to the recorder's loop: blocks, notices, or None as a tick."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Block:
    """A piece of the audio stream; stream time is counted in samples at the model's rate."""

    samples: NDArray[np.float32]
    """Array (n,), mono, in [-1, 1], at the model's rate; may be empty."""
    lost_samples: int = 0
    """Number of samples lost before the first one."""
    reason: str = "lost"
    """Why they were lost: a short name such as ``microphone lost``, ``stalled``, ``backlog``."""
    heard_at: float | None = None
    """Monotonic seconds at which the last sample was captured; None if unknown."""
    backlog_seconds: float = 0.0
    """Duration of the captured audio that waits behind this block."""


@dataclass(frozen=True)
class Notice:
    """An event of the source or the recorder, for the journal's table of events."""

    kind: str
    """A short name for programs, such as ``microphone-lost``."""
    text: str
    """One sentence for people."""
    details: Mapping[str, Any] = field(default_factory=dict)


Item = Block | Notice | None
"""None: nothing arrived within a moment; the loop may do other work."""
