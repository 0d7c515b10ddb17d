"""The gate: by level, by voice, held open, and open where nothing is known."""

from __future__ import annotations

import itertools
import math
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeprune_device.audio.level import level_db
from edgeprune_device.detection.activity_gate import ActivityGate
from edgeprune_device.detection.vad import Vad
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.settings import Gate as Asked

RATE = 1000


def tone(seconds: float, db: float) -> NDArray[np.float32]:
    """Make a sine whose RMS is so many dB of full scale."""
    time = np.arange(round(seconds * RATE)) / RATE
    return (10 ** (db / 20) * math.sqrt(2) * np.sin(2 * np.pi * 100 * time)).astype(np.float32)


def opened(
    gate: ActivityGate, sound: NDArray[np.float32], chunks: list[int], window: int = RATE
) -> list[int]:
    """Return which half seconds the gate is open for."""
    position, begin, found, turn = 0, 0, [], itertools.cycle(chunks)
    while position < len(sound):
        piece = sound[position : position + next(turn)]
        gate.push(position, piece)
        position += len(piece)
        while begin + window <= position:
            if gate.open(begin, begin + window):
                found.append(2 * begin // RATE)
            begin += RATE // 2
    return found


def test_the_level_of_a_sine_is_its_rms() -> None:
    assert level_db(tone(1, -20)) == pytest.approx(-20)
    assert level_db(np.zeros(100, np.float32)) == -math.inf


def test_without_a_gate_every_window_passes() -> None:
    assert opened(ActivityGate(Asked(), RATE), np.zeros(3000, np.float32), [100]) == [0, 1, 2, 3, 4]


def test_a_loud_window_opens_the_gate_and_a_quiet_one_does_not() -> None:
    sound = np.concatenate([tone(2, -70), tone(1, -50), tone(2, -70)])
    assert opened(ActivityGate(Asked("level", level_db=-60), RATE), sound, [100]) == [3, 4, 5]
    assert opened(ActivityGate(Asked("level", level_db=-49), RATE), sound, [100]) == []


def test_the_gate_stays_open_for_as_long_as_it_is_told() -> None:
    sound = np.concatenate([tone(1, -50), tone(5, -90)])
    gate = ActivityGate(Asked("level", level_db=-60, hold_seconds=1.0), RATE)
    assert opened(gate, sound, [250]) == [0, 1, 2, 3]  # the last loud window ends at 1.5 s
    gate.gap(10_000)
    gate.push(10_000, tone(1, -90))
    assert not gate.open(10_000, 11_000)


def test_a_window_whose_sound_is_not_there_passes() -> None:
    gate = ActivityGate(Asked("level", level_db=-60), RATE)
    gate.push(0, tone(1, -90))
    assert not gate.open(0, 1000)
    assert gate.open(500, 1500)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(1, 3000), st.floats(-80, -40)), min_size=1, max_size=6),
       st.lists(st.integers(1, 4000), min_size=1, max_size=5), st.sampled_from([0.0, 0.7, 2.0]))  # fmt: skip
def test_chunks_do_not_matter(
    script: list[tuple[int, float]], chunks: list[int], hold: float
) -> None:
    sound = np.concatenate([tone(n / RATE, db) for n, db in script])
    asked = Asked("level", level_db=-60, hold_seconds=hold)
    assert opened(ActivityGate(asked, RATE), sound, chunks) == opened(
        ActivityGate(asked, RATE), sound, [len(sound)]
    )


class Said:
    """A detector that says what it is told."""

    def __init__(self, answers: list[float | None]) -> None:
        self.answers = iter(answers)

    def max_probability(self, _first: int, _last: int) -> float | None:
        return next(self.answers)


def test_a_voice_opens_the_gate_and_so_does_not_knowing() -> None:
    vad = cast(Vad, Said([0.1, 0.6, None, 0.49]))
    gate = ActivityGate(Asked("vad", vad_model="x", vad_threshold=0.5), RATE, vad)
    assert [gate.open(1000 * i, 1000 * i + 1000) for i in range(4)] == [False, True, True, False]


def test_a_gate_for_voices_needs_a_detector() -> None:
    with pytest.raises(EdgepruneError, match="needs a voice activity detector, but there is none"):
        ActivityGate(Asked("vad", vad_model="x"), RATE)


def test_long_streams_hold_no_more_than_a_minute() -> None:
    gate: Any = ActivityGate(Asked("level"), RATE)
    for k in range(200):
        gate.push(1000 * k, tone(1, -50))
    assert sum(len(block) for _, block in gate._blocks) <= 62 * RATE
