"""Doctor's judgements: one row for each thing that goes wrong in the field, from facts alone.

    ok        as it should be          problem   the recorder will not work, or not for long
    warning   it works, and may fail   unknown   this system does not tell; never taken as ok

``CHECKS`` at the end has them in the order in which they are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from edgeprune_device.doctor.probe import Failure, Opened
from edgeprune_device.doctor.sound_check import Recording
from edgeprune_device.monitoring.signal_health import CHECKS as FAULTS
from edgeprune_device.settings import Settings
from edgeprune_device.system.clock import UNKNOWN_CLOCK, ClockState
from edgeprune_device.system.machine import throttle_reasons

OK, WARNING, PROBLEM, UNKNOWN = STATES = ("ok", "warning", "problem", "unknown")
RATE_OFF, JITTER_SECONDS = 0.02, 0.1
QUIET_DB, LOUD_DB = -75.0, -0.5
LEAST_MB, SLOW_SYNC_MS, DEAD_SYNC_MS = 50.0, 100.0, 2000.0
HOT_C, WARM_C = 80.0, 70.0  # from 80 the firmware slows a Raspberry Pi down
MEMORY_MB, TIGHT_MB = 80.0, 250.0
HEADROOM = 0.7  # of the hop
NOW = 0xF  # the flags of the moment; those since boot are 16 bits higher


@dataclass(frozen=True)
class CheckRow:
    """One check's outcome."""

    state: str
    """One of ``STATES``."""
    text: str
    """One sentence."""
    remedy: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    """The figures behind it."""
    name: str = ""
    """Of the check, in ``CHECKS``."""


@dataclass(frozen=True)
class MachineFacts:
    """What was found out; None is what nobody asked for, or nothing tells."""

    settings: Settings = field(default_factory=Settings)
    machine: Mapping[str, Any] = field(default_factory=dict)
    """``machine.machine_facts`` and ``machine.machine_state`` together."""
    bits: int = 64
    library: str | Failure = ""
    """PortAudio's version."""
    recording: Recording | Failure | None = None
    running: bool = False
    """A recorder writes this journal now."""
    bundle: Opened | Failure | None = None
    disk: Mapping[str, Any] = field(default_factory=dict)
    journal: Mapping[str, Any] | None = None
    available_mb: float | None = None
    rights: Mapping[str, Any] = field(default_factory=dict)
    clock: ClockState = UNKNOWN_CLOCK
    zone: str = ""
    """The local time zone's name, such as ``CEST``."""
    schedule: Failure | tuple[str, ...] | None = None
    """Sentences; None: it listens always."""
    sinks: Mapping[str, str] = field(default_factory=dict)
    """Name to what is wrong with it, or nothing."""


Check = Callable[[MachineFacts], CheckRow]


def library(facts: MachineFacts) -> CheckRow:
    """Judge whether PortAudio is installed."""
    if isinstance(facts.library, Failure):
        return CheckRow(PROBLEM, facts.library.text, facts.library.hint)
    return CheckRow(OK, f"{facts.library} is installed.")


def microphone(facts: MachineFacts) -> CheckRow:
    """Judge whether it is there and gives sound without a gap."""
    heard = facts.recording
    if heard is None:
        return CheckRow(UNKNOWN, "Nothing was recorded, as --seconds 0 asks.")
    if isinstance(heard, Failure):
        hint = "A recorder is running and may hold it: stop it first, or ask edgeprune status."
        return CheckRow(PROBLEM, heard.text, hint if facts.running else heard.hint)
    text = f"{heard.device} gave {heard.seconds:.1f} s of sound at {heard.rate} Hz"
    if heard.lost:
        why = ", ".join(heard.reasons)
        return CheckRow(WARNING, f"{text}, and {heard.lost / heard.model_rate:.2f} s are missing "
                        f"({why}).", "Is the board busy, or the cable loose?",
                        {"lost_samples": heard.lost})  # fmt: skip
    return CheckRow(OK, f"{text}, without a gap.", values={"device": heard.device})


def rate(facts: MachineFacts) -> CheckRow:
    """Judge whether samples come as fast as the rate says."""
    heard = facts.recording
    if not isinstance(heard, Recording):
        return CheckRow(UNKNOWN, "Nothing was recorded.")
    if heard.clock_ratio is None:
        return CheckRow(UNKNOWN, f"{heard.seconds:.1f} s of sound are too few to compare it with "
                        "the clock.", "Record for longer: --seconds 10.")  # fmt: skip
    off = round(heard.clock_ratio - 1, 3) + 0.0  # no -0.0
    values = {"ratio": heard.clock_ratio}
    text = f"By the clock the samples come at {100 * off:+.1f} % of {heard.rate} Hz"
    if abs(off) > RATE_OFF + JITTER_SECONDS / max(1.0, heard.seconds - 1):
        return CheckRow(PROBLEM, f"{text}: pitch and time of everything will be wrong.",
                        "Choose the device itself (edgeprune devices), not a plug or server.",
                        values)  # fmt: skip
    return CheckRow(OK, f"{text}, which is within what so short a time can tell.", values=values)


def level(facts: MachineFacts) -> CheckRow:
    """Judge the sound: a dead microphone, clipping, level."""
    heard = facts.recording
    if not isinstance(heard, Recording):
        return CheckRow(UNKNOWN, "Nothing was recorded.")
    found = heard.described()
    text = f"{found['level_db']:.0f} dB of full scale, peaks {found['peak_db']:.0f} dB"
    for kind, check in FAULTS.items():  # the hard ones come first
        if kind in found["faults"]:
            state = PROBLEM if check.hard else WARNING
            return CheckRow(state, f"The microphone gives {check.text} ({text}).",
                            "alsamixer sets gain and mute; then try another cable.", found)  # fmt: skip
    if found["level_db"] < QUIET_DB:
        return CheckRow(WARNING, f"It is very quiet: {text}.",
                        "Clap beside it and try again; raise the gain.", found)  # fmt: skip
    if found["peak_db"] > LOUD_DB:
        return CheckRow(WARNING, f"It is close to clipping: {text}.", "Lower the gain.", found)
    return CheckRow(OK, f"The level is {text}.", values=found)


def rights(facts: MachineFacts) -> CheckRow:
    """Judge whether this user may open the sound devices."""
    found = facts.rights
    if not found.get("devices"):
        return CheckRow(UNKNOWN, "There is no sound card under /dev/snd to ask for.")
    if found["closed"]:
        return CheckRow(PROBLEM, f"{found['closed'][0]} may not be opened.",
                        "sudo usermod -aG audio $USER, then log in again.")  # fmt: skip
    if found["root"]:
        return CheckRow(WARNING, "This is root, who may do everything; a recorder need not be.",
                        "Run doctor as the user who will record.")  # fmt: skip
    return CheckRow(OK, "The sound devices may be opened.")


def python(facts: MachineFacts) -> CheckRow:
    """Judge Python, its bits and the runtimes."""
    machine = facts.machine
    runtimes = {k: v for k, v in machine.get("runtimes", {}).items() if v}
    text = ", ".join(
        [f"Python {machine.get('python')}", *(f"{k} {v}" for k, v in runtimes.items())]
    )
    if facts.bits != 64:
        return CheckRow(PROBLEM, f"This Python has {facts.bits} bits; no runtime does.",
                        "Install the 64-bit Raspberry Pi OS.")  # fmt: skip
    if not {"onnxruntime", "ai-edge-litert"} & runtimes.keys():
        return CheckRow(PROBLEM, f"No runtime is installed ({text}).", "pip install edgeprune")
    return CheckRow(OK, f"{text}, 64 bits, {machine.get('model') or 'board unknown'}.")


def opened(facts: MachineFacts) -> CheckRow:
    """Judge whether the bundle is whole, trusted, and answers as where it was made."""
    found = facts.bundle
    if found is None:
        return CheckRow(UNKNOWN, "No bundle was named.", "edgeprune doctor BUNDLE")
    if isinstance(found, Failure):
        return CheckRow(PROBLEM, found.text, found.hint)
    signed = found.bundle.signed_by
    trust = f"signed by {signed}" if signed else "not signed by a key that is trusted here"
    return CheckRow(OK, f"{found.bundle.name} is whole, answers as where it was made (to "
                    f"{found.golden_difference:.1g}), and is {trust}.",
                    values={"digest": found.bundle.digest, "signed_by": signed,
                            "golden_difference": found.golden_difference})  # fmt: skip


def speed(facts: MachineFacts) -> CheckRow:
    """Judge whether the board keeps up."""
    found = facts.bundle
    if not isinstance(found, Opened):
        return CheckRow(UNKNOWN, "There was no bundle to time.")
    late, hop = found.latency["p99_ms"], 1000 * found.latency["hop_seconds"]
    text = f"A window takes {late:.1f} ms (p99 of {found.latency['n']}), a new one is due each " \
           f"{hop:.0f} ms"  # fmt: skip
    values = {key: value for key, value in found.latency.items() if key != "samples_ms"}
    if late >= hop:
        return CheckRow(PROBLEM, f"{text}: this board does not keep up.",
                        "Set a longer decide.hop_seconds, or compress the model further.",
                        values)  # fmt: skip
    if late >= HEADROOM * hop:
        return CheckRow(WARNING, f"{text}: there is little left for a hot day.",
                        "edgeprune bench measures it for longer.", values)  # fmt: skip
    return CheckRow(OK, f"{text}.", values=values)


def disk(facts: MachineFacts) -> CheckRow:
    """Judge whether the journal's disk can be written, in time, and has room."""
    found = facts.disk
    if found.get("error"):
        return CheckRow(PROBLEM, found["error"], "Name a folder of yours with -o.", found)
    free, sync = found.get("free_mb"), found.get("fsync_ms")
    if free is None or sync is None:
        return CheckRow(UNKNOWN, "No journal folder was looked at.")
    text = f"{free:,.0f} MB are free in {found['folder']}, and a write is safe after {sync:.1f} ms"
    if free < LEAST_MB or sync > DEAD_SYNC_MS:
        remedy = "Make room." if free < LEAST_MB else "Replace the card."
        return CheckRow(PROBLEM, f"{text}.", remedy, found)
    if free < facts.settings.retention.free_megabytes:
        return CheckRow(WARNING, f"{text}; retention keeps "
                        f"{facts.settings.retention.free_megabytes:,.0f} MB free and will delete clips.",
                        "Make room, or lower retention.free_megabytes.", found)  # fmt: skip
    if sync > SLOW_SYNC_MS:
        return CheckRow(WARNING, f"{text}, which is slow.",
                        "A high-endurance card or an SSD writes faster.", found)  # fmt: skip
    return CheckRow(OK, f"{text}.", values=found)


def journal(facts: MachineFacts) -> CheckRow:
    """Judge whether an existing journal's database is whole."""
    found = facts.journal
    if found is None:
        return CheckRow(OK, "There is none yet; one will be made.")
    if found["ok"] is None:
        return CheckRow(UNKNOWN, f"SQLite could not check it: {found['said']}.", values=found)
    if not found["ok"]:
        return CheckRow(PROBLEM, f"SQLite finds it damaged: {found['said']}.",
                        "Copy it away; the recorder will set it aside and begin a new one.",
                        found)  # fmt: skip
    return CheckRow(OK, f"It is whole and holds {found['detections']:,} detections.", values=found)


def clock(facts: MachineFacts) -> CheckRow:
    """Judge whether the time of day can be trusted."""
    found = facts.clock
    values = vars(found)
    if found.source == "calendar":
        return CheckRow(PROBLEM, "The clock shows a time before 2025.",
                        "sudo timedatectl set-ntp true, or fit a battery-backed clock.",
                        values)  # fmt: skip
    if found.synchronised is None:
        return CheckRow(UNKNOWN, "Nothing here tells whether the clock is synchronised.")
    if not found.synchronised:
        return CheckRow(WARNING, "The clock is not synchronised: detections will say so.",
                        "sudo timedatectl set-ntp true; offline, fit a battery-backed clock.",
                        values)  # fmt: skip
    bound = found.offset_bound_seconds
    within = "" if bound is None else f", to {bound:.2g} s"
    return CheckRow(OK, f"It is synchronised{within} ({found.source}).", values=values)


def schedule(facts: MachineFacts) -> CheckRow:
    """Judge whether the hours make sense where the recorder stands."""
    found = facts.schedule
    if found is None:
        return CheckRow(OK, f"It listens always; local time is {facts.zone or 'unknown'}.")
    if isinstance(found, Failure):
        return CheckRow(PROBLEM, found.text, found.hint)
    utc = facts.zone == "UTC"
    text = " ".join([*found, f"Local time is {facts.zone}."])
    if utc:
        return CheckRow(WARNING, text, "Is it meant? sudo timedatectl set-timezone Europe/Berlin")
    return CheckRow(OK, text)


def governor(facts: MachineFacts) -> CheckRow:
    """Judge whether the processor may run fast."""
    found = facts.machine.get("governors")
    if not found:
        return CheckRow(UNKNOWN, "This system does not tell its frequency governor.")
    text = f"The frequency governor is {', '.join(found)}."
    if "powersave" in found:
        return CheckRow(WARNING, text, "sudo cpupower frequency-set -g ondemand")
    return CheckRow(OK, text)


def heat(facts: MachineFacts) -> CheckRow:
    """Judge whether the board is hot."""
    degrees = facts.machine.get("temperature_c")
    if degrees is None:
        return CheckRow(UNKNOWN, "This system does not tell its temperature.")
    values = {"temperature_c": degrees}
    if degrees >= HOT_C:
        return CheckRow(PROBLEM, f"{degrees:.0f} C: the board slows down from {HOT_C:.0f} C.",
                        "Fit a heat sink, and shade the box.", values)  # fmt: skip
    if degrees >= WARM_C:
        return CheckRow(WARNING, f"{degrees:.0f} C; it slows down from {HOT_C:.0f} C.",
                        "Fit a heat sink, and shade the box.", values)  # fmt: skip
    return CheckRow(OK, f"{degrees:.0f} C.", values=values)


def power(facts: MachineFacts) -> CheckRow:
    """Judge whether the board has enough voltage."""
    flags = facts.machine.get("throttled")
    if flags is None:
        return CheckRow(UNKNOWN, "This board does not tell get_throttled (no Raspberry Pi?).")
    values = {"throttled": flags}
    if not flags:
        return CheckRow(OK, "Neither under-voltage nor throttling since boot.", values=values)
    said = ", ".join(throttle_reasons(flags)) or "unknown flags"
    state = PROBLEM if flags & NOW else WARNING
    return CheckRow(state, f"The board reports {said} ({flags:#x}).",
                    "Use the official supply and a short, thick cable.", values)  # fmt: skip


def memory(facts: MachineFacts) -> CheckRow:
    """Judge whether there is memory left."""
    free = facts.available_mb
    if free is None:
        return CheckRow(UNKNOWN, "This system does not tell its free memory.")
    values = {"available_mb": free}
    if free < TIGHT_MB:
        return CheckRow(PROBLEM if free < MEMORY_MB else WARNING, f"{free:,.0f} MB are left.",
                        "Stop other programs, a desktop first.", values)  # fmt: skip
    return CheckRow(OK, f"{free:,.0f} MB are left.", values=values)


def sinks(facts: MachineFacts) -> CheckRow:
    """Judge whether the places that detections go to can be reached."""
    if not facts.sinks:
        return CheckRow(OK, "Detections stay in the journal: the settings name no sink.")
    wrong = {sink: text for sink, text in facts.sinks.items() if text}
    if wrong:
        said = " ".join(f"{sink}: {text}" for sink, text in wrong.items())
        return CheckRow(PROBLEM, said, "Put it right; meanwhile detections wait in the journal.")
    return CheckRow(OK, f"{', '.join(facts.sinks)} can be reached; nothing was sent.")


CHECKS: tuple[tuple[str, Check], ...] = (
    ("sound library", library),
    ("microphone", microphone),
    ("sampling rate", rate),
    ("sound", level),
    ("permissions", rights),
    ("system", python),
    ("bundle", opened),
    ("speed", speed),
    ("disk", disk),
    ("journal", journal),
    ("clock", clock),
    ("schedule", schedule),
    ("governor", governor),
    ("temperature", heat),
    ("power", power),
    ("memory", memory),
    ("sinks", sinks),
)


def judged(facts: MachineFacts) -> list[CheckRow]:
    """Return every check's row."""
    return [replace(check(facts), name=name) for name, check in CHECKS]
