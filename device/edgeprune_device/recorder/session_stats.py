"""Statistics of a session for the live line, the status file, the metrics and ``stats.json``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from edgeprune_device.journal.coverage import ANALYSED, INVALID, NOT_CAPTURED, by_hour
from edgeprune_device.monitoring.alarms import MICROPHONE
from edgeprune_device.monitoring.latency import LatencyTrack
from edgeprune_device.monitoring.status import Status, nested, overall
from edgeprune_device.monitoring.terminal import clock
from edgeprune_device.recorder.loop import Loop
from edgeprune_device.recorder.source import PAUSED

BEGINNING = datetime(1, 1, 1)
"""Hours of a file are counted from its first sample."""


@dataclass(frozen=True)
class Identity:
    """Facts that identify a session."""

    bundle: str
    digest: str
    source: str
    journal: str
    started: datetime
    live: bool
    hop_seconds: float
    window_seconds: float
    heartbeat_seconds: float


class SessionStats:
    """Collects the statistics of one session.

    Parameters
    ----------
    loop : Loop
    latencies : LatencyTrack
        Latencies of the model.
    identity : Identity
    source : object
        Source; its ``drift_samples`` is reported if it has it.

    """

    def __init__(
        self, loop: Loop, latencies: LatencyTrack, identity: Identity, source: Any
    ) -> None:
        self.loop, self.latencies, self.identity, self.source = loop, latencies, identity, source
        self.machine: Mapping[str, Any] = {}
        """Last result of ``machine_state``."""
        self.free_disk_mb: float | None = None

    def coverage(self) -> Iterator[tuple[str, str, str, int]]:
        """Yield the coverage settled since the last call: hour, kind, reason and samples."""
        spans = self.loop.parts.ledger.drain()
        for hour, kind, reason, samples in by_hour(spans, self._time_of, self.loop.rate):
            yield self._hour(hour), kind, reason, samples

    def line(self) -> str:
        """Return a status line: time, level, best label, latency, audio not analysed."""
        loop, done = self.loop, self.loop.progress
        label, score = done.top
        latency = self.latencies.last_ms or 0.0
        missing = loop.parts.ledger.position - loop.parts.ledger.totals[ANALYSED, ""]
        share = latency / 1000 / self.identity.hop_seconds
        return (
            f"{clock(loop.position / loop.rate)}  {done.level_db:6.1f} dBFS  {label} {score:.2f}  "
            f"{latency:.1f} ms  x{share:.3f} of real time  {missing / loop.rate:.1f} s not analysed"
        )

    def status(self, now: float | None = None) -> Status:
        """Return the current status; the caller adds the sinks."""
        loop, done, journal = self.loop, self.loop.progress, self.loop.journal
        alarms = dict(loop.alarms.active)
        if journal.failure:
            alarms["journal"] = journal.failure
        paused = done.gap_reason == PAUSED
        lost = any(kind in alarms for kind in MICROPHONE)
        identity, wall = self.identity, loop.times.wall
        return Status(
            state=overall(paused=paused, lost=lost, alarms=alarms),
            text=next(iter(alarms.values()), ""), bundle=identity.bundle, digest=identity.digest,
            source=identity.source, started_utc=identity.started.isoformat(),
            written_utc=datetime.now(UTC).isoformat(timespec="seconds"),
            heartbeat_seconds=identity.heartbeat_seconds, rate=loop.rate,
            coverage=nested(loop.parts.ledger.totals), windows=done.windows,
            detections=dict(done.detections), last_detection=done.last_detection, alarms=alarms,
            alarms_total=dict(loop.alarms.raised), reconnects=done.notices["microphone-back"],
            level_db=round(done.level_db, 1) if math.isfinite(done.level_db) else None,
            backlog_seconds=round(done.backlog_seconds, 2),
            load_level=loop.parts.shedder.level, load=loop.parts.shedder.name,
            last_window_at=done.analysed_at or None, latency=self._latency(),
            latency_buckets=tuple(self.latencies.buckets()),
            latency_sum_seconds=self.latencies.seconds, journal_pending=journal.pending,
            machine=self.machine, free_disk_mb=self.free_disk_mb,
            clock=asdict(wall.state) if wall else {},
        )  # fmt: skip

    def stats(self, ended: datetime) -> dict[str, Any]:
        """Return the content of ``stats.json``; every number of samples is exact."""
        loop, done, identity = self.loop, self.loop.progress, self.identity
        totals, rate = loop.parts.ledger.totals, loop.rate
        seconds = {"analysed": ANALYSED, "invalid": INVALID, "lost": NOT_CAPTURED}
        latency = self._latency()
        return {
            "bundle": identity.bundle, "digest": identity.digest, "source": identity.source,
            "journal": identity.journal, "started_utc": identity.started.isoformat(),
            "ended_utc": ended.isoformat(), "reason": done.reason, "sample_rate": rate,
            "position_samples": loop.position, "coverage": nested(totals),
            "captured_seconds": done.captured / rate,
            **{f"{name}_seconds": sum(n for (kind, _), n in totals.items() if kind == held) / rate
               for name, held in seconds.items()},
            "drift_samples": getattr(self.source, "drift_samples", None),
            "windows": done.windows, "scored": done.scored, "bad_scores": done.bad_scores,
            "hop_seconds": identity.hop_seconds,
            "detections": dict(sorted(done.detections.items())),
            "alarms": dict(loop.alarms.active),
            "notices": dict(sorted(done.notices.items())),
            "clips": dict(loop.parts.clips.counts), "journal_lost": loop.journal.lost,
            "latency": latency, "slowest_ms": self.latencies.slowest_ms,
            "real_time_factor": self.latencies.seconds / max(1, self.latencies.windows)
            / identity.hop_seconds,
        }  # fmt: skip

    def _latency(self) -> dict[str, Any]:
        return self.latencies.summary(self.identity.hop_seconds, self.identity.window_seconds)

    def _time_of(self, sample: int) -> datetime:
        if self.identity.live:
            return self.loop.times.utc(sample)
        return BEGINNING + timedelta(seconds=sample / self.loop.rate)

    def _hour(self, text: str) -> str:
        """Return the name of an hour: UTC, or for a file the number of the hour."""
        if self.identity.live:
            return text.removesuffix("+00:00")
        return str(round((datetime.fromisoformat(text) - BEGINNING).total_seconds() / 3600))
