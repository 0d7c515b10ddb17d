"""What systemd is told: that the recorder is ready, that it is alive, what it is doing.

The protocol is a datagram of ``NAME=value`` lines to the socket that ``NOTIFY_SOCKET`` names
(sd_notify(3), sd_watchdog_enabled(3)), so no library is needed. Without such a socket nothing is
sent and nothing fails.

The watchdog is fed by ``Pulse``: only by progress from end to end, never by a timer. A recorder
whose microphone, model or journal has come to a halt is not alive, however well its loop turns.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from edgeprune_device.errors import EdgepruneError

SEND_SECONDS = 1.0
"""systemd may be busy; the loop does not wait for it for longer."""
MICROSECONDS = 1_000_000


class Notifier:
    """The service manager's socket; every method does nothing where there is none.

    Parameters
    ----------
    environ : mapping or None
        With ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID``; None: the process's own.

    Raises
    ------
    EdgepruneError
        One of them makes no sense.

    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog_seconds = _watchdog_seconds(environ) if self._address else None
        """Within which systemd wants to hear ``watchdog``; None: it does not ask."""

    def ready(self, text: str = "") -> bool:
        """Say that the start is over: the first window was analysed."""
        return self._send("READY=1", text)

    def watchdog(self) -> bool:
        """Say that the recorder is alive; ask a ``Pulse`` first."""
        return self._send("WATCHDOG=1")

    def status(self, text: str) -> bool:
        """Show a line in ``systemctl status``."""
        return self._send("", text)

    def stopping(self, text: str = "") -> bool:
        """Say that the end has begun."""
        return self._send("STOPPING=1", text)

    def extend(self, seconds: float) -> bool:
        """Ask for so much more time to start or stop, from now."""
        return self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * MICROSECONDS)}")

    def _send(self, line: str, text: str = "") -> bool:
        """Send one datagram; False if there is no socket, or nobody took it."""
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
        except OSError:  # systemd is restarting, or gone: recording goes on
            return False
        return True


class Pulse:
    """Whether ``WATCHDOG=1`` may be sent: all three stages went on since it was sent last.

    As a halt of one of them ends the beats at once, and not after a patience of its own, systemd
    acts within one ``WatchdogSec`` of it.

    Parameters
    ----------
    watchdog_seconds : float or None
        As of a ``Notifier``; None: nobody asks, and nothing may be sent.

    """

    def __init__(self, watchdog_seconds: float | None) -> None:
        self.watchdog_seconds = watchdog_seconds
        self._seen: dict[str, float] = {}

    def alive(
        self, now: float, captured_at: float | None, analysed_at: float | None,
        committed_at: float | None, *, paused: bool = False,
    ) -> bool:  # fmt: skip
        """Decide on a beat; True means that it is sent, and is remembered.

        Parameters
        ----------
        now, captured_at, analysed_at, committed_at : float
            Monotonic seconds: now, and when sound last came in, a window was last analysed, and
            the journal last committed; None: never yet.
        paused : bool
            The schedule says not to listen: that counts as going on.

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
    """Return a socket's address; ``@`` stands for the NUL of an abstract one."""
    if not place:
        return None
    if place.startswith("@"):
        return "\0" + place[1:]
    if place.startswith("/"):
        return place
    raise EdgepruneError(
        f"NOTIFY_SOCKET is {place!r}, which is no local socket.",
        "Unset it where no systemd has started edgeprune.",
    )


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """Return how often systemd wants to hear; None if it does not, or means another process."""
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        text = environ.get(name, "")
        if text and not (text.isascii() and text.isdecimal() and int(text) > 0):
            raise EdgepruneError(f"{name} is {text!r}, not a whole number over 0.", "Unset it.")
    if not (microseconds := environ.get("WATCHDOG_USEC", "")):
        return None
    if (process := environ.get("WATCHDOG_PID", "")) and int(process) != os.getpid():
        return None
    return int(microseconds) / MICROSECONDS
