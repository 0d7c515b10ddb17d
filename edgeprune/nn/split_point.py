"""Where a front end ends: the place at which an exported graph can be cut in two.

Every front end passes its frames through a ``Seam``, which leaves them as they are. What stands
before it hears samples only; what stands behind it sees the whole window. ``incremental`` cuts there.
"""

from __future__ import annotations

from typing import Any

from torch import nn


class Seam(nn.Identity):
    """Passes frames on.

    Parameters
    ----------
    step : int
        Samples from one frame to the next.
    axis : int
        Of the frames, in (batch, ., .).

    """

    def __init__(self, step: int, axis: int = 1) -> None:
        super().__init__()
        self.step, self.axis = step, axis


def seam_of(model: Any) -> Seam | None:
    """Return a model's seam; None where its front end has none."""
    found = [module for module in model.modules() if isinstance(module, Seam)]
    return found[0] if len(found) == 1 else None
