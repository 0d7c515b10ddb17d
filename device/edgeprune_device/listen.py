"""The recorder: sound in, windows, scores, decisions, journal; until it is told to stop.

    listen -> a session (one bundle, one source, one entry of the journal)
           -> another one, when the bundle was swapped for a new one that answers rightly here

A file takes the same path as the microphone, as fast as it can, and gives the same journal each
time. Ctrl-C and SIGTERM end a session after the window at hand; everything is written by then.
"""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Any

from edgeprune_device.bundle import read_bundle
from edgeprune_device.errors import FAILED_CHECK, EdgepruneError
from edgeprune_device.hang import watch_for_hang
from edgeprune_device.installed import resolve
from edgeprune_device.journal import Journal
from edgeprune_device.latency import Latencies
from edgeprune_device.loop import Loop
from edgeprune_device.parts import make_parts
from edgeprune_device.pick import STORE, Picked, pick
from edgeprune_device.screen import Say, Screen
from edgeprune_device.settings import Settings
from edgeprune_device.signature import check_signature
from edgeprune_device.sound import file_digest
from edgeprune_device.source import SourceKind, open_source
from edgeprune_device.stream import Item
from edgeprune_device.upkeep import SWAPPED, Upkeep

INTERRUPTED, OVER = "interrupted", "time is up"


@dataclass(frozen=True)
class Plan:
    """What a listener was asked for; the same for each of its sessions."""

    bundle: Path
    out: Path
    settings: Settings
    source: SourceKind
    from_wav: Path | None
    seconds: float | None
    wait: bool
    say: Say

    @property
    def name(self) -> str:
        """What is listened to, for the journal."""
        if self.source == "wav":
            return self.from_wav.name if self.from_wav else ""
        if self.source == "stdin":
            return "stdin"
        return f"microphone {self.settings.audio.device or 'default'}"


def listen(
    bundle: Path, out: Path, settings: Settings | None = None, *, source: SourceKind,
    from_wav: Path | None = None, seconds: float | None = None, wait: bool = False, say: Say,
) -> dict[str, Any]:  # fmt: skip
    """Listen until the source ends, the time is up, or Ctrl-C.

    Parameters
    ----------
    bundle, out : Path
        What listens (or a store's ``current``), and the journal's folder.
    settings : Settings or None
        A recorder's; None: the defaults.
    source : str
        ``microphone``, ``wav`` or ``stdin`` (raw 16-bit mono at the bundle's rate).
    from_wav : Path or None
        The file, where the source is one.
    seconds : float or None
        Stop after so much sound.
    wait : bool
        Wait for a microphone that is not there at the start.
    say : callable
        Gets a line for every detection and everything that happens.

    Returns
    -------
    dict
        What ``stats.json`` holds, of the last session.

    Raises
    ------
    EdgepruneError
        Bad input; a bundle that cannot be trusted or answers differently here; a microphone that
        is not there at the start; scores that were none (status 1, once everything is written).

    """
    if seconds is not None and not 0 < seconds < math.inf:
        raise EdgepruneError(f"--seconds {seconds:g} makes no sense.", "It is a time over 0.")
    plan = Plan(bundle, out, settings or Settings(), source, from_wav, seconds, wait, say)
    picked: Picked | None = open_bundle(plan)
    with stopping() as stopped:
        while picked is not None:
            stats, picked = _session(plan, picked, stopped)
    if stats["bad_scores"]:
        raise EdgepruneError(
            f"The model gave no usable scores for {stats['bad_scores']} of {stats['windows']} "
            "windows; they count as invalid, not as heard.",
            "Check the bundle with edgeprune verify.",
            FAILED_CHECK,
        )
    return stats


def open_bundle(plan: Plan) -> Picked:
    """Read, check and open a bundle.

    Raises
    ------
    EdgepruneError
        It cannot be trusted, or answers differently here.

    """
    place, security = resolve(plan.bundle), plan.settings.security
    read = read_bundle(place)
    check_signature(place, security)
    picked = pick(read, plan.settings.operate.threads, plan.out / STORE)
    if picked.sentence:
        plan.say(picked.sentence)
    return picked


def _session(
    plan: Plan, picked: Picked, stopped: threading.Event
) -> tuple[dict[str, Any], Picked | None]:
    """Listen with one bundle; return its figures, and the next session's bundle if there is one."""
    read, began = picked.bundle, _now()
    latencies = Latencies()
    parts = make_parts(picked, plan, Screen(plan.say))
    with ExitStack() as stack:
        items = stack.enter_context(closing(
            open_source(plan.source, plan.settings, plan.from_wav, read.sample_rate, wait=plan.wait)
        ))  # fmt: skip
        # Nothing is written before there is sound, or news of it: a source that cannot be heard
        # leaves no journal.
        first = next((item for item in items if item is not None or stopped.is_set()), None)
        journal = stack.enter_context(Journal(
            plan.out, read.name, read.digest, plan.name, live=plan.source != "wav", clock=_now,
            source_digest=file_digest(plan.from_wav) if plan.from_wav else "",
            spool_rows=plan.settings.operate.spool_rows, rate=read.sample_rate,
        ))  # fmt: skip
        picked.remember(plan.out / STORE)
        loop = Loop(parts, journal, read.sample_rate, began)
        upkeep = stack.enter_context(Upkeep(plan, loop, items, latencies))
        stack.callback(
            watch_for_hang(lambda: loop.done.busy_since, plan.settings.operate.hang_seconds)
        )
        try:
            _go(loop, chain([first], items), upkeep, stopped, plan.seconds)
        except EdgepruneError as error:
            loop.done.reason = f"error: {error}"
            raise
        finally:
            loop.end()
            upkeep.end()
            stats = {
                "bundle": read.name, "digest": read.digest, "source": plan.name,
                "journal": str(plan.out), "golden_difference": picked.golden_difference,
                "started_utc": began.isoformat(), "ended_utc": _now().isoformat(),
                **upkeep.figures(),
                **({"variant": picked.facts} if picked.facts else {}),
            }  # fmt: skip
            journal.close(stats)
    return stats, upkeep.following


def _go(
    loop: Loop, items: Iterator[Item], upkeep: Upkeep, stopped: threading.Event,
    seconds: float | None,
) -> None:  # fmt: skip
    """Run until the source ends or something ends it."""
    for item in items:
        loop.take(item)
        upkeep.tick()
        if stopped.is_set():
            loop.done.reason = INTERRUPTED
        elif upkeep.following is not None:
            loop.done.reason = SWAPPED
        elif seconds is not None and loop.position >= seconds * loop.rate:
            loop.done.reason = OVER
        else:
            continue
        return


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


def _now() -> datetime:
    return datetime.now(UTC)
