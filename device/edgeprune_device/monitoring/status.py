"""What a recorder is doing now: ``status.json``, which others read while it runs.

It is written to ``$RUNTIME_DIRECTORY`` (systemd's, in memory) with a link to it in the journal's
folder, or else into that folder itself; always whole, by a rename. Whoever reads it can tell whether
the recorder is still there: by its process, its start and the boot, and by the monotonic clock, so
that neither a jump of the time of day nor another process with its number deceives.
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
    """What is known of a recorder; None is what it does not know."""

    state: str
    """One of ``STATES``."""
    text: str = ""
    """A sentence: why it is in this state."""
    bundle: str = ""
    digest: str = ""
    source: str = ""
    started_utc: str = ""
    written_utc: str = ""
    heartbeat_seconds: float = 60.0
    """Between two writings."""
    rate: int = 0
    """Hz of the samples in ``coverage``."""
    coverage: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Samples of the session by kind, then by reason."""
    windows: int = 0
    detections: Mapping[str, int] = field(default_factory=dict)
    """By label."""
    last_detection: Mapping[str, Any] | None = None
    """``utc``, ``label``, ``score``."""
    alarms: Mapping[str, str] = field(default_factory=dict)
    """Those that stand: kind to sentence."""
    alarms_total: Mapping[str, int] = field(default_factory=dict)
    """Times that each was raised."""
    reconnects: int = 0
    level_db: float | None = None
    """Of the last block, in dB of full scale; None of nothing but zeros, too: JSON has no infinity."""
    backlog_seconds: float = 0.0
    load_level: int = 0
    load: str = "normal"
    """What is given up (``shed.Level.name``)."""
    last_window_at: float | None = None
    """Monotonic seconds."""
    latency: Mapping[str, Any] = field(default_factory=dict)
    """``latency.LatencyTrack.summary``: the words of bench.json."""
    latency_buckets: tuple[tuple[float, int], ...] = ()
    latency_sum_seconds: float = 0.0
    sinks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Name to what ``sinks.Account`` holds, such as ``sent``, ``waiting``, ``last_error``."""
    journal_pending: int = 0
    """Detections that wait for the disk."""
    machine: Mapping[str, Any] = field(default_factory=dict)
    """``machine.machine_state``."""
    free_disk_mb: float | None = None
    """1e6 bytes."""
    clock: Mapping[str, Any] = field(default_factory=dict)
    """``synchronised``, ``source``, ``offset_bound_seconds``."""
    next_change: str = ""
    """When the schedule changes next."""

    def as_dict(self, samples: bool = True) -> dict[str, Any]:
        """Return it for JSON; buckets stay out, as they are for Prometheus alone.

        Without ``samples`` the single latencies stay out, too: a heartbeat over a thin line needs
        none of them.
        """
        shown = asdict(self)
        del shown["latency_buckets"], shown["latency_sum_seconds"]
        if not samples:
            shown["latency"].pop("samples_ms", None)
        return {"schema": SCHEMA, **shown}


def nested(totals: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    """Return a ledger's totals by kind, then by reason."""
    found: dict[str, dict[str, int]] = {}
    for (kind, reason), samples in sorted(totals.items()):
        found.setdefault(kind, {})[reason] = samples
    return found


def overall(*, paused: bool, lost: bool, alarms: Mapping[str, str]) -> str:
    """Return the state of a recorder that runs: what is worst of it."""
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
        The journal's.
    environ : mapping or None
        With ``RUNTIME_DIRECTORY``; None: the process's own.
    root : Path
        Where ``/proc`` is.

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
        """Write it; return what went wrong in a sentence, or nothing: a recorder goes on."""
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
        There is none, or it is not one.

    """
    path = folder / STATUS
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if path.is_symlink():
            raise EdgepruneError(
                f"The recorder of {folder} has not run since the board was started.",
                "systemctl status edgeprune", 1,
            ) from None  # fmt: skip
        raise EdgepruneError(
            f"There is no {STATUS} in {folder}.",
            "Name the journal's folder of a recorder: edgeprune status JOURNAL.",
        ) from None
    except (OSError, ValueError) as error:
        raise EdgepruneError(f"{path} cannot be read: {error}.") from None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise EdgepruneError(f"{path} is not the status of this version of edgeprune.")
    return found


@dataclass(frozen=True)
class Verdict:
    """What a status comes to, as somebody else sees it."""

    state: str
    """One of ``STATES``, or ``dead`` or ``stale``."""
    text: str
    age_seconds: float | None
    """Of the status; None if it is from another boot."""

    @property
    def fine(self) -> bool:
        """Whether the recorder does what it should."""
        return self.state in FINE


def judge(status: Mapping[str, Any], monotonic: float, root: Path = ROOT) -> Verdict:
    """Say whether a recorder is still there and well.

    Parameters
    ----------
    status : mapping
        As ``read_status``.
    monotonic : float
        Seconds now.
    root : Path
        Where ``/proc`` is.

    """
    now = process_facts(int(status["pid"]), root)
    same_boot = now["boot"] == status["boot"]
    age = monotonic - float(status["written_monotonic"]) if same_boot else None
    if status["state"] == STOPPED:
        return Verdict(STOPPED, status["text"] or "It was stopped.", age)
    if not same_boot or now["process_started"] != status["process_started"]:
        return Verdict("dead", "The recorder's process is gone, and it did not say good-bye.", age)
    limit = STALE_HEARTBEATS * float(status["heartbeat_seconds"])
    if age is not None and age > limit:
        return Verdict(
            "stale", f"The recorder has said nothing for {age:.0f} s; it hangs, or is frozen.", age
        )
    return Verdict(str(status["state"]), str(status["text"]), age)


def process_facts(number: int, root: Path = ROOT) -> dict[str, Any]:
    """Return what tells a process from all others: number, start (clock ticks) and boot."""
    try:
        line = (root / f"proc/{number}/stat").read_text("utf-8", "replace")
        # proc(5): field 22; the name, field 2, may itself hold spaces and brackets
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
    """Let a link lead to a target; False where that cannot be made."""
    try:
        if link.is_symlink() and link.readlink() == target:
            return True
        with written_whole(link) as fresh:
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(target)
    except OSError:  # such as a FAT card, which knows no links
        return False
    return True
