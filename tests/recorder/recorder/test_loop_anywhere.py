"""The loop gives the same whatever the settings, the blocks, and the place in the stream."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from recorder_loop import Run, Samples, clips_of, stream
from tiny_recordings import RATE

from edgeprune_device.settings import Clips, Decide, Gate, Privacy, Settings
from edgeprune_device.stream import Block

MONTHS = 10**11
"""Samples: two and a half months at 16 kHz."""
KEPT = Clips(save=True, before_seconds=0.5, after_seconds=0.25)
CASES = {
    "as it is": Settings(clips=KEPT),
    "smoothed and hushed": Settings(
        clips=KEPT, decide=Decide(smoothing_windows=3, refractory_seconds=2.0)
    ),
    "confirmed and merged": Settings(
        clips=KEPT, gate=Gate(kind="level", level_db=-45, hold_seconds=0.3),
        decide=Decide(hop_seconds=0.037, confirm_windows=2, of_windows=3, release=0.2,
                      merge_seconds=0.5),
    ),
    "between windows": Settings(
        clips=KEPT, privacy=Privacy(labels=("high",), margin_seconds=0.2),
        decide=Decide(hop_seconds=0.25, merge_seconds=3, threshold=0.2),
    ),
}  # fmt: skip


def spoiled() -> Samples:
    """Twelve seconds with zeros, and a second that is no sound."""
    sound = stream(12)
    sound[round(2.2 * RATE) : round(3.1 * RATE)] = 0
    sound[9 * RATE : 10 * RATE] = np.nan
    return sound


def items(size: Callable[[], int], before: int = 0) -> Iterator[Block]:
    """Yield the sound with two gaps, after so many samples that were lost."""
    sound, nothing = spoiled(), np.empty(0, np.float32)
    for piece, lost in ((sound[:70000], before), (sound[70000:75000], 1600), (sound[75000:], 3)):
        if lost:
            yield Block(nothing, lost, "stalled")
        while len(piece):
            block, piece = np.split(piece, [size()])
            yield Block(block)


def events(run: Run) -> list[tuple[str, int, str]]:
    with closing(sqlite3.connect(run.out / "journal.sqlite")) as database:
        return database.execute("SELECT kind, sample, text FROM events ORDER BY seq").fetchall()


def found(run: Run, before: int = 0) -> list[tuple[str, int, int]]:
    """Return detections and their places, less so many samples."""
    rows = map(json.loads, run.lines.splitlines())
    return [(d["label"], d["first_sample"] - before, d["last_sample"] - before) for d in rows]


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_everything_is_the_same_for_any_blocks(
    settings: Settings, tiny_bundle: Path, tmp_path: Path
) -> None:
    sizes = np.random.default_rng(0)
    whole = Run(tiny_bundle, tmp_path / "whole", items(lambda: 1 << 30), settings)
    parts = Run(
        tiny_bundle, tmp_path / "parts", items(lambda: int(sizes.integers(1, 900))), settings
    )
    assert parts.lines == whole.lines
    assert parts.ledger.totals == whole.ledger.totals
    assert clips_of(parts.out) == clips_of(whole.out)
    assert events(parts) == events(whole)
    assert len(found(whole)) >= 3
    whole.check()


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_what_is_heard_after_months_is_what_is_heard_at_once(
    settings: Settings, tiny_bundle: Path, tmp_path: Path
) -> None:
    """Seconds are floats; whether two windows touch must not hang on their last bits."""
    early = Run(tiny_bundle, tmp_path / "early", items(lambda: 4000), settings)
    late = Run(tiny_bundle, tmp_path / "late", items(lambda: 4000, MONTHS), settings)
    assert found(late, MONTHS) == found(early)
    assert sorted(clips_of(late.out).values()) == sorted(clips_of(early.out).values())
    late.check()
