"""Judges the facts found by doctor: one row for each thing that may go wrong in the field.

    ok        as it should be            problem   the recorder will not work, or not for long
    warning   it works, but may fail     unknown   the system does not report it; never counts as ok

``CHECKS`` at the end lists them in the order in which they are shown.
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
HOT_C, WARM_C = 80.0, 70.0  # from 80 C the firmware throttles a Raspberry Pi
MEMORY_MB, TIGHT_MB = 80.0, 250.0
HEADROOM = 0.7  # of the hop
NOW = 0xF  # the current flags; those since boot are 16 bits higher


@dataclass(frozen=True)
class CheckRow:
    """Outcome of one check."""

    state: str
    """One of ``STATES``."""
    text: str
    """One sentence."""
    remedy: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Measured values."""
    name: str = ""
    """Name of the check in ``CHECKS``."""


@dataclass(frozen=True)
class MachineFacts:
    """Facts found by the probes; None if not requested, or not reported."""

    settings: Settings = field(default_factory=Settings)
    machine: Mapping[str, Any] = field(default_factory=dict)
    """``machine.machine_facts`` and ``machine.machine_state`` combined."""
    bits: int = 64
    library: str | Failure = ""
    """PortAudio's version."""
    recording: Recording | Failure | None = None
    running: bool = False
    """Whether a recorder is writing this journal now."""
    bundle: Opened | Failure | None = None
    disk: Mapping[str, Any] = field(default_factory=dict)
    journal: Mapping[str, Any] | None = None
    available_mb: float | None = None
    rights: Mapping[str, Any] = field(default_factory=dict)
    clock: ClockState = UNKNOWN_CLOCK
    zone: str = ""
    """Name of the local time zone, such as ``CEST``."""
    schedule: Failure | tuple[str, ...] | None = None
    """Sentences about the schedule; None: always on."""
    sinks: Mapping[str, str] = field(default_factory=dict)
    """Name -> problem, or empty."""


Check = Callable[[MachineFacts], CheckRow]


def library(facts: MachineFacts) -> CheckRow:
    """Judge whether PortAudio is installed."""
    if isinstance(facts.library, Failure):
        return CheckRow(PROBLEM, facts.library.text, facts.library.hint)
    return CheckRow(OK, f"{facts.library} is installed.")


def microphone(facts: MachineFacts) -> CheckRow:
    """Judge whether the microphone is present and delivers audio without gaps."""
    heard = facts.recording
    if heard is None:
        return CheckRow(UNKNOWN, "Nothing was recorded, because of --seconds 0.")
    if isinstance(heard, Failure):
        hint = "A recorder is running and may be using it: stop it first, or see edgeprune status."
        return CheckRow(PROBLEM, heard.text, hint if facts.running else heard.hint)
    text = f"{heard.device} delivered {heard.seconds:.1f} s of audio at {heard.rate} Hz"
    if heard.lost:
        why = ", ".join(heard.reasons)
        return CheckRow(WARNING, f"{text}, but {heard.lost / heard.model_rate:.2f} s are missing "
                        f"({why}).", "Is the board busy, or the cable loose?",
                        {"lost_samples": heard.lost})  # fmt: skip
    return CheckRow(OK, f"{text}, without gaps.", values={"device": heard.device})


def rate(facts: MachineFacts) -> CheckRow:
    """Judge whether samples arrive at the nominal rate."""
    heard = facts.recording
    if not isinstance(heard, Recording):
        return CheckRow(UNKNOWN, "Nothing was recorded.")
    if heard.clock_ratio is None:
        return CheckRow(UNKNOWN, f"{heard.seconds:.1f} s of audio are too short to compare it with "
                        "the clock.", "Record for longer: --seconds 10.")  # fmt: skip
    off = round(heard.clock_ratio - 1, 3) + 0.0  # no -0.0
    values = {"ratio": heard.clock_ratio}
    text = f"By the clock, the sample rate deviates by {100 * off:+.1f} % from {heard.rate} Hz"
    if abs(off) > RATE_OFF + JITTER_SECONDS / max(1.0, heard.seconds - 1):
        return CheckRow(PROBLEM, f"{text}: pitch and time of everything will be wrong.",
                        "Choose the device itself (edgeprune devices), not a sound server.",
                        values)  # fmt: skip
    return CheckRow(OK, f"{text}, which is within the accuracy of this measurement.", values=values)


def level(facts: MachineFacts) -> CheckRow:
    """Judge the audio: a dead microphone, clipping, level."""
    heard = facts.recording
    if not isinstance(heard, Recording):
        return CheckRow(UNKNOWN, "Nothing was recorded.")
    found = heard.described()
    text = f"{found['level_db']:.0f} dBFS, peaks {found['peak_db']:.0f} dBFS"
    for kind, check in FAULTS.items():  # hard faults come first
        if kind in found["faults"]:
            state = PROBLEM if check.hard else WARNING
            return CheckRow(state, f"The microphone delivers {check.text} ({text}).",
                            "Check gain and mute in alsamixer, then the cable.", found)  # fmt: skip
    if found["level_db"] < QUIET_DB:
        return CheckRow(WARNING, f"It is very quiet: {text}.",
                        "Clap beside it and try again, or raise the gain.", found)  # fmt: skip
    if found["peak_db"] > LOUD_DB:
        return CheckRow(WARNING, f"It is close to clipping: {text}.", "Lower the gain.", found)
    return CheckRow(OK, f"The level is {text}.", values=found)


def rights(facts: MachineFacts) -> CheckRow:
    """Judge whether this user may open the sound devices."""
    found = facts.rights
    if not found.get("devices"):
        return CheckRow(UNKNOWN, "There is no sound card under /dev/snd.")
    if found["closed"]:
        return CheckRow(PROBLEM, f"{found['closed'][0]} cannot be opened by this user.",
                        "sudo usermod -aG audio $USER, then log in again.")  # fmt: skip
    if found["root"]:
        return CheckRow(WARNING, "doctor runs as root, who may open everything; a recorder need not.",
                        "Run doctor as the user who will record.")  # fmt: skip
    return CheckRow(OK, "The sound devices can be opened.")


def python(facts: MachineFacts) -> CheckRow:
    """Judge Python, its bits and the runtimes."""
    machine = facts.machine
    runtimes = {k: v for k, v in machine.get("runtimes", {}).items() if v}
    text = ", ".join(
        [f"Python {machine.get('python')}", *(f"{k} {v}" for k, v in runtimes.items())]
    )
    if facts.bits != 64:
        return CheckRow(PROBLEM, f"This Python has {facts.bits} bits; the runtimes need 64.",
                        "Install the 64-bit Raspberry Pi OS.")  # fmt: skip
    if not {"onnxruntime", "ai-edge-litert"} & runtimes.keys():
        return CheckRow(PROBLEM, f"No runtime is installed ({text}).", "pip install edgeprune")
    return CheckRow(OK, f"{text}, 64 bits, {machine.get('model') or 'board unknown'}.")


def opened(facts: MachineFacts) -> CheckRow:
    """Judge whether the bundle is complete, trusted, and has the scores of where it was created."""
    found = facts.bundle
    if found is None:
        return CheckRow(UNKNOWN, "No bundle was named.", "edgeprune doctor BUNDLE")
    if isinstance(found, Failure):
        return CheckRow(PROBLEM, found.text, found.hint)
    signed = found.bundle.signed_by
    trust = f"signed by {signed}" if signed else "not signed by a trusted key"
    return CheckRow(OK, f"{found.bundle.name} is complete, has its golden scores (within "
                    f"{found.golden_difference:.1g}), and is {trust}.",
                    values={"digest": found.bundle.digest, "signed_by": signed,
                            "golden_difference": found.golden_difference})  # fmt: skip


def speed(facts: MachineFacts) -> CheckRow:
    """Judge whether the model keeps up on this board."""
    found = facts.bundle
    if not isinstance(found, Opened):
        return CheckRow(UNKNOWN, "No bundle was timed.")
    late, hop = found.latency["p99_ms"], 1000 * found.latency["hop_seconds"]
    text = f"A window takes {late:.1f} ms (p99 of {found.latency['n']}), one is due every " \
           f"{hop:.0f} ms"  # fmt: skip
    values = {key: value for key, value in found.latency.items() if key != "samples_ms"}
    if late >= hop:
        return CheckRow(PROBLEM, f"{text}: this board does not keep up.",
                        "Set a longer decide.hop_seconds, or compress the model further.",
                        values)  # fmt: skip
    if late >= HEADROOM * hop:
        return CheckRow(WARNING, f"{text}: there is little headroom for a hot day.",
                        "Measure for longer with edgeprune bench.", values)  # fmt: skip
    return CheckRow(OK, f"{text}.", values=values)


def disk(facts: MachineFacts) -> CheckRow:
    """Judge whether the journal's disk can be written fast enough, and has free space."""
    found = facts.disk
    if found.get("error"):
        return CheckRow(PROBLEM, found["error"], "Name a folder that you can write with -o.", found)
    free, sync = found.get("free_mb"), found.get("fsync_ms")
    if free is None or sync is None:
        return CheckRow(UNKNOWN, "No journal folder was checked.")
    text = f"{free:,.0f} MB are free in {found['folder']}, and a write takes {sync:.1f} ms"
    if free < LEAST_MB or sync > DEAD_SYNC_MS:
        remedy = "Free disk space." if free < LEAST_MB else "Replace the SD card."
        return CheckRow(PROBLEM, f"{text}.", remedy, found)
    if free < facts.settings.retention.free_megabytes:
        return CheckRow(WARNING, f"{text}; retention keeps "
                        f"{facts.settings.retention.free_megabytes:,.0f} MB free and will delete clips.",
                        "Free disk space, or lower retention.free_megabytes.", found)  # fmt: skip
    if sync > SLOW_SYNC_MS:
        return CheckRow(WARNING, f"{text}, which is slow.",
                        "A high-endurance SD card or an SSD writes faster.", found)  # fmt: skip
    return CheckRow(OK, f"{text}.", values=found)


def journal(facts: MachineFacts) -> CheckRow:
    """Judge whether the database of an existing journal is intact."""
    found = facts.journal
    if found is None:
        return CheckRow(OK, "There is no journal yet; it will be created.")
    if found["ok"] is None:
        return CheckRow(UNKNOWN, f"SQLite could not check it: {found['said']}.", values=found)
    if not found["ok"]:
        return CheckRow(PROBLEM, f"SQLite finds it damaged: {found['said']}.",
                        "Make a copy; the recorder will rename it and create a new one.",
                        found)  # fmt: skip
    return CheckRow(OK, f"It is intact and has {found['detections']:,} detections.", values=found)


def clock(facts: MachineFacts) -> CheckRow:
    """Judge whether the time of day can be trusted."""
    found = facts.clock
    values = vars(found)
    if found.source == "calendar":
        return CheckRow(PROBLEM, "The clock shows a time before 2025.",
                        "sudo timedatectl set-ntp true, or fit a battery-backed clock.",
                        values)  # fmt: skip
    if found.synchronised is None:
        return CheckRow(UNKNOWN, "It is unknown whether the clock is synchronised.")
    if not found.synchronised:
        return CheckRow(WARNING, "The clock is not synchronised; detections will record that.",
                        "sudo timedatectl set-ntp true; offline, fit a battery-backed clock.",
                        values)  # fmt: skip
    bound = found.offset_bound_seconds
    within = "" if bound is None else f" within {bound:.2g} s"
    return CheckRow(OK, f"It is synchronised{within} ({found.source}).", values=values)


def schedule(facts: MachineFacts) -> CheckRow:
    """Judge whether the schedule is valid at the recorder's location."""
    found = facts.schedule
    if found is None:
        return CheckRow(OK, f"It records always; local time is {facts.zone or 'unknown'}.")
    if isinstance(found, Failure):
        return CheckRow(PROBLEM, found.text, found.hint)
    utc = facts.zone == "UTC"
    text = " ".join([*found, f"Local time is {facts.zone}."])
    if utc:
        return CheckRow(
            WARNING, text, "Is UTC intended? sudo timedatectl set-timezone Europe/Berlin"
        )
    return CheckRow(OK, text)


def governor(facts: MachineFacts) -> CheckRow:
    """Judge whether the processor may run fast."""
    found = facts.machine.get("governors")
    if not found:
        return CheckRow(UNKNOWN, "This system does not report its frequency governor.")
    text = f"The frequency governor is {', '.join(found)}."
    if "powersave" in found:
        return CheckRow(WARNING, text, "sudo cpupower frequency-set -g ondemand")
    return CheckRow(OK, text)


def heat(facts: MachineFacts) -> CheckRow:
    """Judge whether the board is hot."""
    degrees = facts.machine.get("temperature_c")
    if degrees is None:
        return CheckRow(UNKNOWN, "This system does not report its temperature.")
    values = {"temperature_c": degrees}
    if degrees >= HOT_C:
        return CheckRow(PROBLEM, f"{degrees:.0f} C: the board throttles from {HOT_C:.0f} C.",
                        "Fit a heat sink, and shade the box.", values)  # fmt: skip
    if degrees >= WARM_C:
        return CheckRow(WARNING, f"{degrees:.0f} C; the board throttles from {HOT_C:.0f} C.",
                        "Fit a heat sink, and shade the box.", values)  # fmt: skip
    return CheckRow(OK, f"{degrees:.0f} C.", values=values)


def power(facts: MachineFacts) -> CheckRow:
    """Judge whether the board has enough voltage."""
    flags = facts.machine.get("throttled")
    if flags is None:
        return CheckRow(UNKNOWN, "This board does not report get_throttled (not a Raspberry Pi?).")
    values = {"throttled": flags}
    if not flags:
        return CheckRow(OK, "No under-voltage or throttling since boot.", values=values)
    said = ", ".join(throttle_reasons(flags)) or "unknown flags"
    state = PROBLEM if flags & NOW else WARNING
    return CheckRow(state, f"The board reports {said} ({flags:#x}).",
                    "Use the official power supply and a short, thick cable.", values)  # fmt: skip


def memory(facts: MachineFacts) -> CheckRow:
    """Judge whether there is enough free memory."""
    free = facts.available_mb
    if free is None:
        return CheckRow(UNKNOWN, "This system does not report its free memory.")
    values = {"available_mb": free}
    if free < TIGHT_MB:
        return CheckRow(PROBLEM if free < MEMORY_MB else WARNING, f"{free:,.0f} MB are free.",
                        "Stop other programs, a desktop first.", values)  # fmt: skip
    return CheckRow(OK, f"{free:,.0f} MB are free.", values=values)


def sinks(facts: MachineFacts) -> CheckRow:
    """Judge whether the sinks can be reached."""
    if not facts.sinks:
        return CheckRow(OK, "Detections stay in the journal: the settings name no sink.")
    wrong = {sink: text for sink, text in facts.sinks.items() if text}
    if wrong:
        said = " ".join(f"{sink}: {text}" for sink, text in wrong.items())
        return CheckRow(PROBLEM, said, "Correct it; until then detections wait in the journal.")
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
    """Return the row of every check."""
    return [replace(check(facts), name=name) for name, check in CHECKS]
