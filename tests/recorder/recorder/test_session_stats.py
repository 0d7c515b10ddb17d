"""A session's figures: hours that add up, and a status that says what is worst."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from tiny_recordings import RATE

from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.inference.choose_variant import choose_variant
from edgeprune_device.journal.journal import Journal
from edgeprune_device.journal.stream_time import StreamTime
from edgeprune_device.monitoring.latency import LatencyTrack
from edgeprune_device.monitoring.terminal import TerminalOutput
from edgeprune_device.recorder.components import make_components
from edgeprune_device.recorder.loop import Loop
from edgeprune_device.recorder.session_stats import Identity, SessionStats
from edgeprune_device.settings import Settings
from edgeprune_device.stream import Block, Notice

START = datetime(2026, 5, 1, 4, 59, 58, tzinfo=UTC)


@pytest.fixture(params=[True, False], ids=["live", "file"])
def account(
    request: pytest.FixtureRequest, tiny_bundle: Path, tmp_path: Path
) -> Iterator[SessionStats]:
    parts = make_components(
        choose_variant(read_bundle(tiny_bundle)), Settings(), tmp_path / "j", TerminalOutput(lambda _: None),
        on_latency=lambda _: None,
    )  # fmt: skip
    with Journal(tmp_path / "j", "b", "d", "s", live=request.param, clock=lambda: START) as journal:
        loop = Loop(parts, journal, StreamTime(RATE, START))
        yield SessionStats(
            loop, LatencyTrack(),
            Identity("b", "d", "s", "j", START, request.param, 0.05, 0.1, 60.0), None,
        )  # fmt: skip


def noise(seconds: float) -> Block:
    samples = np.random.default_rng(0).normal(0, 0.01, round(seconds * RATE))
    return Block(samples.astype(np.float32))


def test_the_hours_of_a_session_add_up_to_its_samples(account: SessionStats) -> None:
    """Four seconds over the full hour, an outage of two hours, and a second."""
    loop, seen = account.loop, Counter[tuple[str, str, str]]()
    for block in (noise(4), Block(np.empty(0, np.float32), 7200 * RATE, "stalled"), noise(1)):
        loop.take(block)
        for hour, kind, reason, samples in account.coverage():
            seen[hour, kind, reason] += samples
    loop.end()
    for hour, kind, reason, samples in account.coverage():
        seen[hour, kind, reason] += samples
    assert sum(seen.values()) == loop.position == 7205 * RATE
    hours = sorted({hour for hour, _, _ in seen})
    live = account.identity.live
    assert hours == (["2026-05-01T04", "2026-05-01T05", "2026-05-01T06", "2026-05-01T07"] if live
                     else ["0", "1", "2"])  # fmt: skip
    if live:
        assert seen["2026-05-01T04", "analysed", ""] == 2 * RATE
        assert seen["2026-05-01T06", "not captured", "stalled"] == 3600 * RATE


def test_the_state_is_the_worst_of_what_is_known(account: SessionStats) -> None:
    loop = account.loop
    loop.take(noise(1))
    assert account.status().state == "listening"
    loop.take(Notice("scores-constant", "The scores never change."))
    assert account.status().state == "degraded"
    assert account.status().text == "The scores never change."
    loop.take(Notice("microphone-lost", "It is gone."))
    assert account.status().state == "lost"
    loop.take(Notice("microphone-back", "It is back."))
    loop.take(Notice("scores-constant-cleared", "They change."))
    loop.take(Block(np.empty(0, np.float32), RATE, "schedule"))
    assert account.status().state == "paused"
    loop.take(noise(1))
    assert account.status().state == "listening"


def test_the_figures_are_json_and_balance(account: SessionStats) -> None:
    import json

    account.loop.take(noise(2))
    account.loop.end()
    stats = json.loads(json.dumps(account.stats(START + timedelta(seconds=2)), allow_nan=False))
    assert sum(sum(reasons.values()) for reasons in stats["coverage"].values()) == 2 * RATE
    assert stats["position_samples"] == 2 * RATE
    assert stats["windows"] == stats["scored"] > 30


def test_the_status_of_a_dead_microphone_is_json(account: SessionStats) -> None:
    """The level of zeros is minus infinity, which no JSON holds."""
    account.loop.take(Block(np.zeros(RATE, np.float32)))
    status = account.status()
    assert status.level_db is None
    json.dumps(status.as_dict(), allow_nan=False)
