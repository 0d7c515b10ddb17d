"""Settings of the steps in closed form: ``reconstruct``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reconstruct:
    """Step ``reconstruct``: remove heads and feed-forward columns, and refit what takes them."""

    ratio: float = 0.0
    """Share of the model's cost to remove; 0: as much as keeps the validation score within
    ``max_drop``."""
    of: str = "macs"
    """Which cost: ``macs`` (multiply-accumulates) or ``parameters``."""
    what: tuple[str, ...] = ("heads", "feed-forward")
    """Kinds of units that may be removed: ``heads``, ``feed-forward``."""
    clips: int = 256
    """Largest number of training clips to fit on; fewer of longer clips."""
