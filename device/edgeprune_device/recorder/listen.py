"""The recorder: audio to windows, scores, decisions and journal, until it is stopped.

    listen -> a session (one bundle, one source, one session of the journal)
           -> another one, when the bundle was swapped for a new one that passes its checks

A file is processed as a microphone is, as fast as possible, and gives the same journal each time.
Ctrl-C and SIGTERM end a session after the current window; everything is written by then.
"""

from __future__ import annotations

import fcntl
import math
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Any

from edgeprune_device.audio.microphone import Microphone
from edgeprune_device.audio.sound_files import file_digest
from edgeprune_device.clips.retention import ClipRetention, make_room
from edgeprune_device.errors import FAILED_CHECK, EdgepruneError
from edgeprune_device.inference.bundle_store import Installed
from edgeprune_device.inference.choose_variant import STORE, ChosenVariant
from edgeprune_device.journal.journal import Journal
from edgeprune_device.journal.stream_time import StreamTime
from edgeprune_device.monitoring.latency import LatencyTrack
from edgeprune_device.monitoring.terminal import Say, TerminalOutput
from edgeprune_device.recorder.components import make_components
from edgeprune_device.recorder.housekeeping import Housekeeping, check_sinks
from edgeprune_device.recorder.loop import Loop
from edgeprune_device.recorder.schedule import ListeningSchedule, local_zone
from edgeprune_device.recorder.session_plan import SessionPlan, open_bundle
from edgeprune_device.recorder.session_stats import Identity, SessionStats
from edgeprune_device.recorder.source import SourceKind, open_source
from edgeprune_device.settings import Schedule, Settings
from edgeprune_device.settings_reader import read_settings
from edgeprune_device.stream import Item
from edgeprune_device.system.clock import WallClock, clock_state
from edgeprune_device.system.model_watchdog import watch_for_hang

INTERRUPTED, OVER, SWAPPED = "interrupted", "time is up", "bundle swapped"


def listen(
    bundle: str | Path, out: str | Path = "journal", settings: Settings | str | Path | None = None, *,
    source: SourceKind | None = None, from_wav: str | Path | None = None,
    seconds: float | None = None, wait: bool = False, say: Say = print,
) -> dict[str, Any]:  # fmt: skip
    """Record and detect until the source ends, the time is up, or Ctrl-C.

    Parameters
    ----------
    bundle, out : str or Path
        Bundle to run (or a store's ``current``), and folder of the journal.
    settings : Settings, str or Path, optional
        Settings of the recorder, or their TOML file; default: the defaults.
    source : str, optional
        ``microphone``, ``wav`` or ``stdin`` (raw 16-bit mono at the bundle's rate); by default the
        microphone, or ``wav`` if ``from_wav`` is given.
    from_wav : str or Path, optional
        Sound file, if the source is one.
    seconds : float or None
        Stop after this much audio.
    wait : bool
        Whether to wait for a microphone that is absent at the start.
    say : callable
        Prints a line for every detection and every event.

    Returns
    -------
    dict
        Content of ``stats.json`` of the last session.

    Raises
    ------
    EdgepruneError
        Bad input; a bundle that cannot be trusted or has different scores on this machine; a
        microphone that is absent at the start; invalid scores (status 1, after everything is
        written).

    """
    if seconds is not None and not 0 < seconds < math.inf:
        raise EdgepruneError(f"--seconds {seconds:g} is out of range (allowed: over 0).")
    bundle, out = Path(bundle), Path(out)
    from_wav = None if from_wav is None else Path(from_wav)
    source = source or ("microphone" if from_wav is None else "wav")
    if isinstance(settings, str | Path):
        settings = read_settings(Path(settings))
    plan = SessionPlan(bundle, out, settings or Settings(), source, from_wav, seconds, wait, say)
    if source != "microphone" and plan.settings.schedule != Schedule():
        ListeningSchedule(plan.settings.schedule, local_zone())  # a wrong one is an error here, too
        say("[schedule] has no effect: it is for a microphone only.")
    installed = Installed(bundle)
    if plan.live:
        check_sinks(plan.settings, out)
    picked: ChosenVariant | None = open_bundle(plan, installed.folder)
    rate = 0
    with stop_on_signals() as stopped, lock_journal(plan), ExitStack() as opened:
        while picked is not None:
            if rate != picked.bundle.sample_rate:  # otherwise no audio is lost at a swap
                opened.close()
                rate = picked.bundle.sample_rate
                items = open_source(plan.source, plan.settings, from_wav, rate, wait=wait)
                opened.enter_context(closing(items))
            stats, picked = _session(plan, picked, installed, stopped, items)
    # A file must be right from end to end; a recorder may have recovered months ago.
    stands = any(kind.startswith("scores-") for kind in stats["alarms"])
    if stats["bad_scores"] and (stands or source != "microphone"):
        raise EdgepruneError(
            f"The model returned no valid scores for {stats['bad_scores']} of {stats['windows']} "
            "windows; they count as invalid, not as analysed.",
            "Check the bundle with edgeprune verify.",
            FAILED_CHECK,
        )
    return stats


def _session(
    plan: SessionPlan,
    picked: ChosenVariant,
    installed: Installed,
    stopped: threading.Event,
    source: Any,
) -> tuple[dict[str, Any], ChosenVariant | None]:
    """Run one session; return its statistics, and the next session's bundle if there is one."""
    read, began, settings = picked.bundle, _now(), plan.settings
    rate = read.sample_rate
    latencies = LatencyTrack()
    parts = make_components(
        picked, settings, plan.out, TerminalOutput(plan.say, watched="NOTIFY_SOCKET" in os.environ),
        on_latency=lambda seconds: latencies.add(1000 * seconds),
    )  # fmt: skip
    with ExitStack() as stack:
        # Nothing is written before the first audio or notice: a source that cannot be opened
        # leaves no journal.
        first = next((item for item in source if item is not None or stopped.is_set()), None)
        if plan.live:
            make_room(settings.retention, plan.out)
        journal = stack.enter_context(Journal(
            plan.out, read.name, read.digest, plan.name, live=plan.live, clock=_now,
            source_digest=file_digest(plan.from_wav) if plan.from_wav else "",
            spool_rows=settings.operate.spool_rows, rate=rate, started=began,
        ))  # fmt: skip
        _remember(picked, plan)
        wall = WallClock(_now(), time.monotonic(), clock_state()) if plan.live else None
        loop = Loop(parts, journal, StreamTime(rate, began, wall), stopped.is_set)
        account = SessionStats(loop, latencies, Identity(
            read.name, read.digest, plan.name, str(plan.out), began, plan.live,
            parts.windower.hop_samples / rate, read.window_samples / rate,
            settings.operate.heartbeat_seconds,
        ), source)  # fmt: skip
        housekeeping = None
        if plan.live:
            retention = ClipRetention(settings.retention, plan.out)
            housekeeping = stack.enter_context(
                Housekeeping(plan, loop, account, installed, retention)
            )
            stack.callback(watch_for_hang(lambda: loop.progress.busy_since,
                                          settings.operate.hang_seconds))  # fmt: skip
        try:
            _go(loop, chain([first], source), account, housekeeping, stopped, plan.seconds)
        except EdgepruneError as error:
            loop.progress.reason = f"error: {error}"
            raise
        finally:
            if housekeeping is not None:
                housekeeping.ending()
            # With a next bundle, the next session reads on.
            over = housekeeping is None or housekeeping.next_bundle is None
            if isinstance(source, Microphone) and over:
                loop.take(source.rest())
            loop.end()
            journal.covered(account.coverage())
            if housekeeping is not None:
                housekeeping.end()
            stats = account.stats(_now()) | {"golden_difference": picked.golden_difference}
            stats |= {"variant": picked.facts} if picked.facts else {}
            parts.screen.end()
            journal.close(stats)
    return stats, housekeeping.next_bundle if housekeeping is not None else None


def _remember(picked: ChosenVariant, plan: SessionPlan) -> None:
    """Store the chosen variant; a live recorder tolerates a failure and chooses again next time."""
    try:
        picked.remember(plan.out / STORE)
    except EdgepruneError as error:
        if not plan.live:
            raise
        plan.say(str(error))


def _go(
    loop: Loop, items: Iterable[Item], account: SessionStats, housekeeping: Housekeeping | None,
    stopped: threading.Event, seconds: float | None,
) -> None:  # fmt: skip
    """Run until the source ends or the session is stopped."""
    for item in items:
        loop.take(item)
        loop.parts.screen.show(account.line)
        if housekeeping is not None:
            housekeeping.tick()
        if stopped.is_set():
            loop.progress.reason = INTERRUPTED
            if housekeeping is not None:
                housekeeping.next_bundle = None  # no session follows
        elif housekeeping is not None and housekeeping.next_bundle is not None:
            loop.progress.reason = SWAPPED
        elif seconds is not None and loop.position >= seconds * loop.rate:
            loop.progress.reason = OVER
        else:
            continue
        return


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Turn SIGINT and SIGTERM into an event while the context is open (in the main thread)."""
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


@contextmanager
def lock_journal(plan: SessionPlan) -> Iterator[None]:
    """Lock the journal's folder: two live recorders would delete each other's clips.

    A folder that does not exist yet is locked from the next start on. Files may be processed into
    a locked folder.

    Raises
    ------
    EdgepruneError
        Another recorder uses the folder.

    """
    if not plan.live or not plan.out.is_dir():
        yield
        return
    folder = os.open(plan.out, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EdgepruneError(
                f"Another recorder writes to {plan.out}.",
                "Name another folder with -o; edgeprune status shows what the other recorder does.",
            ) from None
        yield
    finally:
        os.close(folder)


def _now() -> datetime:
    return datetime.now(UTC)
