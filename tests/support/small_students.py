"""A student small enough to train in a second, and windows that are there for their labels alone."""

from __future__ import annotations

import numpy as np
from tiny_recordings import RATE

from edgeprune.core.settings import Student
from edgeprune.data.windows import Windows

SMALL = Student(width=16, layers=2, mels=12, stem_channels=2, epochs=4, label_epochs=2, kernel=3)


def one_window(labels: tuple[str, ...] = ("a",)) -> Windows:
    empty = np.zeros((1, 2), dtype=np.int64)
    return Windows(np.zeros((1, RATE), np.float32), empty, np.zeros(1, np.int64), (), labels, RATE)
