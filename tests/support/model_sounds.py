"""Tones at a model's own rate."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tiny_recordings import tone

from edgeprune.models import loading


def sounds(model: Any, seconds: float, count: int = 3) -> torch.Tensor:
    """Return tones (count, samples), each 400 Hz over the one before."""
    rate = loading.sample_rate_of(model)
    return torch.from_numpy(
        np.stack([tone(400.0 * (i + 1), seconds, i, rate) for i in range(count)])
    )
