"""Records continuously from the microphone: restarts it after failures and counts lost time.

It reads one capture process after the other. A process is killed and replaced when no frame has
arrived for ``stall_seconds`` by the monotonic clock, whatever its flags say, and when it ends:

    start -> audio -> stalled or lost -> killed -> wait 1, 2, 4 ... 30 s -> start -> "back" -> audio

Recorded and lost samples together follow the monotonic clock, up to the device's drift. The losses:
``microphone lost``, ``stalled`` and ``absent`` are measured by the clock; ``backlog`` (the reader
was too slow for the ring) to the frame; ``overflow`` (PortAudio does not report how much) as at
least one frame; ``driver`` (no flag, but time has passed) from the lag of the frames.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

from edgeprune_device.audio.capture_process import ABSENT, LOST, REFUSED
from edgeprune_device.audio.capture_session import NOTHING, CaptureSession
from edgeprune_device.audio.capture_supervisor import CaptureFailure, CaptureProcess
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.settings import Audio
from edgeprune_device.stream import Block, Item, Notice

TICK_SECONDS = 0.2
START_SECONDS = 20.0  # until the first frame: libraries are loaded, a sound server is found
SETTLE_SECONDS = 0.5  # of the first frames, whose callbacks may come late
HOLD_SECONDS = 1.5  # end of an outage that is not reported until it is clear when audio resumes
LONGEST_WAIT_SECONDS = 30.0
HEALTHY_SECONDS = 10.0  # of audio, after which the next wait is short again
LOOK_SECONDS = 0.25
QUIET_SECONDS = 1.0  # without records while polling: the microphone stalls, not the reader
STALLED = "stalled"
REASONS = {
    LOST: "microphone lost",
    STALLED: "stalled",
    ABSENT: "absent",
    REFUSED: "microphone lost",
}


class Microphone(Iterator[Item]):
    """A source of blocks, notices and ticks; it never raises once audio has arrived.

    Iterate in a thread that lives as long as this object: the kernel kills a capture process
    together with the thread that started it.

    Parameters
    ----------
    audio : Audio
    sample_rate : int
        Rate of the model in Hz.
    clock : callable
        Returns monotonic seconds.
    wait : bool
        Whether to wait for an input that is absent, or cannot be opened, at the start.
    start : callable
        Starts a capture process.

    """

    def __init__(
        self, audio: Audio, sample_rate: int, *, clock: Callable[[], float] = time.monotonic,
        wait: bool = False, start: Callable[[Audio, str, int], CaptureProcess] = CaptureProcess,
    ) -> None:  # fmt: skip
        self.audio, self.sample_rate, self.wait = audio, sample_rate, wait
        self.device = ""
        """Identity of the input in use; empty before the first audio."""
        self.rate = 0
        """Capture rate in Hz."""
        self.backlog_seconds = 0.0
        """Duration of captured audio that has not been read."""
        self.reconnects = 0
        """Number of outages after which audio resumed."""
        self._clock, self._start = clock, start
        self._gain = 10 ** (audio.gain_db / 20)
        self._wanted = audio.device
        self._child: CaptureProcess | None = None
        self._session: CaptureSession | None = None
        self._drift_seconds = 0.0  # of the sessions before
        self._since: float | None = None  # time up to which all is reported; None: no audio yet
        self._told = 0  # samples of this outage that were reported as lost
        self._early = 0  # samples that were reported as lost and arrived later
        self._reason, self._noted = REASONS[LOST], set[str]()
        self._items = self._run()

    def __iter__(self) -> Microphone:
        """Return itself."""
        return self

    def __next__(self) -> Item:
        """Return the next item within a fifth of a second; replacing a process takes longer."""
        return next(self._items)

    @property
    def child(self) -> int | None:
        """Process id of the capture process; None if there is none."""
        return self._child.number if self._child else None

    @property
    def drift_samples(self) -> int:
        """How many samples the devices' clocks are behind the monotonic clock."""
        seconds, session = self._drift_seconds, self._session
        if session is not None:
            seconds += session.lag.drift_seconds - session.early_seconds
        return round(seconds * self.sample_rate) - self._early

    @property
    def drift_ppm(self) -> float | None:
        """Drift of the device in use in ppm; None in its first hour."""
        return self._session.lag.drift_ppm if self._session else None

    def rest(self) -> Block | None:
        """Return the loss of the current outage that was not reported yet; for the end.

        Without an outage: the captured audio that will not be read any more.
        """
        if self._session is not None and self._session.open:
            return self._session.rest()
        if self._since is None:
            return None
        due = math.floor((self._clock() - self._since) * self.sample_rate)
        return self._lost(due) if due > self._told else None

    def close(self) -> None:
        """Kill the capture process at once."""
        if self._child is not None:
            self._child.kill()
        self._items.close()

    def _run(self) -> Generator[Item]:
        """Read one capture process after the other."""
        began, wait = self._clock(), 1.0
        while True:
            heard = 0.0
            try:
                self._child = self._start(self.audio, self._wanted, self.sample_rate)
                trouble, heard = yield from self._listen(self._child)
            except (OSError, ValueError) as error:
                trouble = CaptureFailure(LOST, f"The capture process failed ({error}).")
            finally:
                self._end_session()
                if self._child is not None:
                    self._child.kill()
                self._child = None
            if self._since is None:
                if trouble.kind == REFUSED or not self.wait:
                    raise EdgepruneError(trouble.text, trouble.hint, trouble.status)
                self._since = began
                trouble = CaptureFailure(ABSENT, trouble.text, trouble.hint, trouble.status)
            wait = 1.0 if heard >= HEALTHY_SECONDS else wait
            yield from self._outage(trouble, wait)
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)

    def _outage(self, trouble: CaptureFailure, seconds: float) -> Generator[Item]:
        """Report the outage, once for each kind, and wait."""
        if not self._noted:
            self._reason = REASONS[trouble.kind]
        kind = f"microphone-{LOST if trouble.kind == REFUSED else trouble.kind}"
        if kind not in self._noted:
            self._noted.add(kind)
            yield Notice(kind, trouble.text, {"device": self.device or self.audio.device,
                                              "hint": trouble.hint})  # fmt: skip
        until = self._clock() + seconds
        while (left := until - self._clock()) > 0:
            time.sleep(min(TICK_SECONDS, left))
            yield self._silence()

    def _silence(self) -> Block | None:
        """Return another second of an outage, or None; its last ``HOLD_SECONDS`` are left open."""
        if self._since is None:
            return None
        due = math.floor((self._clock() - HOLD_SECONDS - self._since) * self.sample_rate)
        if due - self._told < self.sample_rate:
            return None
        return self._lost(due)

    def _lost(self, due: int) -> Block:
        """Return the loss from the last report to ``due`` samples after the outage began."""
        lost, self._told = due - self._told, due
        heard_at = (self._since or 0.0) + due / self.sample_rate
        return Block(NOTHING, lost, self._reason, heard_at)

    def _listen(self, child: CaptureProcess) -> Generator[Item, None, tuple[CaptureFailure, float]]:
        """Yield a capture process's audio; return why it ended and the recorded seconds."""
        settled, quiet, looked = math.inf, 0.0, self._clock()
        trouble = None
        while trouble is None:
            session = self._session
            waiting = session is not None and session.waiting
            records = child.wait(0.0 if waiting else TICK_SECONDS)
            now, before = self._clock(), looked
            looked = now
            quiet = 0.0 if records else quiet + min(now - before, LOOK_SECONDS)
            if session is None and records and child.reader is not None:
                session = CaptureSession(
                    child.reader, int(child.opened["rate"]), self.sample_rate, self._gain
                )
                self._session, settled = session, now + SETTLE_SECONDS
            if session is not None:
                session.observe(records)
                if not session.open and now >= settled:
                    yield from self._begin(session, child.opened)
            if session is not None and session.open:
                yield from session.items()
                self.backlog_seconds = session.backlog_seconds
                if not records and not waiting:
                    yield None
            else:
                yield self._silence()
            if child.ended:
                trouble = child.failure()
            elif quiet >= QUIET_SECONDS:
                trouble = self._stalled(child, session)
        child.kill()
        if (session := self._session) is None:
            return trouble, 0.0
        if not session.open:
            yield from self._begin(session, child.opened)
        session.complete()
        while session.waiting:
            yield from session.items()
        yield from session.finish()
        return trouble, session.reader.position / session.rate

    def _stalled(
        self, child: CaptureProcess, session: CaptureSession | None
    ) -> CaptureFailure | None:
        """Return the failure if no audio has arrived for too long, otherwise None."""
        last, patience = child.began, max(START_SECONDS, self.audio.stall_seconds)
        if session is not None:
            last, patience = session.reader.last_callback, self.audio.stall_seconds
        passed = self._clock() - last
        if passed <= patience:
            return None
        return CaptureFailure(STALLED, f"The microphone has sent no audio for {passed:.1f} s.",
                              "Does the sound server or the device hang?")  # fmt: skip

    def _begin(self, session: CaptureSession, told: Mapping[str, Any]) -> Generator[Item]:
        """Begin a session's audio; the length of the outage before it is known now."""
        session.open = True
        self.device, self.rate = str(told["identity"]), session.rate
        if told["alone"] and (not self._wanted or self._wanted.isdecimal()):
            self._wanted = self.device  # the default, or a number, may mean another next time
        if self._since is None:
            self._since = session.lag.seconds
            return
        seconds = session.lag.seconds - self._since
        due = round(seconds * self.sample_rate) - self._early
        self._early = max(0, self._told - due)
        self.reconnects += 1
        yield Notice("microphone-back", f"The microphone {self.device} is recording again after "
                     f"{seconds:.1f} s.", {"seconds": seconds, "device": self.device,
                                           "reason": self._reason})  # fmt: skip
        if due > self._told:
            yield self._lost(due)

    def _end_session(self) -> None:
        """Remember up to when everything is reported."""
        session, self._session = self._session, None
        self.backlog_seconds = 0.0
        if session is not None and session.open:
            self._since = session.lag.seconds + session.reader.position / session.rate
            self._drift_seconds += session.lag.drift_seconds
            self._early += round(session.early_seconds * self.sample_rate)
            self._told, self._noted = 0, set()
