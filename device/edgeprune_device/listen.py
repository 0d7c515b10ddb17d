"""The recorder loop: sound in, windows, scores, decisions, journal; until it is told to stop.

A file takes the same path as the microphone, as fast as it can, and gives the same journal each
time. Ctrl-C and SIGTERM end the loop after the window at hand; everything is written by then.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.bundle import Bundle, read_bundle
from edgeprune_device.capture import from_file, from_microphone, from_stdin
from edgeprune_device.decide import Decider, Detection, rule_of
from edgeprune_device.errors import FAILED_CHECK, EdgepruneError
from edgeprune_device.journal import Journal
from edgeprune_device.pick import STORE, pick
from edgeprune_device.runtime import Scorer
from edgeprune_device.screen import Counts, Say, Screen, clock, level_db
from edgeprune_device.settings import Audio
from edgeprune_device.sound import file_digest
from edgeprune_device.stream import Block, Item, Notice
from edgeprune_device.windows import Windower

STALL_SECONDS = 10.0
TEXTS = "transcripts"  # what they are counted as
LATENCIES_KEPT = 100_000  # a listener may run for months: the oldest make room
Source = Literal["microphone", "wav", "stdin"]


def listen(
    bundle: Path, out: Path, *, source: Source, device: str | None = None,
    from_wav: Path | None = None, hop_seconds: float | None = None, threshold: float | None = None,
    threads: int = 1, seconds: float | None = None, say: Say,
) -> dict[str, Any]:  # fmt: skip
    """Listen until the source ends, the time is up, or Ctrl-C.

    Parameters
    ----------
    bundle, out : Path
        What listens, and the journal's folder.
    source : str
        ``microphone``, ``wav`` or ``stdin`` (raw 16-bit mono at the bundle's rate).
    device : str or None
        Input of the microphone: a number, a name or a part of one.
    from_wav : Path or None
        The file, where the source is one.
    hop_seconds, threshold : float or None
        In place of the bundle's.
    threads : int
        Of the runtime.
    seconds : float or None
        Stop after so much sound.
    say : callable
        Gets a line for every detection.

    Returns
    -------
    dict
        What ``stats.json`` holds.

    Raises
    ------
    EdgepruneError
        Bad input; a bundle that cannot be trusted or answers differently here; a microphone that
        falls silent (status 1).

    """
    _check(hop_seconds, threshold, seconds)
    picked = pick(read_bundle(bundle), threads, out / STORE)
    read = picked.bundle
    if picked.sentence:
        say(picked.sentence)
    rate = read.sample_rate
    hop = round(hop_seconds * rate) if hop_seconds else read.hop_samples
    if hop_seconds and hop < 1:
        raise EdgepruneError(f"--hop {hop_seconds:g} is less than a sample at {rate} Hz.")
    name = {"microphone": f"microphone {device or 'default'}", "stdin": "stdin",
            "wav": from_wav.name if from_wav else ""}[source]  # fmt: skip
    blocks = _blocks(source, device, from_wav, rate)
    loop = _Loop(read, picked.run, hop, threshold, Screen(say, hop / rate))
    began = _now()
    with ExitStack() as stack:
        stack.enter_context(closing(blocks))
        stopped = stack.enter_context(stopping())
        stream = watched(blocks, STALL_SECONDS if source == "microphone" else math.inf)
        # Nothing is written before there is sound: a source that cannot be heard leaves no journal.
        first = next((block for block in stream if block is not None or stopped.is_set()), None)
        journal = stack.enter_context(
            Journal(out, read.name, read.digest, name, live=source != "wav", clock=_now,
                    source_digest=file_digest(from_wav) if from_wav else "")
        )  # fmt: skip
        loop.journal = journal
        picked.remember(out / STORE)
        try:
            loop.go(chain([first], stream), stopped, seconds)
        except EdgepruneError as error:
            loop.counts.reason = f"error: {error}"
            raise
        finally:
            stats = {
                "bundle": read.name, "digest": read.digest, "source": name,
                "journal": str(out), "golden_difference": picked.golden_difference,
                "started_utc": began.isoformat(), "ended_utc": _now().isoformat(), **loop.stats(),
                **({"variant": picked.facts} if picked.facts else {}),
            }  # fmt: skip
            journal.close(stats)
    return stats


class _Loop:
    """Carries blocks through windows, model and decision into the journal."""

    journal: Journal

    def __init__(
        self, bundle: Bundle, run: Scorer, hop: int, threshold: float | None, screen: Screen
    ) -> None:
        self.rate, self.run, self.hop, self.screen = bundle.sample_rate, run, hop, screen
        self.texts = bundle.activation == "ctc"
        self.windower = Windower(bundle.window_samples, hop)
        self.decider = Decider(rule_of(bundle, threshold))
        self.counts = Counts()
        self.heard_to = self.analysed = 0  # samples: end of the last window, and in any window
        self.total_ms = self.slowest_ms = 0.0

    def go(
        self, blocks: Iterator[Block | None], stopped: threading.Event, seconds: float | None
    ) -> None:
        """Run until the source ends or something ends it."""
        try:
            for block in blocks:
                if block is not None:
                    self.take(block)
                self.screen.show(self.counts, self.rate)
                if stopped.is_set():
                    self.counts.reason = "interrupted"
                    break
                if seconds is not None and self.windower.position >= seconds * self.rate:
                    self.counts.reason = "time is up"
                    break
            else:
                for first, window in self.windower.flush():
                    self.score(first, window)
        finally:  # a microphone that dies in the middle of an event does not take it along
            self.screen.end()
            self.report(self.decider.flush())

    def take(self, block: Block) -> None:
        """Take one block: a gap before it, then its samples."""
        if block.lost_samples:
            self.counts.lost += block.lost_samples
            self.windower.gap(block.lost_samples)
            self.report(self.decider.flush())
        self.counts.captured += len(block.samples)
        self.counts.level_db = level_db(block.samples)
        for first, window in self.windower.push(block.samples):
            self.score(first, window)

    def score(self, first: int, window: NDArray[np.float32]) -> None:
        """Score one window and decide."""
        begin = time.perf_counter()
        scores = self.run(window)
        self._timed(1000 * (time.perf_counter() - begin))
        end = min(first + len(window), self.windower.position)  # a short stream is padded
        self.analysed += end - max(first, self.heard_to)
        self.heard_to = end
        start = first / self.rate
        found = self.decider.step(start, start + len(window) / self.rate, scores)
        self.counts.top = self.decider.top
        self.report(found)

    def report(self, detections: list[Detection]) -> None:
        """Journal detections and say them."""
        for detection in detections:
            self.journal.add(detection, round(detection.start_seconds * self.rate))
            label = detection.label
            counted = TEXTS if self.texts else label  # every text is another
            self.counts.detections[counted] = self.counts.detections.get(counted, 0) + 1
            self.screen.line(f"{clock(detection.start_seconds)}  {label}  {detection.score:.2f}")

    def _timed(self, latency_ms: float) -> None:
        recent = self.counts.latencies_ms
        if len(recent) >= LATENCIES_KEPT:
            del recent[: LATENCIES_KEPT // 2]
        recent.append(latency_ms)
        self.counts.windows += 1
        self.total_ms += latency_ms
        self.slowest_ms = max(self.slowest_ms, latency_ms)

    def stats(self) -> dict[str, Any]:
        """Return the session's figures; the percentiles are those of the last windows."""
        counts, latencies = self.counts, np.array(self.counts.latencies_ms or [0.0])
        p50, p90, p99 = np.percentile(latencies, [50, 90, 99])
        return {
            "reason": counts.reason, "captured_seconds": counts.captured / self.rate,
            "analysed_seconds": self.analysed / self.rate,
            "lost_seconds": counts.lost / self.rate, "windows": counts.windows,
            "hop_seconds": self.hop / self.rate, "detections": dict(sorted(counts.detections.items())),
            "latency_ms": {"p50": p50, "p90": p90, "p99": p99, "max": self.slowest_ms},
            "real_time_factor": self.total_ms / max(1, counts.windows) / 1000 / (self.hop / self.rate),
        }  # fmt: skip


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """Turn SIGINT and SIGTERM into an event while this is open (in the main thread)."""
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _blocks(source: Source, device: str | None, from_wav: Path | None, rate: int) -> Any:
    if source == "microphone":
        return from_microphone(Audio(device=device or ""), rate)
    if source == "stdin":
        return from_stdin(rate)
    if from_wav is None or not from_wav.is_file():
        raise EdgepruneError(f"There is no sound file {from_wav}.")
    return from_file(from_wav, rate)


def watched(blocks: Iterator[Item], patience_seconds: float) -> Iterator[Block | None]:
    """Pass blocks on; raise when no sound has come for too long."""
    last = time.monotonic()
    for item in blocks:
        block = None if isinstance(item, Notice) else item
        if block is not None and len(block.samples):
            last = time.monotonic()
        elif time.monotonic() - last > patience_seconds:
            raise EdgepruneError(
                f"Nothing has come from the microphone for {patience_seconds:g} s.",
                "Is it plugged in? edgeprune devices lists the inputs.", FAILED_CHECK,
            )  # fmt: skip
        yield block


def _now() -> datetime:
    return datetime.now(UTC)


def _check(hop: float | None, threshold: float | None, seconds: float | None) -> None:
    for name, value in (("--hop", hop), ("--seconds", seconds)):
        if value is not None and not 0 < value < math.inf:
            raise EdgepruneError(f"{name} {value:g} makes no sense.", "It is a time over 0.")
    if threshold is not None and not 0 < threshold <= 1:
        raise EdgepruneError(f"--threshold {threshold:g} lies outside 0 to 1.")
