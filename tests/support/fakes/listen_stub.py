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


def replace(module: Any, name: str, value: Any) -> None:
    """Set a name of a module that is there: one that was renamed would be screwed at in vain."""
    if not hasattr(module, name):
        raise AttributeError(f"{module.__name__} has no {name}")
    setattr(module, name, value)


def main() -> None:
    real = components._model

    def slowed(*arguments: Any) -> Any:
        model, *rest = real(*arguments)

        def run(first: int, window: Any) -> Any:
            wait()
            return model(first, window)

        return run, *rest

    replace(components, "_model", slowed)
    if os.environ.get("SCREW_CLOCK"):
        for module in (session_stats, clock, listen, housekeeping):
            replace(module, "datetime", Clock)
        replace(housekeeping, "STATE_SECONDS", 0.5)
    if os.environ.get("SCREW_SCHEDULE"):
        replace(source, "ListeningSchedule", Schedule)
    if seconds := read(BLOCK_SECONDS):
        replace(sources, "BLOCK_SECONDS", float(seconds))
    app.main()


if __name__ == "__main__":
    main()
