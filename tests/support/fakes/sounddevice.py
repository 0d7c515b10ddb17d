"""A sound library without sound: what the capture process imports where FAKE_SOUND is set.

It counts: frame n holds n modulo ``MODULUS`` in every channel c, plus c. FAKE_SOUND is JSON with

    devices   [[name, channels, rate], ...]     pace      times real time
    rates     those it takes; others give -9997 formats   those it takes; others give -9994
    stop      frame at which the stream ends    overflow  callbacks before which input was lost
    hole      [callback, frames] that are lost without a flag
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

MODULUS = 30011
TOLD: dict[str, Any] = {
    "devices": [["counter", 2, 48000]], "pace": 1, "rates": [48000], "formats": ["int16"],
    "stop": None, "overflow": [], "hole": [-1, 0], "open": None,
} | json.loads(os.environ.get("FAKE_SOUND", "{}"))  # fmt: skip
default = SimpleNamespace(device=(0, -1))


class PortAudioError(Exception):
    """As sounddevice's: a sentence and PortAudio's number."""


def query_hostapis() -> list[dict[str, Any]]:
    return [{"name": "Fake"}]


def query_devices() -> list[dict[str, Any]]:
    return [
        {"name": name, "hostapi": 0, "max_input_channels": channels, "default_samplerate": rate}
        for name, channels, rate in TOLD["devices"]
    ]


class RawInputStream:
    """Calls back from a thread with counted frames."""

    def __init__(
        self, *, samplerate: int, blocksize: int, device: int, channels: int, dtype: str,
        callback: Callable[..., None], finished_callback: Callable[[], None],
    ) -> None:  # fmt: skip
        if TOLD["open"]:
            raise PortAudioError(*TOLD["open"])
        if samplerate not in TOLD["rates"]:
            raise PortAudioError("Error opening RawInputStream: Invalid sample rate", -9997)
        if dtype not in TOLD["formats"]:
            raise PortAudioError("Error opening RawInputStream: Sample format", -9994)
        self.rate, self.block, self.channels, self.kind = samplerate, blocksize, channels, dtype
        self.callback, self.finished, self.active, self.time = callback, finished_callback, True, 0

    def start(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        began, frame, lost, number = time.monotonic(), 0, 0, 0
        while TOLD["stop"] is None or frame < TOLD["stop"]:
            if number == TOLD["hole"][0]:
                lost = TOLD["hole"][1]
            due = began + (frame + lost + self.block) / self.rate / TOLD["pace"]
            time.sleep(max(0.0, due - time.monotonic()))
            values = counted(np.arange(frame + lost, frame + lost + self.block))
            data = np.stack([values + channel for channel in range(self.channels)], axis=1)
            written = data.astype("<i2") if self.kind == "int16" else (data / 32768).astype("<f4")
            status = SimpleNamespace(input_overflow=number in TOLD["overflow"])
            self.callback(written.tobytes(), self.block, None, status)
            frame, number = frame + self.block, number + 1
        self.active = False
        self.finished()


def counted(frames: Any) -> Any:
    """Return what the first channel holds at some frames."""
    return np.asarray(frames) % MODULUS
