"""Writes the systemd unit of a recorder: always restarted, watched, sandboxed.

    [Unit]     no limit on restarts          [Install]  started at every boot
    [Service]  command -> restart and watchdog -> visible files -> permissions

The watchdog interval follows from the settings: the coverage is committed with every heartbeat, and
a window may take ``hang_seconds``. What the recorder reads is mounted into an empty home; it can
write nothing but its journal. ``MemoryDenyWriteExecute`` is not set: the sound library's callback
is created at run time (tried: cffi cannot create it otherwise). Nor is ``ProtectClock``: it forbids
even asking whether the clock is synchronised; setting the clock is forbidden all the same.
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from edgeprune_device.errors import EdgepruneError
from edgeprune_device.settings import Settings
from edgeprune_device.system.files import write_whole

NAME = "edgeprune"
UNIT_FOLDER = Path("/etc/systemd/system")
STATE_ROOT = PurePosixPath("/var/lib")
JOURNAL = Path("/var/lib/edgeprune/journal")
SECRETS = "/etc/edgeprune"
HOMES = ("/home", "/root", "/run/user")
DYNAMIC = "dynamic"
STOP_SECONDS = 15
HIDDEN_BY_CREDENTIALS = ("mqtt.password_file", "webhook.token_file")


def watchdog_seconds(settings: Settings, hop_seconds: float = 0.0) -> int:
    """Return the seconds within which a healthy recorder must capture, analyse and commit."""
    operate = settings.operate
    return round(max(
        3 * operate.heartbeat_seconds, operate.hang_seconds + operate.heartbeat_seconds,
        3 * hop_seconds, 30,
    ))  # fmt: skip


def unit(
    bundle: Path, journal: Path, settings: Settings, settings_file: Path | None = None, *,
    user: str = "", hop_seconds: float = 0.0, python: Path | None = None,
) -> str:  # fmt: skip
    """Return the text of the unit.

    Parameters
    ----------
    bundle, journal : Path
        Bundle to run, and folder of the journal.
    settings : settings.Settings
    settings_file : Path or None
        File of the settings.
    user : str
        User the service runs as; empty: the current user; ``dynamic``: one created by systemd.
    hop_seconds : float
        Hop of the bundle; part of the watchdog interval.
    python : Path or None
        Python interpreter; None: the running one.

    Returns
    -------
    str
        Content of the ``.service`` file.

    Raises
    ------
    EdgepruneError
        A path or a credential name that a unit cannot hold; a journal that the user cannot write.

    """
    python = Path(sys.executable) if python is None else python
    user = user or os.environ.get("SUDO_USER", "") or getpass.getuser()
    where = PurePosixPath(os.path.abspath(journal))
    inside_state = where.is_relative_to(STATE_ROOT) and where != STATE_ROOT
    if user == DYNAMIC and not inside_state:
        raise EdgepruneError(
            f"A dynamic user of systemd cannot write the journal {where}.",
            "Put it under /var/lib with -o, or name its owner with --user.",
        )
    bundle_at = Path(os.path.abspath(bundle))
    command = [str(python), "-m", "edgeprune.cli", "listen", str(bundle_at), "--wait",
               "-o", str(where)]  # fmt: skip
    if settings_file is not None:
        command += ["--settings", os.path.abspath(settings_file)]
    reads = _read(python, bundle_at, settings, settings_file)
    sections = {
        "Unit": [
            "Description=edgeprune recorder", "After=sound.target", "StartLimitIntervalSec=0",
        ],
        "Service": [
            *_runs(command, user), *_ends(settings, hop_seconds),
            *_sees(where, reads, inside_state), *_secrets(settings), *_may(settings),
        ],
        "Install": ["WantedBy=multi-user.target"],
    }  # fmt: skip
    return "\n".join(f"[{name}]\n" + "\n".join(lines) + "\n" for name, lines in sections.items())


def install(text: str, folder: Path = UNIT_FOLDER) -> Path:
    """Write the unit atomically and return its path.

    Raises
    ------
    EdgepruneError
        The folder cannot be written.

    """
    path = folder / f"{NAME}.service"
    try:
        write_whole(path, text)
    except OSError as error:
        raise EdgepruneError(
            f"{path} cannot be written: {error.strerror}.", "Run the same command with sudo."
        ) from None
    return path


def next_steps(journal: Path, user: str = "") -> list[str]:
    """Return the commands that start the installed service."""
    where = PurePosixPath(os.path.abspath(journal))
    made = where.is_relative_to(STATE_ROOT)
    owner = user or os.environ.get("SUDO_USER", "") or getpass.getuser()
    return [
        *([] if made else [f"sudo install -d -o {owner} {_quoted(str(where))}"]),
        "sudo systemctl daemon-reload",
        f"sudo systemctl enable --now {NAME}",
        f"systemctl status {NAME}",
        f"edgeprune status {_quoted(str(where))}",
    ]


def _runs(command: Sequence[str], user: str) -> list[str]:
    who = ["DynamicUser=yes"] if user == DYNAMIC else [f"User={_escaped(user)}"]
    return [
        "Type=notify", "NotifyAccess=main",
        "ExecStart=" + " ".join([_program(command[0]), *(map(_argument, command[1:]))]),
        "Environment=PYTHONUNBUFFERED=1", *who, "SupplementaryGroups=audio",
    ]  # fmt: skip


def _ends(settings: Settings, hop_seconds: float) -> list[str]:
    return [
        "Restart=always", "RestartSec=5",
        f"WatchdogSec={watchdog_seconds(settings, hop_seconds)}",
        "# A microphone may be connected days later: the recorder waits and asks for more time.",
        "TimeoutStartSec=infinity", f"TimeoutStopSec={STOP_SECONDS}", "KillMode=mixed",
        "LimitCORE=0", "OOMScoreAdjust=-500", "Nice=-5", "MemoryMax=75%", "TasksMax=128",
    ]  # fmt: skip


def _sees(journal: PurePosixPath, reads: Sequence[str], inside_state: bool) -> list[str]:
    lines = ["ProtectSystem=strict", "ProtectHome=tmpfs", "PrivateTmp=yes", "ProtectProc=invisible",
             f"RuntimeDirectory={NAME}", "RuntimeDirectoryPreserve=restart", "UMask=0027"]  # fmt: skip
    lines += [f"BindReadOnlyPaths={_quoted(place)}" for place in reads if _at_home(place)]
    if inside_state:
        lines.append(f"StateDirectory={_quoted(str(journal.relative_to(STATE_ROOT)))}")
    elif _at_home(str(journal)):
        lines.append(f"BindPaths={_quoted(str(journal))}")
    else:
        lines.append(f"ReadWritePaths={_quoted(str(journal))}")
    return lines


def _may(settings: Settings) -> list[str]:
    online = bool(settings.mqtt.host or settings.webhook.url or settings.command.run
                  or settings.operate.metrics_port)  # fmt: skip
    network = ["RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6"] if online else [
        "# No sink of the settings needs a network.",
        "RestrictAddressFamilies=AF_UNIX", "PrivateNetwork=yes", "IPAddressDeny=any",
    ]  # fmt: skip
    return [
        "DevicePolicy=closed", "DeviceAllow=char-alsa rw", *network,
        "NoNewPrivileges=yes", "CapabilityBoundingSet=", "AmbientCapabilities=",
        "ProtectKernelTunables=yes", "ProtectKernelModules=yes", "ProtectKernelLogs=yes",
        "ProtectControlGroups=yes", "ProtectHostname=yes", "RestrictNamespaces=yes",
        "RestrictRealtime=yes", "RestrictSUIDSGID=yes", "LockPersonality=yes", "RemoveIPC=yes",
        "SystemCallArchitectures=native",
        "SystemCallFilter=@system-service", "SystemCallFilter=~@privileged",
        "# The recorder asks whether the clock is synchronised; it is not allowed to set it.",
        "SystemCallFilter=adjtimex clock_adjtime",
        "SystemCallErrorNumber=EPERM",
    ]  # fmt: skip


def _secrets(settings: Settings) -> list[str]:
    """Pass secrets: files as systemd credentials, variables from a file that only root reads."""
    lines = []
    for key in HIDDEN_BY_CREDENTIALS:
        part, name = key.split(".")
        file = getattr(getattr(settings, part), name)
        if not file or file.startswith("/"):
            continue
        if "/" in file or ":" in file:
            raise EdgepruneError(
                f"{key} = {file!r} is not a valid name of a credential.",
                f"Write a name without / for a file in {SECRETS}, or an absolute path.",
            )
        lines.append(f"LoadCredential={_escaped(file)}:{SECRETS}/{_escaped(file)}")
    if settings.mqtt.password_env or settings.webhook.token_env:
        lines.append(f"EnvironmentFile={SECRETS}/environment")
    return lines


def _read(python: Path, bundle: Path, settings: Settings, settings_file: Path | None) -> list[str]:
    """Return the paths that must be readable: Python, its packages, the bundle and the files."""
    real = Path(os.path.realpath(python)).parents[1]  # the base Python of an environment
    files = [settings.gate.vad_model, *settings.security.trusted_keys,
             settings.mqtt.password_file, settings.webhook.token_file]  # fmt: skip
    imported = [Path(place) for place in sys.path if os.path.isabs(place) and os.path.isdir(place)]
    held = bundle.parent if bundle.is_symlink() else bundle  # a store: the next version is in it
    given = [held, *([settings_file] if settings_file else []),
             *(Path(file) for file in files if os.path.isabs(file))]  # fmt: skip
    places = [Path(os.path.abspath(python)).parents[1], real, *imported, *given]
    found: list[Path] = []
    for place in sorted({Path(os.path.abspath(place)) for place in places}):
        if not any(place.is_relative_to(outer) for outer in found):
            found.append(place)
    return [str(place) for place in found]


def _at_home(place: str) -> bool:
    return any(PurePosixPath(place).is_relative_to(home) for home in HOMES)


def _escaped(text: str) -> str:
    """Escape a text for a unit: % begins a specifier; line breaks are not allowed."""
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        raise EdgepruneError(
            f"{text!r} cannot be written in a unit.", "Use a name without control characters."
        )
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """Return a path for a list of paths, quoted if necessary (systemd.syntax(7))."""
    escaped = _escaped(text)
    if not any(letter in escaped for letter in " \t\"'\\;"):
        return escaped
    return '"' + escaped.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _program(text: str) -> str:
    """Return the program of ExecStart, where $ is literal and some characters are forbidden."""
    if any(letter in text for letter in "\"'\\"):
        raise EdgepruneError(
            f"systemd cannot start a program with a quote or a backslash in its path: {text}.",
            "Install edgeprune in another folder.",
        )
    return _quoted(text)


def _argument(text: str) -> str:
    """Return an argument of ExecStart, where $ begins a variable."""
    return _quoted(text.replace("$", "$$"))
