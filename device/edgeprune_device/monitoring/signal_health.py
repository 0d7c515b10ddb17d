"""Whether the sound is sound: what makes a window invalid, and what a person should be told.

    segments.py  what is wrong with a second
    Health       seconds of stream time, counted from the last gap: spans to leave out, alarms

A microphone that is dead and goes on "recording" is the failure of the field. Hard faults make
windows invalid (not observed, in the coverage): samples that are no numbers at once, a second that
is mostly clipped at once, and after some seconds zeros, a stuck value, a block over and over, or a
mere offset. Soft ones (now and then clipped, offset, very low, a narrow band, only hum) are
notices and nothing more. Each alarm is raised once and cleared once.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.monitoring.alarms import Alarm, Trouble
from edgeprune_device.monitoring.signal_faults import (
    bad_samples,
    faults_of,
    power_of,
    spectrum_faults,
)
from edgeprune_device.stream import Notice

SEGMENT_SECONDS = 1
SPECTRUM_SEGMENTS = 60
LEAST_SHARE = 0.25  # of a second: a shorter rest before a gap is not judged
KEPT_SECONDS = 600  # spans that a window may still ask for
CELLS_A_SECOND = 100  # samples that are no numbers are noted in cells of this many a second


@dataclass(frozen=True)
class Flag:
    """A stretch that was not observed."""

    first: int
    """Samples of stream time, half-open."""
    last: int
    reason: str
    """For the coverage, such as ``digital silence``."""
    kind: str
    """Of its alarm, such as ``health-silent``."""


@dataclass(frozen=True)
class Check:
    """A fault: when it counts, and what is said."""

    reason: str
    hard: bool
    """Windows over it are invalid."""
    after_seconds: float
    calm_seconds: float
    text: str
    """What the microphone has given."""


CHECKS = {
    "not-finite": Check(
        "not finite", True, 0, 10, "samples that are no numbers, or far too large."
    ),
    "silent": Check("digital silence", True, 5, 10, "nothing but zeros: is it muted or dead?"),
    "stuck": Check("stuck", True, 5, 10, "one and the same value: is it dead?"),
    "repeated": Check("repeated", True, 5, 10, "one block over and over: its driver hangs."),
    "dc": Check("offset", True, 5, 10, "an offset and nothing else: is it dead?"),
    "clipped": Check("clipped", True, 0, 10, "mostly clipped samples: lower the gain."),
    "clipping": Check("clipping", False, 3, 60, "clipped samples: lower the gain."),
    "offset": Check("offset", False, 10, 60, "an offset of 2 % of full scale or more."),
    "low": Check("low", False, 600, 60, "less than -90 dB of full scale: raise the gain."),
    "narrow": Check("narrow", False, 60, 60, "nothing above a sharp edge in its lower half band."),
    "hum": Check("hum", False, 60, 60, "hardly anything but mains hum: is its capsule dead?"),
}
SECOND = tuple(kind for kind in CHECKS if kind not in ("not-finite", "narrow", "hum"))
MINUTE = ("narrow", "hum")


class Health:
    """Judges a stream as it comes, in any chunks.

    Parameters
    ----------
    rate : int
        Of the stream, in Hz.

    """

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.position = 0
        """End of what was heard so far, in samples of stream time."""
        self._size = rate * SEGMENT_SECONDS
        self._held: list[NDArray[np.float32]] = []  # of the second that is not full
        self._start = 0  # of that second
        self._before = np.empty(0, dtype=np.float32)  # the second before it
        self._power = np.zeros(0)  # summed over the minute so far
        self._seconds = 0  # in that sum
        self._alarms = {
            kind: Alarm(
                Trouble(
                    f"health-{kind}",
                    f"For {{amount}} s the microphone has given {check.text}"
                    f"{'' if check.text.endswith('?') else '.'}",
                    f"The microphone is in order again: {check.reason} for {{amount}} s.",
                    round(check.after_seconds * rate), round(check.calm_seconds * rate),
                ),
                rate,
            )
            for kind, check in CHECKS.items()
        }  # fmt: skip
        self._waiting: dict[str, list[Flag]] = {kind: [] for kind in CHECKS}
        self._cells: deque[tuple[int, int]] = deque()  # first and last bad sample of a cell
        self._flags: deque[tuple[int, Flag]] = deque()  # and where it was known
        self._notices: list[Notice] = []

    @property
    def due(self) -> int:
        """Samples that are missing until the second at hand is full, at least 1."""
        return self._start + self._size - self.position

    def push(self, first: int, samples: NDArray[np.float32]) -> list[Flag]:
        """Take the next samples, before they are cleaned; return the stretches found bad.

        Parameters
        ----------
        first : int
            Of them, in stream time; what lies between the last and this is a gap.
        samples : array (n,)

        Returns
        -------
        list of Flag
            Of the seconds that became full, and of those before that wait for a long enough row.
            Whether a window counts is what ``invalid`` says.

        """
        found = self.gap(first) if first != self.position else []
        self._forget(first)
        self._note_cells(samples)
        while len(samples):
            part, samples = np.split(samples, [self.due])
            self._held.append(part)
            self.position += len(part)
            if self.position == self._start + self._size:
                found += self._judge()
        return found

    def gap(self, position: int) -> list[Flag]:
        """End the stretch; the next begins at ``position``. Returns flags of its rest."""
        found = self.flush()
        self._start = self.position = position
        self._before = np.empty(0, dtype=np.float32)
        return found

    def flush(self) -> list[Flag]:
        """Judge the second that is not full, if there is enough of it."""
        enough = self.position - self._start >= LEAST_SHARE * self._size
        found = self._judge() if enough else []
        self._held, self._start = [], self.position
        return found

    def invalid(self, first: int, last: int) -> str:
        """Return why a window was not observed; empty if nothing is known against it.

        What is found out after the window's end does not count, so that the answer is the same
        for any chunks: a microphone that dies is found out some seconds later. Ask when exactly
        as much was heard as the window holds: a second that is not over counts as far as it came.
        """
        for begin, end in reversed(self._cells):
            if end <= first:
                break
            if begin < last:
                return CHECKS["not-finite"].reason
        for known, flag in self._flags:
            if known <= last and flag.first < last and first < flag.last:
                return flag.reason
        return self._going_on() if last == self.position else ""

    def _going_on(self) -> str:
        """Return the fault of the last second that the one at hand has, too, as far as it came."""
        counting = [kind for kind in SECOND if CHECKS[kind].hard and self._alarms[kind].counts]
        if not counting or not self._held or self.position == self._start:
            return ""
        faults = faults_of(np.concatenate(self._held), self._before)
        return next((CHECKS[kind].reason for kind in counting if kind in faults), "")

    def notices(self) -> list[Notice]:
        """Return the alarms raised and cleared since the last call."""
        notices, self._notices = self._notices, []
        return notices

    @staticmethod
    def clean(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return samples with 0 in place of what is no number or far out of range."""
        bad = bad_samples(samples)
        return np.where(bad, np.float32(0), samples) if bad.any() else samples

    def _judge(self) -> list[Flag]:
        """Judge the second at hand, full or not, and begin the next."""
        segment = np.concatenate(self._held)
        first, last = self._start, self._start + len(segment)
        bad = bad_samples(segment)
        segment = np.where(bad, np.float32(0), segment) if bad.any() else segment
        faults = set() if bad.all() else set(faults_of(segment, self._before))
        if bad.any():
            faults = {"not-finite"} | (faults - {"silent", "stuck", "repeated"})
        whole = len(segment) == self._size
        if whole and not bad.any() and "silent" not in faults:
            self._add_power(segment, last)
        found = []
        for kind in ("not-finite", *SECOND):
            span = (first, last)
            if kind == "not-finite" and bad.any():
                where = np.flatnonzero(bad)
                span = (first + int(where[0]), first + int(where[-1]) + 1)
            found += self._take(kind, kind in faults, (first, last), span)
        self._held, self._start = [], last
        self._before = segment if whole else np.empty(0, dtype=np.float32)
        return found

    def _take(
        self, kind: str, bad: bool, heard: tuple[int, int], span: tuple[int, int]
    ) -> list[Flag]:
        """Tell an alarm; return the flags that count from now on."""
        alarm, check = self._alarms[kind], CHECKS[kind]
        notice = alarm.take(bad, *heard)
        if notice is not None:
            self._notices.append(notice)
        if not bad or not check.hard:
            self._waiting[kind] = []
            return []
        self._waiting[kind].append(Flag(*span, check.reason, f"health-{kind}"))
        if not alarm.counts:
            return []
        found, self._waiting[kind] = self._waiting[kind], []
        if kind != "not-finite":  # whose samples are in the cells
            self._flags.extend((heard[1], flag) for flag in found)
        return found

    def _add_power(self, segment: NDArray[np.float32], last: int) -> None:
        power = power_of(segment)
        self._power = self._power + power if self._seconds else power
        self._seconds += 1
        if self._seconds == SPECTRUM_SEGMENTS:
            faults = spectrum_faults(self._power / self._seconds, self.rate)
            self._seconds = 0
            for kind in MINUTE:
                span = (last - SPECTRUM_SEGMENTS * self._size, last)
                self._take(kind, kind in faults, span, span)

    def _note_cells(self, samples: NDArray[np.float32]) -> None:
        """Remember the first and the last bad sample of each cell."""
        where = np.flatnonzero(bad_samples(samples)) + self.position
        size = max(1, self.rate // CELLS_A_SECOND)
        for cell in np.unique(where // size).tolist():
            within = where[where // size == cell]
            first, last = int(within[0]), int(within[-1]) + 1
            if self._cells and self._cells[-1][0] // size == cell:
                first = self._cells.pop()[0]
            self._cells.append((first, last))

    def _forget(self, position: int) -> None:
        oldest = position - KEPT_SECONDS * self.rate
        while self._cells and self._cells[0][1] < oldest:
            self._cells.popleft()
        while self._flags and self._flags[0][1].last < oldest:
            self._flags.popleft()
