"""Marker of the place where an exported graph can be split for streaming: the front end's end.

Every front end passes its frames through a ``Seam``, an identity. The part before it depends on the
samples of each frame alone; the part behind it processes the whole window.
``deployment.streaming_split`` splits there.
"""

from __future__ import annotations

from typing import Any

from torch import nn


class Seam(nn.Identity):
    """Identity that marks the end of a front end.

    Parameters
    ----------
    step : int
        Samples from one frame to the next.
    axis : int
        Axis of the frames in (batch, ., .).

    """

    def __init__(self, step: int, axis: int = 1) -> None:
        super().__init__()
        self.step, self.axis = step, axis


def seam_of(model: Any) -> Seam | None:
    """Return a model's seam; None if its front end has none, or there are several."""
    found = [module for module in model.modules() if isinstance(module, Seam)]
    return found[0] if len(found) == 1 else None
