"""Notifies systemd that the recorder is ready, alive, and what it is doing.

The protocol is a datagram of ``NAME=value`` lines to the socket that ``NOTIFY_SOCKET`` names
(sd_notify(3), sd_watchdog_enabled(3)), so no library is needed. Without such a socket nothing is
sent and nothing fails.

``WatchdogGate`` decides when to notify the watchdog: only after progress from end to end, never on a
timer. A recorder whose microphone, model or journal has stopped is not alive, even if its loop
still runs.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from edgeprune_device.errors import EdgepruneError

SEND_SECONDS = 1.0
"""Longest time the loop waits for systemd to accept a message."""
MICROSECONDS = 1_000_000


class Notifier:
    """Client of the service manager's socket; every method does nothing if there is no socket.

    Parameters
    ----------
    environ : mapping or None
        With ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID``; None: the environment of
        this process.

    Raises
    ------
    EdgepruneError
        One of the variables has an invalid value.

    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog_seconds = _watchdog_seconds(environ) if self._address else None
        """Time within which systemd expects ``watchdog``; None: it has no watchdog."""

    def ready(self, text: str = "") -> bool:
        """Report that start-up is complete: the first window was analysed."""
        return self._send("READY=1", text)

    def watchdog(self) -> bool:
        """Report that the recorder is alive; check with a ``WatchdogGate`` first."""
        return self._send("WATCHDOG=1")

    def status(self, text: str) -> bool:
        """Show a line in ``systemctl status``."""
        return self._send("", text)

    def stopping(self, text: str = "") -> bool:
        """Report that the recorder is stopping."""
        return self._send("STOPPING=1", text)

    def extend(self, seconds: float) -> bool:
        """Ask for this much more time to start or stop, counted from now."""
        return self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * MICROSECONDS)}")

    def _send(self, line: str, text: str = "") -> bool:
        """Send one datagram; False if there is no socket or it was not accepted."""
        if self._address is None:
            return False
        lines = [line] if line else []
        if text:
            lines.append("STATUS=" + " ".join(text.split()))  # a line break would end it
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.settimeout(SEND_SECONDS)
                channel.connect(self._address)
                channel.sendall("\n".join(lines).encode())
        except OSError:  # systemd is restarting, or gone: recording continues
            return False
        return True


class WatchdogGate:
    """Decides whether ``WATCHDOG=1`` may be sent: only if all three stages have made progress.

    As soon as one of them stops, nothing more is sent, so that systemd acts within one
    ``WatchdogSec`` of it.

    Parameters
    ----------
    watchdog_seconds : float or None
        As in ``Notifier``; None: there is no watchdog and nothing may be sent.

    """

    def __init__(self, watchdog_seconds: float | None) -> None:
        self.watchdog_seconds = watchdog_seconds
        self._seen: dict[str, float] = {}

    def alive(
        self, now: float, captured_at: float | None, analysed_at: float | None,
        committed_at: float | None, *, paused: bool = False,
    ) -> bool:  # fmt: skip
        """Decide whether to notify the watchdog; True means that it is sent, and is remembered.

        Parameters
        ----------
        now, captured_at, analysed_at, committed_at : float
            Monotonic seconds: now, and when audio last arrived, a window was last analysed, and
            the journal last committed; None: never yet.
        paused : bool
            Whether the schedule has paused recording; that counts as progress.

        """
        if self.watchdog_seconds is None:
            return False
        stages = {"captured": captured_at, "analysed": analysed_at, "committed": committed_at}
        known = {name: at for name, at in stages.items() if at is not None}
        if not paused:
            if len(known) < len(stages):
                return False
            if any(at <= self._seen[name] for name, at in known.items() if name in self._seen):
                return False
        self._seen = known
        return True


def _address(place: str) -> str | None:
    """Return a socket's address; ``@`` means the NUL of an abstract one."""
    if not place:
        return None
    if place.startswith("@"):
        return "\0" + place[1:]
    if place.startswith("/"):
        return place
    raise EdgepruneError(
        f"NOTIFY_SOCKET = {place!r} is not a local socket (allowed: /PATH or @NAME).",
        "Unset it if systemd did not start edgeprune.",
    )


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """Return the watchdog interval in seconds; None if unset or for another process."""
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        text = environ.get(name, "")
        if text and not (text.isascii() and text.isdecimal() and int(text) > 0):
            raise EdgepruneError(f"{name} = {text!r} is not a whole number over 0.", "Unset it.")
    if not (microseconds := environ.get("WATCHDOG_USEC", "")):
        return None
    if (process := environ.get("WATCHDOG_PID", "")) and int(process) != os.getpid():
        return None
    return int(microseconds) / MICROSECONDS
