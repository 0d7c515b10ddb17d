"""``edgeprune`` with screws that a test turns while it runs, each a file in ``$SCREWS``.

Everything else is the program as it is: this adds a wait before the model, a schedule that is a
file, another size of the blocks that a sound file is read in, and a wall clock that is off.
"""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

from edgeprune.cli import app
from edgeprune_device.audio import sources
from edgeprune_device.recorder import (
    components,
    housekeeping,
    listen,
    schedule,
    session_stats,
    source,
)
from edgeprune_device.system import clock

FOLDER = Path(os.environ["SCREWS"])
PAUSE = "pause"
MODEL_SECONDS = "model-seconds"
BLOCK_SECONDS = "block-seconds"
CLOCK_SECONDS = "clock-seconds"
LOOK_SECONDS = 0.02


def read(name: str) -> str:
    path = FOLDER / name
    return path.read_text() if path.exists() else ""


def wait() -> None:
    """Take as long as the file says, and no longer than it goes on saying so."""
    began = time.monotonic()
    while time.monotonic() - began < float(read(MODEL_SECONDS) or 0):
        time.sleep(LOOK_SECONDS)


class Schedule(schedule.ListeningSchedule):
    """Listens while there is no file ``pause``."""

    def listening(self, local: datetime) -> bool:
        return not (FOLDER / PAUSE).exists()


class Clock(datetime):
    """A wall clock that is off by as many seconds as the file says."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + timedelta(seconds=float(read(CLOCK_SECONDS) or 0))


def main() -> None:
    real = components._model

    def slowed(*arguments: Any) -> Any:
        model, *rest = real(*arguments)

        def run(first: int, window: Any) -> Any:
            wait()
            return model(first, window)

        return run, *rest

    opened: Any = components
    opened._model = slowed
    if os.environ.get("SCREW_CLOCK"):
        module: Any
        for module in (session_stats, clock, listen, housekeeping):
            module.datetime = Clock
        housekeeping.STATE_SECONDS = 0.5
    if os.environ.get("SCREW_SCHEDULE"):
        opened = source
        opened.Schedule = Schedule
    if seconds := read(BLOCK_SECONDS):
        sources.BLOCK_SECONDS = float(seconds)
    app.main()


if __name__ == "__main__":
    main()
