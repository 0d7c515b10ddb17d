"""What a live recorder does besides listening, a little at every tick of its loop.

    every tick        the journal's waiting rows, the watchdog, a look for Ctrl-C
    every few seconds the state of clock and board, a bundle that was swapped, the metrics
    every heartbeat   coverage to the journal, status file, heartbeat to the sinks
    every so often    retention, and at once when the disk is full

Each of them is told the time and decides whether it is due; none may take long.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeprune_device.clockstate import WallClock
from edgeprune_device.journal import Facts, Journal
from edgeprune_device.ledger import by_hour
from edgeprune_device.loop import Loop
from edgeprune_device.machine import machine_state
from edgeprune_device.metrics import Metrics
from edgeprune_device.notify import Notifier, Pulse
from edgeprune_device.retention import Retention
from edgeprune_device.settings import Settings
from edgeprune_device.sinks import Sinks
from edgeprune_device.status import StatusFile

STATE_SECONDS = 5.0
FULL_SECONDS = 5.0  # between tries to make room on a full disk
WAITING_SECONDS = 30.0  # what a start that waits asks systemd for, again and again


@dataclass
class Every:
    """Something that is due every so often."""

    seconds: float
    at: float = field(default=-1e18)

    def due(self, now: float) -> bool:
        """Say whether it is due, and begin the next stretch if it is."""
        if now - self.at < self.seconds:
            return False
        self.at = now
        return True
