"""Runs ``edgeprune doctor``: will this board record for months? It examines, records and times.

record -> bundle, timed on the recording -> disk, journal, permissions -> clock, schedule -> sinks
-> a row for each check -> text, doctor.json
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import struct
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgeprune_device.audio.devices import sound_library
from edgeprune_device.doctor import probe as probe
from edgeprune_device.doctor.checks import PROBLEM, STATES, WARNING, CheckRow, MachineFacts, judged
from edgeprune_device.doctor.probe import Failure, Opened
from edgeprune_device.doctor.sound_check import Recording, record
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.monitoring.status import judge, read_status
from edgeprune_device.recorder.schedule import ListeningSchedule, local_zone
from edgeprune_device.settings import Settings
from edgeprune_device.system.clock import clock_state
from edgeprune_device.system.files import write_whole
from edgeprune_device.system.machine import machine_facts, machine_state

SCHEMA = 1
FILE = "doctor.json"
RATE = 48_000
"""Sample rate without a bundle, Hz."""
LONGEST_SECONDS = 600.0
PLURALS = {WARNING: "warnings", PROBLEM: "problems"}


def doctor(
    bundle: Path | None, settings: Settings, journal: Path, *, seconds: float = 5.0,
    say: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    """Check a recorder before it is left alone.

    Parameters
    ----------
    bundle : Path or None
        Bundle that it will run.
    settings : Settings
    journal : Path
        Folder of its journal, which need not exist yet.
    seconds : float
        Seconds of audio to record, 0 to 600; 0: none.
    say : callable
        Prints a line of progress.

    Returns
    -------
    dict
        Content of ``doctor.json``: ``schema``, ``created``, ``rows`` (``name``, ``state``,
        ``text``, ``remedy``, ``values``), ``counts`` by state, ``fine`` (no problem), ``machine``;
        and ``text``, for people.

    Raises
    ------
    EdgepruneError
        ``seconds`` is out of range.

    """
    if not 0 <= seconds <= LONGEST_SECONDS:
        raise EdgepruneError(
            f"--seconds {seconds:g} is out of range (allowed: 0 to 600).", "Example: --seconds 5"
        )
    facts = gather(bundle, settings, journal, seconds, say)
    rows = judged(facts)
    return {
        "schema": SCHEMA, "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "edgeprune_version": _version(), "bundle": str(bundle) if bundle else None,
        "journal": str(journal), "rows": [_shown(row) for row in rows],
        "counts": counts(rows), "fine": all(row.state != PROBLEM for row in rows),
        "machine": dict(facts.machine), "text": table(rows),
    }  # fmt: skip


def gather(
    bundle: Path | None, settings: Settings, journal: Path, seconds: float,
    say: Callable[[str], None],
) -> MachineFacts:  # fmt: skip
    """Collect all facts; failures are returned, not raised."""
    rate = _rate_of(bundle, settings)
    recording: Recording | Failure | None = None
    library = _library()
    if seconds and isinstance(library, Failure):
        recording = Failure("Nothing can be recorded without the sound library.", library.hint)
    elif seconds:
        say(f"Recording {seconds:g} s ...")
        recording = _tried(lambda: record(settings.audio, rate, seconds))
    opened: Opened | Failure | None = None
    if bundle is not None:
        say("Timing the model ...")
        heard = recording.samples if isinstance(recording, Recording) else None
        opened = probe.bundle(bundle, settings, lambda _read: heard)
    say("Checking disk, clock and sinks ...")
    return MachineFacts(
        settings=settings, machine={**machine_facts(), **machine_state()},
        bits=8 * struct.calcsize("P"), library=library, recording=recording,
        running=_running(journal), bundle=opened, disk=probe.disk(journal),
        journal=probe.journal(journal), available_mb=probe.available_mb(), rights=probe.rights(),
        clock=clock_state(), zone=_zone(), schedule=schedule_said(settings, datetime.now(UTC)),
        sinks=probe.sinks(settings, os.environ),
    )  # fmt: skip


def schedule_said(settings: Settings, now: datetime) -> Failure | tuple[str, ...] | None:
    """Return sentences about a schedule at a given time; None: always on."""
    try:
        zone = local_zone()
        plan = ListeningSchedule(settings.schedule, zone)
    except EdgepruneError as error:
        return Failure(str(error), error.hint)
    if plan.always:
        return None
    on, change = plan.listening(now), plan.next_change(now)
    if change is None:
        if on:
            return ("By its schedule it records always.",)
        return Failure(
            "By its schedule it never records.", "Check schedule.listen and schedule.quiet."
        )
    state = "It records now" if on else "It is paused now"
    return (f"{state}, until {change:%Y-%m-%d %H:%M}.", *plan.notes(now.astimezone(zone).date()))


def table(rows: Sequence[CheckRow]) -> str:
    """Return the rows as text: state, name, sentence, and the remedy below it."""
    wide = max(len(row.name) for row in rows)
    lines = []
    for row in rows:
        lines.append(f"{row.state:<8} {row.name:<{wide}}  {row.text}")
        if row.remedy:
            lines.append(f"{'':<8} {'':<{wide}}  -> {row.remedy}")
    parts = [
        f"{number} {PLURALS.get(state, state) if number != 1 else state}"
        for state, number in counts(rows).items()
    ]
    return "\n".join([*lines, "", ", ".join(parts)])


def counts(rows: Sequence[CheckRow]) -> dict[str, int]:
    """Return the number of rows in each state."""
    found = Counter(row.state for row in rows)
    return {state: found[state] for state in STATES}


def write(found: dict[str, Any], folder: Path) -> Path:
    """Write ``doctor.json`` atomically and return its path.

    Raises
    ------
    EdgepruneError
        The folder cannot be written.

    """
    path = folder / FILE
    shown = {key: value for key, value in found.items() if key != "text"}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(shown, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise EdgepruneError(f"{path} cannot be written: {error.strerror}.") from None
    return path


def _shown(row: CheckRow) -> dict[str, Any]:
    values = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.values.items()
    }
    return {"name": row.name, "state": row.state, "text": row.text, "remedy": row.remedy,
            "values": values}  # fmt: skip


def _rate_of(bundle: Path | None, settings: Settings) -> int:
    """Return the bundle's sample rate; one that cannot be read is reported later."""
    if bundle is None:
        return RATE
    from edgeprune_device.bundle.reader import read_bundle
    from edgeprune_device.inference.bundle_store import resolve

    try:
        return read_bundle(resolve(bundle), settings.security).sample_rate
    except EdgepruneError:
        return RATE


def _library() -> str | Failure:
    found = _tried(sound_library)
    if isinstance(found, Failure):
        return found
    return str(found.get_portaudio_version()[1]).partition(",")[0]


def _running(journal: Path) -> bool:
    try:
        return judge(read_status(journal), time.monotonic()).fine
    except EdgepruneError:
        return False


def _zone() -> str:
    try:
        return datetime.now(local_zone()).tzname() or ""
    except EdgepruneError:
        return ""


def _tried(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except EdgepruneError as error:
        return Failure(str(error), error.hint)


def _version() -> str | None:
    try:
        return importlib.metadata.version("edgeprune")
    except importlib.metadata.PackageNotFoundError:
        return None
