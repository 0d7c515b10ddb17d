"""A program for each detection: no shell, the detection as JSON on standard input.

Exit status 0 is success. 75 (``EX_TEMPFAIL``) asks for another try, however often; after any other
status, and after the timeout, a few tries are all. The timeout ends the program with all it has
started (its process group). What the recorder keeps secret is not in the program's environment.
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
    """Runs one program at a time, and can end it from another thread."""

    def __init__(self, settings: Command, environ: Mapping[str, str]) -> None:
        self._settings, self._environ = settings, dict(environ)
        self._running: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._closed = False

    def send(self, message: Message) -> None:
        """Run the program to its end."""
        program = self._settings.run[0]
        try:
            with self._lock:
                if self._closed:
                    raise NotSentError("the recorder ends")
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
                text = f"{program} took over {self._settings.timeout_seconds:g} s and was ended"
                raise NotSentError(text, refused=True) from None
            finally:
                self._running = None
        if self._closed:
            raise NotSentError("the recorder ended it")
        if child.returncode:
            text = f"{program} ended with status {child.returncode}"
            raise NotSentError(text, refused=child.returncode != TRY_LATER)

    def close(self) -> None:
        """End the program that is running."""
        with self._lock:
            self._closed = True
            child = self._running
        if child is not None:
            _end(child)


def make_command(settings: Command, environ: Mapping[str, str]) -> Sender:
    """Return the sender that runs a program, in an environment."""
    runner = _Runner(settings, environ)
    return Sender("command", target_of(*settings.run), runner.send, runner.close)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill a program and all it has started."""
    with suppress(ProcessLookupError):  # it has just ended
        os.killpg(child.pid, signal.SIGKILL)
