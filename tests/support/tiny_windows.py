"""Windows of tones and noise, as models get them."""

from __future__ import annotations

from typing import Any

import numpy as np
from tiny_recordings import RATE, TONES, tone

from edgeprune.data.windows import Windows
from edgeprune.models import loading


def windows_for(model: Any, seconds: float = 0.25, count: int = 3) -> Windows:
    """Make tones in noise at a model's own rate; KWT takes one second and no less."""
    rate = loading.sample_rate_of(model)
    if model.config.model_type == "kwt":
        seconds = 1.0
    samples = np.stack([tone(500.0 * (i + 1), seconds, i, rate) for i in range(count)])
    rows = tuple({"label": "a", "columns": {}} for _ in range(count))
    sound = np.tile([0, samples.shape[1]], (count, 1))
    return Windows(samples, sound, np.arange(count), rows, tuple(TONES), rate)


LABELS = tuple(sorted(TONES))


def tone_windows(each: int = 4, seconds: float = 0.25) -> Windows:
    labels = [label for label in LABELS for _ in range(each)]
    samples = np.stack([tone(TONES[x], seconds, i) for i, x in enumerate(labels)])
    sound = np.tile([0, samples.shape[1]], (len(labels), 1))
    rows = tuple({"label": x, "columns": {}} for x in labels)
    return Windows(samples, sound, np.arange(len(labels)), rows, LABELS, RATE)
