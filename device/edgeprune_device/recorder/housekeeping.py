"""The periodic work of a recorder besides processing audio, a little at every tick of its loop.

    every tick         the live line, the journal's waiting rows, the watchdog
    every 5 seconds    clock and machine, metrics, a bundle that was swapped
    every heartbeat    coverage to the journal, status file, heartbeat to the sinks
    periodically       retention, more often while something cannot be written

Each part gets the time and decides whether it is due; none takes long. For a file only the live
line and the coverage are updated: nothing in its journal depends on when it was processed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from edgeprune_device.clips.clip_files import CLIPS
from edgeprune_device.clips.disk import free_bytes
from edgeprune_device.clips.orphans import unrecorded, vanished
from edgeprune_device.clips.retention import ClipRetention
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.bundle_store import Installed
from edgeprune_device.inference.choose_variant import ChosenVariant
from edgeprune_device.monitoring.prometheus import Metrics
from edgeprune_device.monitoring.status import STARTING, STOPPED, Status, StatusFile
from edgeprune_device.recorder.components import make_components
from edgeprune_device.recorder.loop import Loop
from edgeprune_device.recorder.schedule import ListeningSchedule, local_zone
from edgeprune_device.recorder.session_plan import SessionPlan, open_bundle
from edgeprune_device.recorder.session_stats import SessionStats
from edgeprune_device.recorder.source import PAUSED
from edgeprune_device.settings import Settings
from edgeprune_device.sinks.delivery import Sinks, make_senders
from edgeprune_device.stream import Notice
from edgeprune_device.system.clock import clock_state
from edgeprune_device.system.machine import machine_state
from edgeprune_device.system.systemd_notify import Notifier, WatchdogGate

BYTES_PER_MB = 1_000_000
STATE_SECONDS = 5.0
URGENT_SECONDS = 5.0  # between tries to free disk space while something cannot be written
CLOSE_SECONDS = 1.0  # time for sinks to send what waits
WAITING_SECONDS = 60.0  # requested from systemd, repeatedly, while a start waits for a microphone


@dataclass
class PeriodicTimer:
    """A periodic task."""

    seconds: float
    at: float = field(default=-float("inf"))

    def due(self, now: float) -> bool:
        """Return whether it is due; if so, start the next period."""
        if now - self.at < self.seconds:
            return False
        self.at = now
        return True


def check_sinks(settings: Settings, out: Path) -> None:
    """Raise what ``Housekeeping`` would raise, before a journal is created that each restart would grow.

    Raises
    ------
    EdgepruneError
        The address or secret of a sink is invalid.

    """
    make_senders(settings, out, os.environ)


class Housekeeping:
    """Periodic work of one live session; a context manager that closes threads and sockets.

    Parameters
    ----------
    plan : SessionPlan
    loop : Loop
    account : SessionStats
        Statistics of the session.
    installed : Installed
        Reports a bundle that was swapped.
    retention : ClipRetention

    Raises
    ------
    EdgepruneError
        The address or secret of a sink is invalid.

    """

    def __init__(
        self,
        plan: SessionPlan,
        loop: Loop,
        account: SessionStats,
        installed: Installed,
        retention: ClipRetention,
    ) -> None:
        self.plan, self.loop, self.account = plan, loop, account
        self.installed, self.retention = installed, retention
        self.next_bundle: ChosenVariant | None = None
        """Bundle of the next session, once it was swapped and passed its checks."""
        settings = plan.settings
        self._notifier = Notifier()
        self._pulse = WatchdogGate(self._notifier.watchdog_seconds)
        self._state, self._urgent = PeriodicTimer(STATE_SECONDS), PeriodicTimer(URGENT_SECONDS)
        self._heart = PeriodicTimer(settings.operate.heartbeat_seconds)
        self._beat = PeriodicTimer((self._notifier.watchdog_seconds or 10.0) / 4)
        self._waiting = PeriodicTimer(WAITING_SECONDS / 2)
        self._ready = self._ended = False
        self._acknowledged = 0
        self._held = ExitStack()
        self._sinks = Sinks(settings, plan.out, lambda _: None)
        self._sinks.start()
        self._held.callback(self._close_sinks)
        self._metrics: Metrics | None = None
        if settings.operate.metrics_port:
            try:
                self._metrics = Metrics(settings.operate.metrics_port)
                self._held.callback(self._metrics.close)
            except EdgepruneError as error:  # only an alarm: a port is no reason to stop recording
                self._note([Notice("metrics-off", f"Metrics are off: {error}")])
        self._status_file = StatusFile(plan.out)
        self._mend_clips()
        self._schedule = ListeningSchedule(settings.schedule, local_zone())

    def __enter__(self) -> Housekeeping:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close threads and sockets."""
        self._held.close()

    def tick(self) -> None:
        """Do the tasks that are due."""
        now = time.monotonic()
        self.loop.journal.tick(now)
        if self.loop.journal.acknowledged != self._acknowledged:
            self._acknowledged = self.loop.journal.acknowledged
            self._sinks.notify()
        if self._state.due(now):
            self._look()
        if self._heart.due(now):
            self.heartbeat()
        self._tidy(now)
        self._feed(now)

    def heartbeat(self) -> None:
        """Commit the coverage, and publish the status."""
        self.loop.journal.covered(self.account.coverage())
        status = self._status()
        self._status_file.write(status)
        self._sinks.heartbeat(status.as_dict(samples=False))

    def ending(self) -> None:
        """Tell systemd that the recorder is stopping; not at a swap of bundles, which continues."""
        if self.next_bundle is None:
            self._notifier.stopping("writing the remaining data")

    def end(self) -> None:
        """Let the sinks send while the journal is open, and write the final status."""
        self._close_sinks()
        state = STOPPED if self.next_bundle is None else STARTING
        self._status_file.write(
            replace(self._status(), state=state, text=self.loop.progress.reason)
        )

    def _status(self) -> Status:
        change = self._schedule.next_change(datetime.now(UTC))
        return replace(
            self.account.status(), sinks=self._sinks.status(),
            next_change=change.isoformat(timespec="minutes") if change else "",
        )  # fmt: skip

    def _feed(self, now: float) -> None:
        """Tell systemd that the recorder is ready, alive, or still waiting for audio."""
        done, journal = self.loop.progress, self.loop.journal
        paused = done.gap_reason == PAUSED
        if not self._ready and (done.windows or paused):  # a start must not last until dawn
            self._ready = True
            self._notifier.ready(self.account.line())
        if not self._ready and self._waiting.due(now):
            self._notifier.extend(WAITING_SECONDS)
            self._notifier.status("waiting for the microphone")
        if self._ready and self._beat.due(now):
            at = (done.captured_at, done.analysed_at, journal.committed_at)
            if self._pulse.alive(now, *at, paused=paused):
                self._notifier.watchdog()
            self._notifier.status(self.account.line())

    def _look(self) -> None:
        """Check clock, machine and bundle store."""
        times = self.loop.times
        if times.wall is not None:
            seen = times.wall.observe(datetime.now(UTC), time.monotonic(), clock_state())
            self._note(seen)
        self.account.machine = machine_state()
        times.throttled = self.account.machine["throttled"]
        with suppress(OSError):
            self.account.free_disk_mb = free_bytes(self.plan.out) / BYTES_PER_MB
        self._note(self._sinks.notices())
        if place := self.installed.changed():
            self._take_over(place)
        if self._metrics is not None:
            self._metrics.status = self._status()

    def _take_over(self, place: Path) -> None:
        """Open another bundle for the next session; after an error the current one stays."""
        settings, screen = self.plan.settings, self.loop.parts.screen
        try:
            following = open_bundle(self.plan, place)
            # If the settings do not fit it, no further session could begin.
            make_components(following, settings, self.plan.out, screen, on_latency=lambda _: None)
        except EdgepruneError as error:
            self._note([Notice("bundle-refused", f"The new bundle is not used: {error}",
                               {"path": str(place), "hint": error.hint})])  # fmt: skip
            return
        self.next_bundle, new = following, following.bundle
        self._note([Notice("bundle-swapped", f"The recorder switches to the bundle {new.name}.",
                           {"path": str(place), "digest": new.digest})])  # fmt: skip

    def _tidy(self, now: float) -> None:
        """Run the retention of clips, at once if something could not be written."""
        stuck = bool(self.loop.journal.failure) or self.loop.parts.clips.waiting > 0
        urgent = stuck and self._urgent.due(now)
        wall = self.loop.times.wall
        trusted = wall is None or wall.state.synchronised is not False
        self.retention.wrote(self.loop.written())
        self._note(self.retention.step(urgent=urgent, trusted=trusted))
        for path in self.retention.deleted():
            self.loop.journal.forget_clip(path)

    def _mend_clips(self) -> None:
        """Add missing rows for clips after a crash; delete rows without a clip."""
        journal, folder = self.loop.journal, self.plan.out
        paths = journal.clip_paths()
        if paths is None or not (folder / CLIPS).is_dir():
            return
        try:
            found, gone = unrecorded(folder, paths), vanished(folder, paths)
        except OSError as error:
            text = f"The clips cannot be listed: {error.strerror or error}."
            self._note([Notice("clips-unread", text)])
            return
        for clip in found:
            journal.clip(clip.id, clip.path, clip.first, clip.samples, clip.bytes)
        for path in gone:
            journal.forget_clip(path)
        if found or gone:
            text = f"{len(found)} clips had no row, which was added; {len(gone)} rows had no clip."
            self._note([Notice("clips-mended", text, {"found": len(found), "gone": len(gone)})])

    def _note(self, notices: Iterable[Notice]) -> None:
        for notice in notices:
            self.loop.note(notice)

    def _close_sinks(self) -> None:
        if not self._ended:
            self._ended = True
            self._note(self._sinks.close(CLOSE_SECONDS))
