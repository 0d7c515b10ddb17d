"""What a person sees of a listener: a line for each detection, and a live line in a terminal."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

QUIET_SECONDS = 10.0  # between status lines where there is no terminal
LIVE_SECONDS = 0.25  # between changes of the live line
Say = Callable[[str], None]


@dataclass
class Counts:
    """What a session has come to so far."""

    captured: int = 0
    """Samples that arrived."""
    lost: int = 0
    """Samples that did not."""
    windows: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    detections: dict[str, int] = field(default_factory=dict)
    level_db: float = -math.inf
    """Of the last block, in dB of full scale."""
    top: tuple[str, float] = ("", 0.0)
    reason: str = "end of file"


class Screen:
    """What a person sees: a line for each detection, and a live line where there is a terminal."""

    def __init__(self, say: Say, hop_seconds: float) -> None:
        self.say, self.hop_seconds = say, hop_seconds
        self.live = sys.stderr.isatty()
        self.shown = time.monotonic()

    def show(self, counts: Counts, rate: int) -> None:
        """Change the live line, or say it now and then."""
        wait = LIVE_SECONDS if self.live else QUIET_SECONDS
        if time.monotonic() - self.shown < wait:
            return
        self.shown = time.monotonic()
        latency = counts.latencies_ms[-1] if counts.latencies_ms else 0.0
        label, score = counts.top
        text = (
            f"{clock(counts.captured / rate)}  {counts.level_db:6.1f} dBFS  {label} {score:.2f}  "
            f"{latency:.1f} ms  x{latency / 1000 / self.hop_seconds:.3f} of real time  "
            f"lost {counts.lost / rate:.1f} s"
        )
        if self.live:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
        else:
            self.say(text)

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
