"""``edgeprune`` with three screws that a test turns while it runs, each a file (see ``Screws``).

Everything else is the program as it is: this adds a wait before the model, a schedule that is a
file, and another size of the blocks that a sound file is read in.
"""

from __future__ import annotations

import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from edgeprune import cli
from edgeprune_device import capture, parts, source

FOLDER = Path(os.environ["SCREWS"])
PAUSE = "pause"
MODEL_SECONDS = "model-seconds"
BLOCK_SECONDS = "block-seconds"
LOOK_SECONDS = 0.02


def read(name: str) -> str:
    path = FOLDER / name
    return path.read_text() if path.exists() else ""


def wait() -> None:
    """Take as long as the file says, and no longer than it goes on saying so."""
    began = time.monotonic()
    while time.monotonic() - began < float(read(MODEL_SECONDS) or 0):
        time.sleep(LOOK_SECONDS)


class Schedule(source.Schedule):
    """Listens while there is no file ``pause``."""

    def listening(self, local: datetime) -> bool:
        return not (FOLDER / PAUSE).exists()


def main() -> None:
    real = parts._model

    def slowed(*arguments: Any) -> Any:
        model, forget = real(*arguments)

        def run(first: int, window: Any) -> Any:
            wait()
            return model(first, window)

        return run, forget

    parts._model = slowed
    if os.environ.get("SCREW_SCHEDULE"):
        source.Schedule = Schedule  # type: ignore[misc]
    if seconds := read(BLOCK_SECONDS):
        capture.BLOCK_SECONDS = float(seconds)
    cli.main()


if __name__ == "__main__":
    main()
