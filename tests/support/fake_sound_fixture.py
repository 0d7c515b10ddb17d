"""The capture process with ``fakes/sounddevice.py`` in place of PortAudio, and what was heard of it."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeprune_device.audio.microphone import Microphone
from edgeprune_device.stream import Block, Item, Notice

FAKES = Path(__file__).parent / "fakes"
Fake = Callable[..., None]


@pytest.fixture
def fake_sound(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Return a function that sets what the fake sound library does."""

    def use(**told: Any) -> None:
        monkeypatch.setenv("FAKE_SOUND", json.dumps(told))
        places = [str(FAKES), *(part for part in sys.path if part)]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(places))

    return use


@pytest.fixture
def nothing_is_left() -> Iterator[None]:
    """Afterwards: no capture process, no open file, nothing in shared memory."""
    files, shm = len(os.listdir("/proc/self/fd")), set(os.listdir("/dev/shm"))
    yield
    assert len(os.listdir("/proc/self/fd")) <= files
    assert not {name for name in os.listdir("/dev/shm") if "edgeprune" in name} - shm
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    for number in children.read_text().split() if children.exists() else ():
        assert (
            b"edgeprune_device.audio.capture_process"
            not in Path(f"/proc/{number}/cmdline").read_bytes()
        )


class Heard:
    """What a microphone has given, on the stream's time line."""

    def __init__(self, microphone: Microphone) -> None:
        self.microphone = microphone
        self.notices: list[tuple[float, Notice]] = []
        self.losses: list[tuple[int, int, str]] = []
        self.blocks: list[Block] = []
        self.position = self.captured = 0
        self.slowest = 0.0
        self._parts: list[tuple[int, NDArray[np.float32]]] = []

    def until(self, done: Callable[[Heard], bool], seconds: float = 30.0) -> Heard:
        """Go on until something holds."""
        deadline = time.monotonic() + seconds
        while not done(self):
            begin = time.monotonic()
            assert begin < deadline, f"in vain: {self.kinds}, {self.losses}, {self.captured}"
            self.take(next(self.microphone))
            self.slowest = max(self.slowest, time.monotonic() - begin)
        return self

    def take(self, item: Item) -> None:
        """Put an item on the time line."""
        if isinstance(item, Notice):
            self.notices.append((time.monotonic(), item))
        elif item is not None:
            self.blocks.append(item)
            if item.lost_samples:
                self.losses.append((self.position, item.lost_samples, item.reason))
            self.position += item.lost_samples
            self._parts.append((self.position, item.samples))
            self.position += len(item.samples)
            self.captured += len(item.samples)

    def more(self, samples: int) -> Callable[[Heard], bool]:
        """Return whether so many samples more have been captured, as a function."""
        wanted = self.captured + samples
        return lambda heard: heard.captured >= wanted

    def noted(self, kind: str, times: int = 1) -> Callable[[Heard], bool]:
        """Return whether a kind of notice has come so often, as a function."""
        return lambda heard: heard.kinds.count(kind) >= times

    @property
    def kinds(self) -> list[str]:
        """The notices' kinds, in order."""
        return [notice.kind for _, notice in self.notices]

    @property
    def lost(self) -> int:
        """Samples lost."""
        return sum(samples for _, samples, _ in self.losses)

    @property
    def line(self) -> NDArray[np.float32]:
        """(position,): every sample where it belongs, NaN where none was captured."""
        line = np.full(self.position, np.nan, dtype=np.float32)
        for first, samples in self._parts:
            line[first : first + len(samples)] = samples
        return line
