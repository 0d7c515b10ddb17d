r"""The recorder's loop: passes each item of the source through every component, in stream order.

    source -> health -> windows -> gate -> model -> guard -> decider -> journal -> sinks
                  \-> clips, voice           every sample -> ledger

A block is split where a window, or a second of the health check, ends, so that each component has
received exactly the audio up to a window's end when the window is judged: the results do not depend
on how the audio arrived, and are the same for a file as for the microphone. The clock is only read
to measure how long the model takes.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.audio.level import level_db
from edgeprune_device.audio.windowing import Windower
from edgeprune_device.clips.clip_recorder import ClipInProgress, ClipRecorder
from edgeprune_device.detection.activity_gate import ActivityGate
from edgeprune_device.detection.decider import Decider
from edgeprune_device.detection.events import Detection
from edgeprune_device.detection.speech_privacy import SpeechTracker
from edgeprune_device.detection.vad import Vad
from edgeprune_device.journal.coverage import DROPPED, INVALID, CoverageLedger
from edgeprune_device.journal.journal import Journal
from edgeprune_device.journal.stream_time import StreamTime
from edgeprune_device.monitoring.alarms import Alarm, Alarms, AlarmSpec
from edgeprune_device.monitoring.score_checks import ScoreChecker
from edgeprune_device.monitoring.signal_health import SignalHealth
from edgeprune_device.monitoring.terminal import TerminalOutput, clock
from edgeprune_device.recorder.load_shedding import LoadShedder
from edgeprune_device.stream import Block, Item, Notice

Samples = NDArray[np.float32]
Model = Callable[[int, Samples], Samples]
"""(First sample of a window, window) -> scores."""
LOAD, GATE = "load", "gate: "
"""Reasons for dropped windows."""
STOPPED = "stopped"
"""Reason for the last windows that were not analysed: the end does not wait for a slow model."""
NO_ANSWER = "model failed"
FAILED = AlarmSpec(
    "scores-failed", "The model failed on a window; no detections are recorded until it works.",
    "The model works again (it failed for {amount} windows).", 0, 10,
)  # fmt: skip
CLIPS_KEPT = 1000
TEXTS = "transcripts"  # name under which transcripts are counted, since each text differs


@dataclass(frozen=True)
class Components:
    """The components of a session; all but the first four may be inactive."""

    model: Model
    windower: Windower
    decider: Decider
    ledger: CoverageLedger
    health: SignalHealth
    guard: ScoreChecker
    vad: Vad | None
    gate: ActivityGate
    speech: SpeechTracker
    clips: ClipRecorder
    shedder: LoadShedder
    screen: TerminalOutput
    on_latency: Callable[[float], None]
    """Called with the seconds that the model took for a window."""
    notices: tuple[Notice, ...] = ()
    """Notices from their creation."""
    reset_model: Callable[[], None] = lambda: None
    """Resets the model's state: the next window does not follow the last directly."""


@dataclass
class Progress:
    """Counters and state of a session so far."""

    captured: int = 0
    """Number of samples that arrived."""
    windows: int = 0
    scored: int = 0
    """Number of windows whose scores were used."""
    bad_scores: int = 0
    """Number of windows with invalid scores."""
    detections: Counter[str] = field(default_factory=Counter)
    notices: Counter[str] = field(default_factory=Counter)
    level_db: float = -np.inf
    top: tuple[str, float] = ("", 0.0)
    last_detection: dict[str, Any] | None = None
    gap_reason: str = ""
    """Why no audio arrives at present; empty while it arrives."""
    backlog_seconds: float = 0.0
    captured_at: float = 0.0
    """Monotonic seconds of the last block."""
    analysed_at: float = 0.0
    """Monotonic seconds of the last judged window."""
    busy_since: float | None = None
    """Monotonic seconds at which the model began a window; None if it is idle."""
    reason: str = "end of file"


class Loop:
    """Passes a stream through the components.

    Parameters
    ----------
    parts : Components
    journal : Journal
    times : StreamTime
    stopped : callable
        Returns whether the session should end: no further window is scored, but all are accounted
        for.

    """

    def __init__(
        self, parts: Components, journal: Journal, times: StreamTime,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self._stopped = stopped
        self.parts, self.journal, self.times, self.rate = parts, journal, times, times.rate
        self.progress = Progress()
        self.alarms = Alarms()
        self._written: deque[ClipInProgress] = deque(maxlen=CLIPS_KEPT)
        self._hop = parts.windower.hop_samples
        self._texts = parts.decider.rule.activation == "ctc"
        self._failed = Alarm(FAILED)
        self._judged_to = self._voiced_to = 0  # by windows, by the voice activity detector
        for notice in journal.found:  # the journal already has them
            parts.screen.line(notice.text)
        for notice in parts.notices:
            self.note(notice)

    @property
    def position(self) -> int:
        """Stream time in samples, lost ones included."""
        return self.parts.windower.position

    def take(self, item: Item) -> None:
        """Take the next item of the source."""
        if isinstance(item, Notice):
            self.note(item)
        elif item is not None:
            self._block(item)

    def note(self, notice: Notice) -> None:
        """Record an event in the journal and print it."""
        self.progress.notices[notice.kind] += 1
        self.alarms.take(notice)
        self.journal.event(notice, self.position)
        self.parts.screen.line(f"{clock(self.position / self.rate)}  {notice.text}")

    def written(self) -> list[ClipInProgress]:
        """Return the clips written since the last call, for retention."""
        clips = list(self._written)
        self._written.clear()
        return clips

    def flush(self) -> None:
        """Judge the remaining audio: the stream breaks off here."""
        parts = self.parts
        parts.health.flush()
        if parts.vad is not None:
            parts.vad.flush()
            self._voices(parts.vad)
        for first, window in parts.windower.flush():
            self._window(first, window)
        parts.ledger.end(self.position)
        self._report(parts.decider.flush())
        parts.reset_model()

    def end(self) -> None:
        """End the session without waiting for anything."""
        self.flush()
        self.parts.speech.end(self.position)
        self._clips(last=True)
        self._notices()

    def _block(self, block: Block) -> None:
        parts, done = self.parts, self.progress
        if block.heard_at is not None:
            end = self.position + block.lost_samples + len(block.samples)
            self.times.observe(end, block.heard_at)
        if block.lost_samples:
            self._gap(block)
        if not len(block.samples):
            return
        done.gap_reason = ""
        done.captured += len(block.samples)
        done.captured_at = time.monotonic()
        done.backlog_seconds = block.backlog_seconds
        done.level_db = level_db(block.samples)
        for notice in parts.shedder.update(done.captured_at, block.backlog_seconds):
            self.note(notice)
        parts.windower.hop_samples = min(
            max(self._hop, parts.windower.window_samples), self._hop * parts.shedder.hop_factor
        )
        self._hear(block.samples)

    def _gap(self, block: Block) -> None:
        parts = self.parts
        self.flush()
        self.progress.gap_reason = block.reason
        begin = self.position
        parts.ledger.gap(begin, block.lost_samples, block.reason)
        parts.windower.gap(block.lost_samples)
        parts.speech.unknown(begin, self.position)
        self._judged_to = self._voiced_to = self.position
        parts.health.gap(self.position)
        parts.gate.gap(self.position)
        parts.clips.gap(self.position)
        if parts.vad is not None:
            parts.vad.gap(self.position)
        self._clips(last=False)  # audio may resume only days later
        self._notices()

    def _hear(self, samples: Samples) -> None:
        parts = self.parts
        while len(samples):
            piece, samples = np.split(samples, [min(parts.windower.due, parts.health.due)])
            first = self.position
            parts.health.push(first, piece)
            piece = parts.health.clean(piece)
            parts.clips.push(first, piece)
            parts.gate.push(first, piece)
            if parts.vad is not None:
                parts.vad.push(first, piece)
                self._voices(parts.vad)
            for start, window in parts.windower.push(piece):
                self._window(start, window)
            self._clips(last=False)
            self._notices()

    def _voices(self, vad: Vad) -> None:
        for frame in vad.fresh():
            self.parts.speech.voice(frame.first, frame.last, frame.speech_probability)
            self._voiced_to = frame.last

    def _notices(self) -> None:
        for part in (self.parts.health, self.parts.guard, self.parts.clips):
            for notice in part.notices():
                self.note(notice)

    def _window(self, first: int, window: Samples) -> None:
        """Judge one window: score it, or record why it is not scored."""
        parts, last = self.parts, min(first + len(window), self.position)
        self._judged_to = last
        self.progress.windows += 1
        kind, reason, scores = self._scores(first, last, window)
        if scores is None:
            parts.ledger.rejected(first, last, kind, reason)
            if kind == INVALID or not parts.speech.rule.vad:
                parts.speech.unknown(first, last)
            quiet = reason.startswith(GATE)  # ends an event, but is not a gap
            decider = parts.decider
            self._report(decider.skip_gated(first / self.rate) if quiet else decider.flush())
            parts.reset_model()
        else:
            parts.ledger.analysed(first, last)
            parts.speech.window(first, last, scores)
            start = first / self.rate
            found = parts.decider.step(start, (first + len(window)) / self.rate, scores)
            self.progress.scored += 1
            self.progress.top = parts.decider.top
            self._report(found)
        self.progress.analysed_at = time.monotonic()

    def _scores(self, first: int, last: int, window: Samples) -> tuple[str, str, Samples | None]:
        """Return ("", "", scores) of a window, or (kind, reason, None) if there are none to use."""
        parts = self.parts
        if bad := parts.health.invalid(first, last):
            return INVALID, bad, None
        if self._stopped():
            return DROPPED, STOPPED, None
        if parts.shedder.skip:
            return DROPPED, LOAD, None
        if not parts.gate.open(first, last):
            return DROPPED, f"{GATE}{parts.gate.settings.kind}", None
        begin = self.progress.busy_since = time.monotonic()
        try:
            scores = parts.model(first, window)
        except Exception:  # the runtimes raise their own types, which share no other base
            scores, trouble = None, NO_ANSWER
        finally:
            self.progress.busy_since = None
        parts.on_latency(time.monotonic() - begin)
        windows = self.progress.windows
        if notice := self._failed.take(scores is None, windows - 1, windows):
            self.note(notice)
        if scores is not None:
            trouble = parts.guard.check(scores, window)
        if not trouble:
            return "", "", scores
        self.progress.bad_scores += 1
        return INVALID, f"scores: {trouble}", None

    def _report(self, detections: list[Detection]) -> None:
        """Write detections to the journal, request their clips, and print them."""
        parts = self.parts
        for found in detections:
            first = round(found.start_seconds * self.rate)
            begin, end = (round(t * self.rate) for t in (found.from_seconds, found.to_seconds))
            facts = self.times.facts(first)
            name = self.journal.add(found, first, facts, round(found.end_seconds * self.rate))
            if parts.shedder.clips:
                utc = self.times.utc(begin) if self.times.wall else None
                parts.clips.want(name, found.label, begin, end, score=found.score, utc=utc)
            self.progress.detections[TEXTS if self._texts else found.label] += 1
            self.progress.last_detection = {
                "utc": self.times.utc(first).isoformat(timespec="milliseconds"),
                "label": found.label, "score": round(found.score, 4),
            }  # fmt: skip
            parts.screen.line(f"{clock(found.start_seconds)}  {found.label}  {found.score:.2f}")

    def _clips(self, *, last: bool) -> None:
        """Write the clips that are complete and for which speech is known."""
        parts = self.parts
        blocked = parts.speech.blocked if parts.speech.on else None
        if last:
            written = parts.clips.flush(blocked)
        else:
            known = min(self._judged_to, self._voiced_to) if parts.vad else self._judged_to
            margin = parts.speech.rule.margin_samples if blocked else 0
            written = parts.clips.ready(blocked, known - margin)
        for clip in written:
            self.journal.clip(clip.id, clip.path, clip.first, clip.samples, clip.bytes)
        self._written.extend(written)
