"""Runs a program for each detection, without a shell, with the detection as JSON on stdin.

Exit status 0 is success. 75 (``EX_TEMPFAIL``) requests another try, without limit; after any other
status, and after the timeout, a few tries are made. The timeout kills the program and everything it
has started (its process group). The recorder's secrets are not in the program's environment.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress

from edgeprune_device.settings import Command
from edgeprune_device.sinks.sender import Message, NotSentError, Sender, target_of

TRY_LATER = 75


class _Runner:
    """Runs one program at a time, and can kill it from another thread."""

    def __init__(self, settings: Command, environ: Mapping[str, str]) -> None:
        self._settings, self._environ = settings, dict(environ)
        self._running: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._closed = False

    def send(self, message: Message) -> None:
        """Run the program to completion."""
        program = self._settings.run[0]
        try:
            with self._lock:
                if self._closed:
                    raise NotSentError("the recorder is stopping")
                child = self._running = subprocess.Popen(
                    self._settings.run, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL, env=self._environ, start_new_session=True, bufsize=0,
                )  # fmt: skip
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise NotSentError(f"{program} cannot be started: {reason}") from None
        data = (json.dumps(message, ensure_ascii=False) + "\n").encode()
        with child:
            try:
                child.communicate(data, self._settings.timeout_seconds)
            except subprocess.TimeoutExpired:
                _end(child)
                text = f"{program} took over {self._settings.timeout_seconds:g} s and was killed"
                raise NotSentError(text, refused=True) from None
            finally:
                self._running = None
        if self._closed:
            raise NotSentError("the recorder stopped it")
        if child.returncode:
            text = f"{program} ended with status {child.returncode}"
            raise NotSentError(text, refused=child.returncode != TRY_LATER)

    def close(self) -> None:
        """Kill the running program."""
        with self._lock:
            self._closed = True
            child = self._running
        if child is not None:
            _end(child)


def make_command(settings: Command, environ: Mapping[str, str]) -> Sender:
    """Return the sender that runs a program with the given environment."""
    runner = _Runner(settings, environ)
    return Sender("command", target_of(*settings.run), runner.send, runner.close)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill a program and everything it has started."""
    with suppress(ProcessLookupError):  # it has just ended
        os.killpg(child.pid, signal.SIGKILL)
