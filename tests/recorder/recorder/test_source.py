"""A schedule lets go of the microphone, and what it did not hear is counted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from edgeprune_device.errors import EdgepruneError
from edgeprune_device.recorder.schedule import ListeningSchedule
from edgeprune_device.recorder.source import PAUSED, open_source, scheduled
from edgeprune_device.settings import Schedule as ScheduleSettings
from edgeprune_device.settings import Settings
from edgeprune_device.stream import Block, Item, Notice

RATE = 1000
MORNING = datetime(2026, 5, 1, 4, 59, 50, tzinfo=UTC)


class World:
    """A clock that only sleeping and listening move, and microphones that are counted."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.opened = self.open = 0

    def now(self) -> datetime:
        return MORNING + timedelta(seconds=self.seconds)

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def microphone(self) -> Iterator[Item]:
        self.opened += 1
        self.open += 1
        try:
            while True:
                self.seconds += 0.1
                yield Block(np.zeros(RATE // 10, np.float32), heard_at=self.seconds)
        finally:
            self.open -= 1


def test_outside_its_hours_no_microphone_is_open_and_every_second_is_told() -> None:
    """Ten seconds before five, an hour of listening, and on into the pause."""
    world = World()
    plan = ListeningSchedule(ScheduleSettings(listen=("05:00-06:00",)), UTC)
    items = scheduled(world.microphone, plan, RATE, now=world.now,
                      monotonic=lambda: world.seconds, sleep=world.sleep)  # fmt: skip
    told, samples, lost, held = [], 0, 0, {}
    for item in items:
        if isinstance(item, Notice):
            told.append((item.kind, round(world.seconds)))
            held[item.kind] = world.open
        elif item is not None:
            samples += len(item.samples)
            lost += item.lost_samples
            assert item.lost_samples == 0 or item.reason == PAUSED
        if world.seconds > 3700:
            break
    assert told[0] == ("paused", 0)
    assert told[1] == ("resumed", 10)
    assert told[2][0] == "paused"
    assert 3610 <= told[2][1] <= 3612
    assert held == {"paused": 0, "resumed": 0}
    assert world.opened == 1
    assert samples + lost == pytest.approx(3700 * RATE, abs=2 * RATE)


def test_without_a_schedule_the_source_is_the_microphone_itself(tmp_path: Path) -> None:
    with pytest.raises(EdgepruneError, match="There is no sound file"):
        open_source("wav", Settings(), tmp_path / "none.wav", RATE, wait=False)
