"""What a recorder does besides listening, a little at every tick of its loop.

    every tick         the live line, the journal's waiting rows, the watchdog
    every 5 seconds    clock and board, metrics, a bundle that was swapped
    every heartbeat    coverage to the journal, status file, heartbeat to the sinks
    every so often     retention, and every few seconds while something cannot be written

Each part is told the time and decides whether it is due; none takes long. Of a file only the live
line and the coverage are kept: nothing in its journal depends on when it was heard.
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
from edgeprune_device.inference.choose_variant import Picked
from edgeprune_device.monitoring.prometheus import Metrics
from edgeprune_device.monitoring.status import STARTING, STOPPED, Status, StatusFile
from edgeprune_device.recorder.components import make_parts
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
from edgeprune_device.system.systemd_notify import Notifier, Pulse

BYTES_PER_MB = 1_000_000
STATE_SECONDS = 5.0
URGENT_SECONDS = 5.0  # between tries to make room while something cannot be written
CLOSE_SECONDS = 1.0  # that sinks get to send what they hold
WAITING_SECONDS = 60.0  # what a start that waits for a microphone asks systemd for, time and again


@dataclass
class Every:
    """Something that is due every so often."""

    seconds: float
    at: float = field(default=-float("inf"))

    def due(self, now: float) -> bool:
        """Say whether it is due, and begin the next stretch if it is."""
        if now - self.at < self.seconds:
            return False
        self.at = now
        return True


def check_outlets(settings: Settings, out: Path) -> None:
    """Raise what ``Upkeep`` would, before a journal is begun: each try of systemd's would grow it.

    Raises
    ------
    EdgepruneError
        A sink's address or secret makes no sense.

    """
    make_senders(settings, out, os.environ)


class Upkeep:
    """Of one live session; a context that lets go of threads and sockets.

    Parameters
    ----------
    plan : Plan
    loop : Loop
    account : Account
        The session's figures.
    installed : Installed
        Tells of a bundle that was swapped.
    retention : Retention

    Raises
    ------
    EdgepruneError
        A sink's address or secret makes no sense.

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
        self.following: Picked | None = None
        """The next session's bundle, once it was swapped and found good here."""
        settings = plan.settings
        self._notifier = Notifier()
        self._pulse = Pulse(self._notifier.watchdog_seconds)
        self._state, self._urgent = Every(STATE_SECONDS), Every(URGENT_SECONDS)
        self._heart = Every(settings.operate.heartbeat_seconds)
        self._beat = Every((self._notifier.watchdog_seconds or 10.0) / 4)
        self._waiting = Every(WAITING_SECONDS / 2)
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
            except EdgepruneError as error:  # an alarm; nobody goes unheard for a port
                self._note([Notice("metrics-off", f"There are no metrics: {error}")])
        self._status_file = StatusFile(plan.out)
        self._mend_clips()
        self._schedule = ListeningSchedule(settings.schedule, local_zone())

    def __enter__(self) -> Upkeep:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of threads and sockets."""
        self._held.close()

    def tick(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        self.loop.journal.tick(now)
        if self.loop.journal.acknowledged != self._acknowledged:
            self._acknowledged = self.loop.journal.acknowledged
            self._sinks.poke()
        if self._state.due(now):
            self._look()
        if self._heart.due(now):
            self.heartbeat()
        self._tidy(now)
        self._feed(now)

    def heartbeat(self) -> None:
        """Commit the coverage, and show how things are."""
        self.loop.journal.covered(self.account.coverage())
        status = self._status()
        self._status_file.write(status)
        self._sinks.heartbeat(status.as_dict(samples=False))

    def ending(self) -> None:
        """Tell systemd that the end has begun; a swap is none, and would be killed as one."""
        if self.following is None:
            self._notifier.stopping("writing what is left")

    def end(self) -> None:
        """Let the sinks send what they can while the journal is open, and show how it ended."""
        self._close_sinks()
        state = STOPPED if self.following is None else STARTING
        self._status_file.write(replace(self._status(), state=state, text=self.loop.done.reason))

    def _status(self) -> Status:
        change = self._schedule.next_change(datetime.now(UTC))
        return replace(
            self.account.status(), sinks=self._sinks.status(),
            next_change=change.isoformat(timespec="minutes") if change else "",
        )  # fmt: skip

    def _feed(self, now: float) -> None:
        """Tell systemd what is true: that it is ready, alive, or still waiting for sound."""
        done, journal = self.loop.done, self.loop.journal
        paused = done.gap_reason == PAUSED
        if not self._ready and (done.windows or paused):  # a start does not last until dawn
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
        """Look at clock, board and store."""
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
        """Open another bundle for the next session; one that will not do leaves all as it is."""
        settings, screen = self.plan.settings, self.loop.parts.screen
        try:
            following = open_bundle(self.plan, place)
            # Do the settings fit it? Else the next session could not begin, nor any after it.
            make_parts(following, settings, self.plan.out, screen, timed=lambda _: None)
        except EdgepruneError as error:
            self._note([Notice("bundle-refused", f"The new bundle is not taken: {error}",
                               {"path": str(place), "hint": error.hint})])  # fmt: skip
            return
        self.following, new = following, following.bundle
        self._note([Notice("bundle-swapped", f"The bundle {new.name} takes over.",
                           {"path": str(place), "digest": new.digest})])  # fmt: skip

    def _tidy(self, now: float) -> None:
        """Keep the disk in order, at once where something could not be written."""
        stuck = bool(self.loop.journal.trouble) or self.loop.parts.clips.waiting > 0
        urgent = stuck and self._urgent.due(now)
        wall = self.loop.times.wall
        trusted = wall is None or wall.state.synchronised is not False
        self.retention.wrote(self.loop.written())
        self._note(self.retention.step(urgent=urgent, trusted=trusted))
        for path in self.retention.deleted():
            self.loop.journal.forget_clip(path)

    def _mend_clips(self) -> None:
        """Give clips that a crash left without a row their rows; forget rows without a clip."""
        journal, folder = self.loop.journal, self.plan.out
        paths = journal.clip_paths()
        if paths is None or not (folder / CLIPS).is_dir():
            return
        try:
            found, gone = unrecorded(folder, paths), vanished(folder, paths)
        except OSError as error:
            text = f"The clips cannot be looked through: {error.strerror or error}."
            self._note([Notice("clips-unread", text)])
            return
        for clip in found:
            journal.clip(clip.id, clip.path, clip.first, clip.samples, clip.bytes)
        for path in gone:
            journal.forget_clip(path)
        if found or gone:
            text = f"{len(found)} clips had no row and have one now; {len(gone)} rows had no clip."
            self._note([Notice("clips-mended", text, {"found": len(found), "gone": len(gone)})])

    def _note(self, notices: Iterable[Notice]) -> None:
        for notice in notices:
            self.loop.note(notice)

    def _close_sinks(self) -> None:
        if not self._ended:
            self._ended = True
            self._note(self._sinks.close(CLOSE_SECONDS))
