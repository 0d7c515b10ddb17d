"""Writes and reads ``status.json``, the current state of a running recorder.

It is written to ``$RUNTIME_DIRECTORY`` (systemd's, in memory) with a link to it in the journal's
folder, or else to that folder itself; always atomically. A reader can tell whether the recorder is
still running: by its process id, start time and boot id, and by the monotonic clock, so that
neither a clock jump nor another process with the same id misleads.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgeprune_device.errors import EdgepruneError
from edgeprune_device.system.files import write_whole, written_whole

STATUS = "status.json"
SCHEMA = 1
LISTENING, PAUSED, LOST, DEGRADED, STARTING, STOPPED = STATES = (
    "listening", "paused", "lost", "degraded", "starting", "stopped",
)  # fmt: skip
FINE = (LISTENING, PAUSED, STARTING)
STALE_HEARTBEATS = 3
ROOT = Path("/")


@dataclass(frozen=True)
class Status:
    """State of a recorder; None means unknown."""

    state: str
    """One of ``STATES``."""
    text: str = ""
    """One sentence: the reason of this state."""
    bundle: str = ""
    digest: str = ""
    source: str = ""
    started_utc: str = ""
    written_utc: str = ""
    heartbeat_seconds: float = 60.0
    """Time between two updates."""
    rate: int = 0
    """Sample rate of ``coverage`` in Hz."""
    coverage: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Samples of the session by kind, then by reason of coverage."""
    windows: int = 0
    detections: Mapping[str, int] = field(default_factory=dict)
    """Number of detections by label."""
    last_detection: Mapping[str, Any] | None = None
    """With ``utc``, ``label``, ``score``."""
    alarms: Mapping[str, str] = field(default_factory=dict)
    """Active alarms: kind -> sentence."""
    alarms_total: Mapping[str, int] = field(default_factory=dict)
    """Number of times each was raised."""
    reconnects: int = 0
    level_db: float | None = None
    """Level of the last block in dBFS; None if unknown or only zeros, as JSON has no infinity."""
    backlog_seconds: float = 0.0
    load_level: int = 0
    load: str = "normal"
    """Current load reduction (``load_shedding.LoadLevel.name``)."""
    last_window_at: float | None = None
    """Monotonic seconds of the last window."""
    latency: Mapping[str, Any] = field(default_factory=dict)
    """``latency.LatencyTrack.summary``, with the fields of bench.json."""
    latency_buckets: tuple[tuple[float, int], ...] = ()
    latency_sum_seconds: float = 0.0
    sinks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Name -> fields of ``delivery.DeliveryStats``, such as ``sent``, ``waiting``, ``last_error``."""
    journal_pending: int = 0
    """Number of detections that wait to be written to disk."""
    machine: Mapping[str, Any] = field(default_factory=dict)
    """As ``machine.machine_state``."""
    free_disk_mb: float | None = None
    """Free disk space in 1e6 bytes."""
    clock: Mapping[str, Any] = field(default_factory=dict)
    """With ``synchronised``, ``source``, ``offset_bound_seconds``."""
    next_change: str = ""
    """Time of the next change of the schedule."""

    def as_dict(self, samples: bool = True) -> dict[str, Any]:
        """Return it for JSON, without the buckets, which are for Prometheus only.

        Without ``samples`` the single latencies are left out as well: a heartbeat over a slow
        connection does not need them.
        """
        shown = asdict(self)
        del shown["latency_buckets"], shown["latency_sum_seconds"]
        if not samples:
            shown["latency"].pop("samples_ms", None)
        return {"schema": SCHEMA, **shown}


def nested(totals: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    """Return the coverage totals by kind, then by reason."""
    found: dict[str, dict[str, int]] = {}
    for (kind, reason), samples in sorted(totals.items()):
        found.setdefault(kind, {})[reason] = samples
    return found


def overall(*, paused: bool, lost: bool, alarms: Mapping[str, str]) -> str:
    """Return the state of a running recorder: the worst that applies."""
    if lost:
        return LOST
    if alarms:
        return DEGRADED
    return PAUSED if paused else LISTENING


class StatusFile:
    """Writes ``status.json``.

    Parameters
    ----------
    folder : Path
        Folder of the journal.
    environ : mapping or None
        With ``RUNTIME_DIRECTORY``; None: the environment of this process.
    root : Path
        Root folder of ``/proc``.

    """

    def __init__(
        self, folder: Path, environ: Mapping[str, str] | None = None, root: Path = ROOT
    ) -> None:
        runtime = (os.environ if environ is None else environ).get("RUNTIME_DIRECTORY", "")
        self._process = process_facts(os.getpid(), root)
        self.path = folder / STATUS
        if runtime and _linked(self.path, there := Path(runtime.split(":")[0]) / STATUS):
            self.path = there

    def write(self, status: Status, monotonic: float | None = None) -> str:
        """Write it; return an error as a sentence, or empty: the recorder continues anyway."""
        now = time.monotonic() if monotonic is None else monotonic
        text = json.dumps(status.as_dict() | self._process | {"written_monotonic": now}, indent=1)
        try:
            write_whole(self.path, text + "\n")
        except OSError as error:
            return f"{self.path} cannot be written: {error.strerror}."
        return ""


def read_status(folder: Path) -> dict[str, Any]:
    """Read the status of a journal's recorder.

    Raises
    ------
    EdgepruneError
        There is no status, or it cannot be read.

    """
    path = folder / STATUS
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if path.is_symlink():
            raise EdgepruneError(
                f"The recorder of {folder} has not run since the machine was booted.",
                "systemctl status edgeprune", 1,
            ) from None  # fmt: skip
        raise EdgepruneError(
            f"There is no {STATUS} in {folder}.",
            "Only a recorder that listens live writes one. For the journal of a file: edgeprune "
            f"coverage {folder}",
        ) from None
    except (OSError, ValueError) as error:
        raise EdgepruneError(f"{path} cannot be read: {error}.") from None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise EdgepruneError(f"{path} is not a status of this version of edgeprune.")
    return found


@dataclass(frozen=True)
class Verdict:
    """Judgement of a status from outside the recorder."""

    state: str
    """One of ``STATES``, or ``dead`` or ``stale``."""
    text: str
    age_seconds: float | None
    """Age of the status; None if it is from another boot."""

    @property
    def fine(self) -> bool:
        """Whether the recorder works as it should."""
        return self.state in FINE


def judge(status: Mapping[str, Any], monotonic: float, root: Path = ROOT) -> Verdict:
    """Judge whether a recorder is still running and healthy.

    Parameters
    ----------
    status : mapping
        As from ``read_status``.
    monotonic : float
        Current monotonic time in seconds.
    root : Path
        Root folder of ``/proc``.

    """
    now = process_facts(int(status["pid"]), root)
    same_boot = now["boot"] == status["boot"]
    age = monotonic - float(status["written_monotonic"]) if same_boot else None
    if status["state"] == STOPPED:
        return Verdict(STOPPED, status["text"] or "It was stopped.", age)
    if not same_boot or now["process_started"] != status["process_started"]:
        return Verdict("dead", "The recorder's process has ended without stopping properly.", age)
    limit = STALE_HEARTBEATS * float(status["heartbeat_seconds"])
    if age is not None and age > limit:
        return Verdict(
            "stale",
            f"The recorder has not updated its status for {age:.0f} s; it hangs or is frozen.",
            age,
        )
    return Verdict(str(status["state"]), str(status["text"]), age)


def process_facts(number: int, root: Path = ROOT) -> dict[str, Any]:
    """Return what identifies a process: process id, start time (clock ticks) and boot id."""
    try:
        line = (root / f"proc/{number}/stat").read_text("utf-8", "replace")
        # proc(5): field 22; the name, field 2, may itself contain spaces and brackets
        fields = line.rpartition(")")[2].split()
        started: int | None = None if fields[0] in "ZX" else int(fields[19])
    except (OSError, ValueError, IndexError):
        started = None
    try:
        boot: str | None = (root / "proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        boot = None
    return {"pid": number, "process_started": started, "boot": boot}


def _linked(link: Path, target: Path) -> bool:
    """Point a link to a target; False if that is not possible."""
    try:
        if link.is_symlink() and link.readlink() == target:
            return True
        with written_whole(link) as fresh:
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(target)
    except OSError:  # such as FAT on an SD card, which has no links
        return False
    return True
