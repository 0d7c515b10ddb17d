"""Noise in place of a microphone, for recorders that run in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from live_sessions import BLOCKS
from tiny_recordings import RATE

from edgeprune_device.recorder import housekeeping
from edgeprune_device.recorder import listen as module
from edgeprune_device.stream import Block


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """Noise in place of the microphone; what the list holds is done in the middle of it, once."""
    todo: list[Callable[[], None]] = []

    def source(*_: Any, **__: Any) -> Iterator[Block]:
        noise = np.random.default_rng(0).normal(size=(BLOCKS, RATE // 10)).astype(np.float32) / 100
        for number, block in enumerate(noise):
            if number == BLOCKS // 2 and todo:
                todo.pop()()
            yield Block(block)

    monkeypatch.setattr(module, "open_source", source)
    monkeypatch.setattr(housekeeping, "STATE_SECONDS", 0.0)
    return todo
