"""Health, gate, model, guard, privacy and decision in a row: the same for blocks of any size."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from repository import shared
from tiny_recordings import RATE, tone

from edgeprune_device.audio.windowing import Windower
from edgeprune_device.bundle.reader import Bundle, read_bundle
from edgeprune_device.detection.activity_gate import ActivityGate
from edgeprune_device.detection.decider import Decider
from edgeprune_device.detection.decision_rule import rule_of
from edgeprune_device.detection.speech_privacy import SpeechTracker, speech_rule
from edgeprune_device.detection.vad import Vad
from edgeprune_device.inference.runtime import Scorer, open_model
from edgeprune_device.monitoring.score_checks import ScoreChecker
from edgeprune_device.monitoring.signal_health import SignalHealth
from edgeprune_device.settings import Decide, Privacy
from edgeprune_device.settings import Gate as GateSettings

CLIPS = [(s * RATE // 2, s * RATE // 2 + RATE) for s in range(44)]


class Recorder:
    """What a recorder's loop does between the source and the journal."""

    def __init__(self, bundle: Bundle, run: Scorer, vad: Path, gate: GateSettings) -> None:
        rule = rule_of(
            bundle, Decide(of_windows=3, confirm_windows=2, release=0.1, merge_seconds=0.4)
        )
        self.run, self.health, self.vad = run, SignalHealth(RATE), Vad(vad, RATE)
        self.gate = ActivityGate(gate, RATE, self.vad)
        self.guard = ScoreChecker(bundle.activation, bundle.labels, rule.ignore)
        self.decider, self.windower = Decider(rule), Windower(bundle.window_samples, 800)
        self.speech = SpeechTracker(speech_rule(bundle, Privacy(vad=True, margin_seconds=0.25)))
        self.found: list[Any] = []
        self.verdicts: list[tuple[int, str]] = []

    def take(self, samples: NDArray[np.float32]) -> None:
        while len(samples):  # cut where a window ends, as the loop does
            piece, samples = np.split(samples, [self.windower.due])
            self.hear(piece)

    def hear(self, samples: NDArray[np.float32]) -> None:
        first = self.windower.position
        self.health.push(first, samples)
        samples = SignalHealth.clean(samples)
        self.vad.push(first, samples)
        self.gate.push(first, samples)
        for begin, window in self.windower.push(samples):
            self.window(begin, begin + len(window), window)

    def window(self, first: int, last: int, window: NDArray[np.float32]) -> None:
        reason = self.health.invalid(first, last)
        if not reason and not self.gate.open(first, last):
            self.verdicts.append((first, "quiet"))
            self.found += self.decider.skip_gated(first / RATE)
            return
        scores = None if reason else self.run(window)
        if scores is not None:
            reason = self.guard.check(scores, window)
        self.verdicts.append((first, reason))
        if scores is None or reason:
            self.speech.unknown(first, last)
            self.found += self.decider.flush()
            return
        self.speech.window(first, last, scores)
        self.found += self.decider.step(first / RATE, last / RATE, scores)

    def gap(self, lost: int) -> None:
        first = self.windower.position
        self.windower.gap(lost)
        for part in (self.health, self.vad, self.gate):
            part.gap(first + lost)
        self.speech.unknown(first, first + lost)
        self.found += self.decider.flush()

    def end(self) -> list[Any]:
        self.health.flush()
        self.vad.flush()
        for first, window in self.windower.flush():
            self.window(first, min(first + len(window), self.windower.position), window)
        self.found += self.decider.flush()
        for frame in self.vad.fresh():
            self.speech.voice(frame.first, frame.last, frame.speech_probability)
        self.speech.end(self.windower.position)
        blocked = [self.speech.blocked(*clip) for clip in CLIPS]
        return [self.found, self.verdicts, self.health.notices(), self.guard.notices(), blocked]


@pytest.fixture(scope="module")
def parts(pytestconfig: pytest.Config) -> list[NDArray[np.float32]]:
    """Give tones, a voice, a dead microphone, numbers that are none; None of 22 s is a gap."""
    voice = soundfile.read(shared("models/silero_vad", pytestconfig) / "test.wav", dtype="float32")[
        0
    ]
    broken = tone(300, 2, 1)
    broken[5000] = np.nan
    quiet = (1e-4 * np.random.default_rng(0).standard_normal(RATE)).astype(np.float32)
    first = [quiet, tone(300, 0.6, 2), quiet, tone(2500, 1.0, 3), voice[RATE : 3 * RATE], quiet]
    return [np.concatenate([*first, np.zeros(7 * RATE, np.float32), tone(900, 1, 4)]),
            np.concatenate([broken, quiet, tone(900, 1.5, 5), tone(300, 0.7, 6)])]  # fmt: skip


@pytest.mark.parametrize("kind", ["", "level", "vad"])
def test_blocks_of_any_size_give_the_same_events_verdicts_alarms_and_clips(
    kind: str, tiny_bundle: Path, parts: list[NDArray[np.float32]], pytestconfig: pytest.Config
) -> None:
    bundle = read_bundle(tiny_bundle)
    run = open_model(bundle)
    model = shared("models/silero_vad/silero_vad_16k_op15.onnx", pytestconfig)
    asked = GateSettings(kind, -60.0, str(model), hold_seconds=0.2)

    def listen(chunks: list[int] | None) -> list[Any]:
        recorder = Recorder(bundle, run, model, asked)
        for k, sound in enumerate(parts):
            if k:
                recorder.gap(12_345)
            done, turn = 0, itertools.cycle(chunks or [len(sound)])
            while done < len(sound):
                piece = sound[done : done + next(turn)]
                recorder.take(piece)
                done += len(piece)
        return recorder.end()

    whole = listen(None)
    found, verdicts, alarms, scores, blocked = whole
    assert scores == []
    assert {a.kind for a in alarms} >= {"health-silent", "health-not-finite"}
    assert {reason for _, reason in verdicts} >= {"", "digital silence", "not finite"}
    assert blocked.count(False) > 3
    assert blocked.count(True) > 3
    if not kind:
        assert {d.label for d in found} == {"low", "middle", "high"}

    @settings(deadline=None, max_examples=4)
    @given(st.lists(st.integers(200, 50_000), min_size=1, max_size=4))
    def check(chunks: list[int]) -> None:
        assert listen(chunks) == whole

    check()
