"""The recorder's loop in process: a stream of songs, run in blocks of any size."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from tiny_recordings import RATE, TONES, tone

from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.inference.choose_variant import choose_variant
from edgeprune_device.journal.coverage import ANALYSED, DROPPED, INVALID, NOT_CAPTURED
from edgeprune_device.journal.journal import Journal
from edgeprune_device.journal.stream_time import StreamTime
from edgeprune_device.monitoring.terminal import TerminalOutput
from edgeprune_device.recorder.components import make_components
from edgeprune_device.recorder.loop import Components, Loop
from edgeprune_device.settings import Settings
from edgeprune_device.stream import Block

Samples = NDArray[np.float32]
START = datetime(2026, 5, 1, 4, 0, tzinfo=UTC)
SUNG = {1.0: "low", 3.2: "high", 5.0: "middle"}


def stream(seconds: float = 8) -> Samples:
    sound = 0.003 * np.random.default_rng(0).standard_normal(round(seconds * RATE))
    for second, label in SUNG.items():
        first = round(second * RATE)
        sound[first : first + 4800] += tone(TONES[label], 0.3, 1)
    return sound.astype(np.float32)


class Run:
    """One session of a loop over given items, and what it left behind."""

    def __init__(
        self, bundle: Path, out: Path, items: Iterable[Any], settings: Settings | None = None,
        change: Callable[[Components], Components] = lambda parts: parts,
    ) -> None:  # fmt: skip
        settings = settings or Settings()
        picked, self.said = choose_variant(read_bundle(bundle)), list[str]()
        self.parts = change(make_components(
            picked, settings, out, TerminalOutput(self.said.append), on_latency=lambda _: None,
        ))  # fmt: skip
        with Journal(out, "b", "d", "s", live=False, clock=lambda: START) as journal:
            self.loop = Loop(self.parts, journal, StreamTime(RATE, START))
            for item in items:
                self.loop.take(item)
            self.loop.end()
            journal.close({})
        self.out, self.ledger = out, self.parts.ledger
        self.lines = (out / "detections.jsonl").read_bytes()
        self.labels = [json.loads(line)["label"] for line in self.lines.splitlines()]

    def total(self, kind: str) -> int:
        return sum(n for (found, _), n in self.ledger.totals.items() if found == kind)

    @property
    def events(self) -> list[str]:
        with closing(sqlite3.connect(self.out / "journal.sqlite")) as database:
            return [row[0] for row in database.execute("SELECT kind FROM events ORDER BY seq")]

    def check(self) -> None:
        """Assert that every sample of the stream is accounted for."""
        assert sum(self.ledger.totals.values()) == self.ledger.position == self.loop.position
        assert self.total(NOT_CAPTURED) + self.total(DROPPED) + self.total(INVALID) + self.total(
            ANALYSED) == self.loop.position  # fmt: skip


def in_blocks(sound: Samples, sizes: Iterable[int]) -> Iterator[Block]:
    first = 0
    for size in sizes:
        yield Block(sound[first : first + size])
        first += size
    yield Block(sound[first:])


def clips_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): soundfile.read(path, dtype="int16")[0].tobytes()
        for path in folder.rglob("*.flac")
    }
