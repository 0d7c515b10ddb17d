"""A recorder that is killed again and again while it writes; says which rows it had acknowledged.

    python kills.py FOLDER KILLS SEED  ->  JSON lines: the acknowledged ids of each life

Every life is a process of its own (a fork of this one, after the imports) that opens the journal,
writes detections as fast as it can, prints each id once it is committed, and is killed at a moment
drawn by chance, from before the journal is open to a hundred rows later.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from edgeprune_device.detection.events import Detection
from edgeprune_device.journal.journal import Journal, Total
from edgeprune_device.stream import Notice

LONGEST_LIFE = 0.25


def live(folder: Path, pipe: int) -> None:
    """Write until killed."""
    with Journal(folder, "b", "d", "microphone", live=True, rate=16000,
                 clock=lambda: datetime.now(UTC)) as book:  # fmt: skip
        for index in count():
            name = book.add(Detection(f"bird {index % 7}", 0.9, index, index + 1.0), index * 16000)
            if not book.pending:
                os.write(pipe, (name + "\n").encode())
            if index % 5 == 0:
                book.event(Notice("tick", "A tick."), index)
                book.coverage([Total("2026-05-01T12", "analysed", "", index)])


def main(folder: Path, kills: int, seed: int) -> None:
    """Kill a recorder so often."""
    chance = random.Random(seed)
    for _ in range(kills):
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            live(folder, writer)
        os.close(writer)
        time.sleep(chance.uniform(0, LONGEST_LIFE))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(reader) as acknowledged:
            print(json.dumps(acknowledged.read().split()), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
