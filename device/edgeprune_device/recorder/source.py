"""Opens a session's audio source: the scheduled microphone, a file, or standard input."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from datetime import datetime
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgeprune_device.audio.sources import from_file, from_microphone, from_stdin
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.recorder.schedule import ListeningSchedule, local_zone
from edgeprune_device.settings import Settings
from edgeprune_device.stream import Block, Item, Notice

SourceKind = Literal["microphone", "wav", "stdin"]
LOOK_SECONDS = 1.0  # between checks of the schedule, and between the gaps of a pause
NAP_SECONDS = 0.2
PAUSED = "schedule"
"""Reason of the gap during a pause."""


def open_source(
    kind: SourceKind, settings: Settings, from_wav: Path | None, rate: int, *, wait: bool
) -> Any:
    """Return the iterator of a source's items; closing it releases the microphone.

    Parameters
    ----------
    kind : str
        ``microphone``, ``wav`` or ``stdin`` (raw 16-bit mono at the model's rate).
    settings : Settings
    from_wav : Path or None
        Sound file, if the source is one.
    rate : int
        Sample rate of the model in Hz.
    wait : bool
        Whether to wait for a microphone that is absent; otherwise that is an error.

    Raises
    ------
    EdgepruneError
        There is no such file.

    """
    if kind == "stdin":
        return from_stdin(rate)
    if kind == "wav":
        if from_wav is None or not from_wav.is_file():
            raise EdgepruneError(
                f"There is no sound file {from_wav}.",
                f"Relative paths start at {Path.cwd()}.",
            )
        return from_file(from_wav, rate)

    waits = chain([wait], repeat(True))  # after a pause, always wait for it

    def microphone() -> Any:
        return from_microphone(settings.audio, rate, wait=next(waits))

    if not settings.schedule.listen and not settings.schedule.quiet:
        return microphone()
    return scheduled(microphone, ListeningSchedule(settings.schedule, local_zone()), rate)


def scheduled(
    microphone: Callable[[], Any], schedule: ListeningSchedule, rate: int, *,
    now: Callable[[], datetime] = lambda: datetime.now().astimezone(),
    monotonic: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Item]:  # fmt: skip
    """Yield a microphone's items in its hours; in pauses, gaps of what was not captured.

    The microphone is closed in a pause, so that nobody is recorded and it uses no power. The time
    to close and open it belongs to the pause.

    Parameters
    ----------
    microphone : callable
        Opens the microphone; its result is closed at the end of each time range.
    schedule : ListeningSchedule
    rate : int
        Sample rate of the model in Hz.
    now, monotonic, sleep : callable
        Return the local time and monotonic seconds; wait for seconds.

    """
    told: float | None = None  # time up to which all is reported; None: nothing yet
    while True:
        if schedule.listening(now()):
            with closing(microphone()) as items:
                looked, opening = monotonic(), True
                for item in items:
                    if isinstance(item, Block) and item.heard_at is not None:
                        length = item.lost_samples + len(item.samples)
                        begin = item.heard_at - length / rate
                        if opening and told is not None and begin > told:
                            yield _gap(begin, round((begin - told) * rate))
                        opening, told = False, item.heard_at
                    yield item
                    if monotonic() - looked >= LOOK_SECONDS:
                        looked = monotonic()
                        if not schedule.listening(now()):
                            break
                else:
                    return
        until = schedule.next_change(now())
        when = f" until {until:%Y-%m-%d %H:%M}" if until else " and never resumes it"
        yield Notice("paused", f"The schedule pauses recording{when}.")
        told = yield from _pause(schedule, rate, told, now, monotonic, sleep)
        yield Notice("resumed", "The schedule resumes recording.")


def _pause(
    schedule: ListeningSchedule, rate: int, begin: float | None, now: Callable[[], datetime],
    monotonic: Callable[[], float], sleep: Callable[[float], None],
) -> Generator[Item, None, float]:  # fmt: skip
    """Yield a gap every second until the pause ends; return up to when all is reported."""
    begin, told = monotonic() if begin is None else begin, 0
    while True:
        listening = schedule.listening(now())
        passed = round((monotonic() - begin) * rate)
        if listening or passed - told >= LOOK_SECONDS * rate:
            yield _gap(begin + passed / rate, passed - told)
            told = passed
        else:
            yield None
        if listening:
            return begin + told / rate
        sleep(NAP_SECONDS)


def _gap(heard_at: float, lost: int) -> Block:
    return Block(np.empty(0, np.float32), lost, PAUSED, heard_at)
