"""What a recorder does besides listening, a little at every tick of its loop.

    every tick         the live line, the journal's waiting rows, the watchdog
    every 5 seconds    clock and board, metrics, a bundle that was swapped
    every heartbeat    coverage to the journal, status file, heartbeat to the sinks
    every so often     retention, and every few seconds while something cannot be written

Each part is told the time and decides whether it is due; none takes long. Of a file only the live
line and the coverage are kept: nothing in its journal depends on when it was heard.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from edgeprune_device.clockstate import clock_state
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.installed import changed
from edgeprune_device.journal import Total
from edgeprune_device.latency import Latencies
from edgeprune_device.ledger import ANALYSED, NOT_CAPTURED, by_hour
from edgeprune_device.loop import Loop
from edgeprune_device.machine import machine_state
from edgeprune_device.metrics import Metrics
from edgeprune_device.notify import Notifier, Pulse
from edgeprune_device.pick import Picked
from edgeprune_device.plan import Plan, open_bundle
from edgeprune_device.retention import Retention
from edgeprune_device.screen import clock
from edgeprune_device.sinks import Sinks
from edgeprune_device.source import PAUSED
from edgeprune_device.status import write_status
from edgeprune_device.stream import Notice

STATE_SECONDS = 5.0
CLOSE_SECONDS = 3.0  # that sinks get to send what they hold
WAITING_SECONDS = 60.0  # what a start that waits for a microphone asks systemd for, time and again


@dataclass
class Every:
    """Something that is due every so often."""

    seconds: float
    at: float = field(default=-float("inf"))

    def due(self, now: float) -> bool:
        """Say whether it is due, and begin the next stretch if it is."""
        if now - self.at < self.seconds:
            return False
        self.at = now
        return True
