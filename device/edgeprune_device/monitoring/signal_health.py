"""Judges whether the signal is healthy: which windows are invalid, and which alarms to raise.

    signal_faults  the faults of a second
    Health         seconds of stream time, counted from the last gap: spans to leave out, alarms

A dead microphone that keeps "recording" is the typical failure in the field. Hard faults make
windows invalid (not observed, in the coverage): samples that are not finite or a second that is
mostly clipped at once; and after some seconds only zeros, a stuck value, a repeated block, or only
an offset. Soft faults (some clipping, offset, very low level, a narrow band, only hum) only raise
notices. Each alarm is raised once and cleared once.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.monitoring.alarms import Alarm, AlarmSpec
from edgeprune_device.monitoring.signal_faults import (
    bad_samples,
    faults_of,
    power_of,
    spectrum_faults,
)
from edgeprune_device.stream import Notice

SEGMENT_SECONDS = 1
SPECTRUM_SEGMENTS = 60
LEAST_SHARE = 0.25  # of a second: a shorter rest before a gap is not checked
KEPT_SECONDS = 600  # how long spans are remembered for later windows
CELLS_A_SECOND = 100  # cells per second in which samples that are not finite are noted


@dataclass(frozen=True)
class Flag:
    """A span of stream time that was not observed."""

    first: int
    """First and last sample of stream time, half-open."""
    last: int
    reason: str
    """Reason for the coverage, such as ``digital silence``."""
    kind: str
    """Kind of its alarm, such as ``health-silent``."""


@dataclass(frozen=True)
class Check:
    """A fault: when it counts, and the text of its alarm."""

    reason: str
    hard: bool
    """Whether windows that overlap it are invalid."""
    after_seconds: float
    calm_seconds: float
    text: str
    """What the input has delivered; end of the alarm's sentence."""


CHECKS = {
    "not-finite": Check(
        "not finite", True, 0, 10, "samples that are not finite, or far out of range"
    ),
    "silent": Check("digital silence", True, 5, 10, "only zeros: is it muted or defective?"),
    "stuck": Check("stuck", True, 5, 10, "one constant value: is it defective?"),
    "repeated": Check("repeated", True, 5, 10, "the same block repeatedly: its driver hangs"),
    "dc": Check("offset", True, 5, 10, "a DC offset and no signal: is it defective?"),
    "clipped": Check("clipped", True, 0, 10, "mostly clipped samples: lower the gain"),
    "clipping": Check("clipping", False, 3, 60, "clipped samples: lower the gain"),
    "offset": Check("offset", False, 10, 60, "a DC offset of 2 % of full scale or more"),
    "low": Check("low", False, 600, 60, "a level below -90 dBFS: raise the gain"),
    "narrow": Check(
        "narrow", False, 60, 60, "no signal above a sharp edge in the lower half of its band"
    ),
    "hum": Check("hum", False, 60, 60, "almost only mains hum: is its capsule defective?"),
}
SECOND = tuple(kind for kind in CHECKS if kind not in ("not-finite", "narrow", "hum"))
MINUTE = ("narrow", "hum")


class SignalHealth:
    """Checks a stream as it arrives, in any chunks.

    Parameters
    ----------
    rate : int
        Sample rate of the stream in Hz.

    """

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.position = 0
        """End of the audio received so far, in samples of stream time."""
        self._size = rate * SEGMENT_SECONDS
        self._held: list[NDArray[np.float32]] = []  # of the current, incomplete second
        self._start = 0  # start of that second
        self._before = np.empty(0, dtype=np.float32)  # the second before it
        self._power = np.zeros(0)  # summed over the minute so far
        self._seconds = 0  # in that sum
        self._alarms = {
            kind: Alarm(
                AlarmSpec(
                    f"health-{kind}",
                    f"For {{amount}} s the input has delivered {check.text}"
                    f"{'' if check.text.endswith('?') else '.'}",
                    f"The signal is normal again ({check.reason} for {{amount}} s).",
                    round(check.after_seconds * rate), round(check.calm_seconds * rate),
                ),
                rate,
            )
            for kind, check in CHECKS.items()
        }  # fmt: skip
        self._waiting: dict[str, list[Flag]] = {kind: [] for kind in CHECKS}
        self._cells: deque[tuple[int, int]] = deque()  # first and last bad sample of a cell
        self._flags: deque[tuple[int, Flag]] = deque()  # and from which sample on it was known
        self._notices: list[Notice] = []

    @property
    def due(self) -> int:
        """Number of samples missing until the current second is complete, at least 1."""
        return self._start + self._size - self.position

    def push(self, first: int, samples: NDArray[np.float32]) -> list[Flag]:
        """Take the next samples, before they are cleaned; return the spans found bad.

        Parameters
        ----------
        first : int
            Position of the first sample in stream time; a distance from the last one is a gap.
        samples : array (n,)

        Returns
        -------
        list of Flag
            Bad spans of the seconds that were completed, and of earlier ones that have now lasted
            long enough. Use ``invalid`` to decide about a window.

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
        """End the current span; the next begins at ``position``. Returns the flags of its rest."""
        found = self.flush()
        self._start = self.position = position
        self._before = np.empty(0, dtype=np.float32)
        return found

    def flush(self) -> list[Flag]:
        """Check the incomplete second, if there is enough of it."""
        enough = self.position - self._start >= LEAST_SHARE * self._size
        found = self._judge() if enough else []
        self._held, self._start = [], self.position
        return found

    def invalid(self, first: int, last: int) -> str:
        """Return why a window was not observed; empty if no fault is known.

        Faults found after the window's end do not count, so that the result is the same for any
        chunks: a dying microphone is found some seconds later. Call it when exactly the audio up to
        the window's end was received: an incomplete second counts as far as it has arrived.
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
        """Return the fault of the last second that the current, incomplete second has as well."""
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
        """Return the samples with 0 in place of those not finite or far out of range."""
        bad = bad_samples(samples)
        return np.where(bad, np.float32(0), samples) if bad.any() else samples

    def _judge(self) -> list[Flag]:
        """Check the current second, complete or not, and begin the next."""
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
        """Update an alarm; return the flags that count from now on."""
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
        if kind != "not-finite":  # its samples are in the cells
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
