"""What a recorder does besides listening, a little at every tick of its loop.

    every tick         the live line, the journal's waiting rows, the watchdog
    every 5 seconds    clock and board, metrics, a bundle that was swapped
    every heartbeat    coverage to the journal, status file, heartbeat to the sinks
    every so often     retention, and every few seconds while something cannot be written

Each part is told the time and decides whether it is due; none takes long. Of a file only the live
line and the coverage are kept: nothing in its journal depends on when it was heard.
"""

from __future__ import annotations

from dataclasses import dataclass, field

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
