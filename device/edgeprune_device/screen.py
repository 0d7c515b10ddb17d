"""What a person sees of a listener: a line for each detection, and a live line in a terminal."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

QUIET_SECONDS = 10.0  # between status lines where there is no terminal
LIVE_SECONDS = 0.25  # between changes of the live line
Say = Callable[[str], None]


class Screen:
    """What a person sees: a line for each detection, and a live line where there is a terminal."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.live = sys.stderr.isatty()
        self.shown = time.monotonic()

    def show(self, text: Callable[[], str]) -> None:
        """Change the live line, or say it now and then."""
        wait = LIVE_SECONDS if self.live else QUIET_SECONDS
        if time.monotonic() - self.shown < wait:
            return
        self.shown = time.monotonic()
        if self.live:
            sys.stderr.write(f"\r\x1b[K{text()}")
            sys.stderr.flush()
        else:
            self.say(text())

    def line(self, text: str) -> None:
        """Say a line, above the live one."""
        if self.live:
            sys.stderr.write("\r\x1b[K")
        self.say(text)

    def end(self) -> None:
        """Take the live line away."""
        if self.live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def level_db(samples: NDArray[np.float32]) -> float:
    """Return the level of samples in dB of full scale (a full square wave is 0)."""
    power = float(np.mean(np.square(samples, dtype=np.float64))) if samples.size else 0.0
    return 10 * math.log10(power) if power > 0 else -math.inf


def clock(seconds: float) -> str:
    """Write stream time as 00:01:23.4."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 10:02d}.{rest % 10}"
