"""Starts, reads and kills the capture process from its parent."""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from typing import IO, Any

from edgeprune_device.audio.capture_process import LOST
from edgeprune_device.audio.shared_ring import (
    GUARD_SECONDS,
    Reader,
    Record,
    SharedRing,
    nameless_file,
    unpacked,
)
from edgeprune_device.errors import FAILED_CHECK
from edgeprune_device.settings import Audio

LINES_KEPT = 20  # of standard error
PIPE_BYTES = 1 << 16
LAST_WORDS_SECONDS = 0.5
END_SECONDS = 2.0


@dataclass(frozen=True)
class CaptureFailure:
    """Why a capture process ended or was killed."""

    kind: str
    """``absent``, ``lost``, ``stalled``, or ``refused`` (waiting does not help)."""
    text: str
    hint: str = ""
    status: int = FAILED_CHECK


class CaptureProcess:
    """One capture process from its start to its end.

    Parameters
    ----------
    audio : Audio
        Settings of channel and buffer.
    wanted : str
        Identity or name of the input; empty: the default input.
    rate : int
        Wanted rate in Hz.

    Raises
    ------
    OSError
        The process cannot be started.

    """

    def __init__(self, audio: Audio, wanted: str, rate: int) -> None:
        self.began = time.monotonic()
        self.ended = False
        """Whether it has closed its pipe and everything in it has been read."""
        self.opened: Mapping[str, Any] = {}
        """The opened input: identity, name, rate, kind, channels, capacity; empty before that."""
        self.reader: Reader | None = None
        self._rest = b""
        self._ring = nameless_file()
        self._pipe, records = os.pipe()
        self._poll = select.poll()
        self._poll.register(self._pipe, select.POLLIN)
        command = [sys.executable, "-m", "edgeprune_device.audio.capture_process", "--device", wanted,
                   "--rate", str(rate), "--channel", str(audio.channel),
                   "--buffer-seconds", str(audio.buffer_seconds), "--ring", str(self._ring),
                   "--records", str(records), "--parent", str(os.getpid())]  # fmt: skip
        try:
            self._process = Popen(
                command, stdin=PIPE, stdout=DEVNULL, stderr=PIPE, bufsize=0,
                pass_fds=(self._ring, records),
                start_new_session=True,  # a Ctrl-C in the terminal reaches the parent alone
            )  # fmt: skip
        except BaseException:
            os.close(self._ring)
            os.close(self._pipe)
            raise
        finally:
            os.close(records)
        self._said: deque[bytes] = deque(maxlen=LINES_KEPT)
        self._ear = threading.Thread(
            target=keep_lines, args=(self._process.stderr, self._said), daemon=True
        )
        self._ear.start()

    @property
    def number(self) -> int:
        """Process id."""
        return self._process.pid

    def wait(self, seconds: float) -> list[Record]:
        """Return the records that have arrived, after at most ``seconds``.

        Raises
        ------
        ValueError
            Something other than a record has arrived.

        """
        if self.ended:
            return []
        data, patience = [], seconds
        while self._poll.poll(1000 * patience):
            patience = 0.0
            part = os.read(self._pipe, PIPE_BYTES)
            data.append(part)
            if not part:
                self.ended = True
                break
        self._rest += b"".join(data)
        if not self.opened:
            line, newline, rest = self._rest.partition(b"\n")
            if not newline:
                return []
            self._opened(json.loads(line))
            self._rest = rest
        records, self._rest = unpacked(self._rest)
        return records

    def _opened(self, told: Mapping[str, Any]) -> None:
        ring = SharedRing(self._ring, str(told["kind"]), int(told["capacity"]))
        keep = ring.capacity - round(GUARD_SECONDS * int(told["rate"]))
        self.opened, self.reader = told, Reader(ring, keep)

    def failure(self) -> CaptureFailure:
        """Return why it has ended by itself, from its last lines on standard error."""
        self._ear.join(LAST_WORDS_SECONDS)
        lines = [line.decode("utf-8", "replace").strip() for line in self._said]
        try:
            told = json.loads(lines[-1])
            return CaptureFailure(told["kind"], told["error"], told["hint"], told["status"])
        except (IndexError, ValueError, KeyError, TypeError):
            last = lines[-1] if lines else "no message"
            return CaptureFailure(LOST, f"The capture process ended by itself ({last}).",
                                  "edgeprune devices lists the inputs.")  # fmt: skip

    def kill(self) -> None:
        """Kill the process and release its memory. May be called twice."""
        self._process.kill()
        with contextlib.suppress(TimeoutExpired):  # a driver may keep it alive after the kill
            self._process.wait(END_SECONDS)
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._ear.join(LAST_WORDS_SECONDS)
        self.reader = None
        for descriptor in (self._ring, self._pipe):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._ring = self._pipe = -1
        self.ended = True


def keep_lines(stream: IO[bytes], said: deque[bytes]) -> None:
    """Keep the last lines: ALSA writes one per overrun, and a full pipe would block the child."""
    with stream:
        rest = b""
        while data := stream.read(4096):
            *whole, rest = (rest + data).split(b"\n")
            said.extend(line for line in whole if line.strip())
    if rest.strip():
        said.append(rest)
