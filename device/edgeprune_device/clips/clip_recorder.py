"""Sound kept around detections: a ring of the last seconds, and a FLAC file for each event.

    hear(first, samples)   what the model hears, as it comes; gap(position) where samples were lost
    want(id, label, ...)   an event was reported: keep it, with its pre- and post-roll
    ready(blocked, to)     write what is complete and may be kept; return it for the journal
    flush(blocked)         the stream has ended

A clip holds the samples the model heard, rounded to 16 bits, at the places its tags say, however
the stream was cut into blocks. It never spans a gap: there it begins or ends, and ``cut`` says so.
Overlapping events have a file each. A clip waits until every window that covers it was judged, so
that a voice in its post-roll is known; what is not known counts as a voice.

Writing is tried at once and never waited for: a clip that the disk does not take is tried again,
once a second, while the loop goes on, and given up after half a minute. What is given up is counted.
The last megabyte of a disk is left to the journal.
"""

from __future__ import annotations

import errno
import os
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.clips.clip_files import (
    MOST_FLAC_RATE,
    clip_path,
    remove_parts,
    to_flac,
    write_clip,
)
from edgeprune_device.clips.disk import Disk, free_bytes
from edgeprune_device.clips.recent_audio import RecentAudio
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.settings import Clips as ClipSettings
from edgeprune_device.stream import Notice

Blocked = Callable[[int, int], bool | None]
"""Whether a span of samples holds a voice; None where that is not known."""
RETRY_SECONDS = 1.0
PATIENCE_SECONDS = 30.0
MOST_WAITING_BYTES = 16_000_000
DELAY_SECONDS = 60.0
RESERVE_BYTES = 1_000_000
BEGINS, ENDS = "no sound before", "no sound after"  # a gap, or the stream's begin or end
LONG, LATE = "too long", "begins late"
THE_END = 1 << 62


@dataclass(frozen=True)
class ClipInProgress:
    """A clip that is on the disk."""

    id: str
    """Of its detection."""
    label: str
    path: str
    """Relative to the journal's folder."""
    first: int
    """Stream sample it begins with."""
    samples: int
    bytes: int
    utc: datetime | None
    """Of its first sample; None of a sound file."""
    score: float
    cut: tuple[str, ...]
    """Why it is not as long as was asked for; empty if it is."""


@dataclass
class _Wanted:
    id: str
    label: str
    first: int  # of the event
    last: int
    begin: int  # of the clip
    end: int
    score: float
    utc: datetime | None  # of the event
    cut: tuple[str, ...]
    stretch: int  # that was going on when it was asked for


@dataclass
class _Waiting:
    clip: ClipInProgress
    data: bytes
    since: float


class ClipRecorder:
    """Keeps clips of one session; the journal makes the folder, before the first sound.

    Parameters
    ----------
    settings : settings.Clips
        With ``save`` false nothing is held and nothing is written.
    folder : Path
        The journal's.
    rate : int
        Hz, the model's.
    digest : str
        Of the bundle, for the tags.
    delay_seconds : float
        By how much a detection may be reported later than its event's end: window, smoothing and
        merging. The sound of so long is held, and of one clip.
    reserve_bytes : int
        Of the disk, that no clip takes: the journal may still write.
    clock : callable
        Monotonic seconds.

    Raises
    ------
    EdgepruneError
        Clips are wanted at a rate that FLAC does not have.

    """

    def __init__(
        self, settings: ClipSettings, folder: Path, rate: int, *, digest: str = "",
        delay_seconds: float = DELAY_SECONDS, reserve_bytes: int = RESERVE_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        if settings.save and rate > MOST_FLAC_RATE:
            raise EdgepruneError(
                f"Clips cannot be kept at {rate} Hz: FLAC ends at {MOST_FLAC_RATE} Hz.",
                "Set save = false in [clips].",
            )
        self.settings, self.folder, self.rate, self.digest = settings, folder, rate, digest
        self.counts: Counter[str] = Counter()
        """``wanted``, ``written``, ``withheld`` (a voice, or not known), ``lost`` (the disk) and
        ``missed`` (the sound was gone)."""
        self._clock, self._reserve = clock, reserve_bytes
        self._before, self._after, self._longest = (
            round(seconds * rate) for seconds in
            (settings.before_seconds, settings.after_seconds, settings.longest_seconds)
        )  # fmt: skip
        self._held = self._before + self._longest + self._after + round(delay_seconds * rate)
        self._ring = RecentAudio()
        self._wanted: list[_Wanted] = []
        self._waiting: deque[_Waiting] = deque()
        self._tried = -float("inf")
        self._notices: list[Notice] = []
        self._lost_before = 0  # when the disk last took a clip
        self._disk: Disk | None = None  # from the first sound on, when the journal has its folder

    @property
    def waiting(self) -> int:
        """Clips that the disk has not taken yet: a reason to make room at once."""
        return len(self._waiting)

    def push(self, first: int, samples: NDArray[np.float32]) -> None:
        """Take the next samples of the stream, of which ``first`` is the place of the first.

        Raises
        ------
        ValueError
            They lie before what was heard.

        """
        if self.settings.save:
            if self._disk is None:
                self._disk = Disk(self.folder)
                remove_parts(self.folder)
            self._ring.push(first, samples)
            # Twice what a clip needs, for a loop that does not ask for what is ready.
            self._ring.drop(self._ring.position - len(samples) - 2 * self._held)

    def gap(self, position: int) -> None:
        """Note that the stream goes on at ``position`` and that what lies before it was lost."""
        if self.settings.save:
            self._ring.gap(position)

    def want(
        self, id: str, label: str, first: int, last: int, *, score: float = 0.0,
        utc: datetime | None = None,
    ) -> None:  # fmt: skip
        """Keep an event, of samples ``first`` to ``last`` (exclusive), which began at ``utc``.

        Of an event over ``longest_seconds`` the end is kept: it is reported when it is over.
        """
        if not self.settings.save:
            return
        self.counts["wanted"] += 1
        cut = (LONG,) if last - first > self._longest else ()
        begin = max(first, last - self._longest) - self._before
        self._wanted.append(
            _Wanted(id, label, first, last, begin, last + self._after, score, utc, cut,
                    self._ring.stretch)
        )  # fmt: skip

    def ready(self, blocked: Blocked | None, judged_to: int) -> list[ClipInProgress]:
        """Write the clips whose last sample has come and was judged; call it after every window.

        Parameters
        ----------
        blocked : callable or None
            Asked once for each clip; True or None keeps it from being written. None: no rule.
        judged_to : int
            The end of the last window that was judged or skipped (after a gap, where the sound
            goes on), less the margin of the rule: ``blocked`` knows all it ever will of what ends
            by then. Never the end of a block that was heard and not cut into windows yet.

        Returns
        -------
        list of ClipInProgress
            What is on the disk now, for the journal.

        """
        left = []
        for wanted in self._wanted:
            if not self._complete(wanted, blocked, judged_to):
                left.append(wanted)
        self._wanted = left
        oldest = min((wanted.begin for wanted in left), default=THE_END)
        self._ring.drop(min(oldest, judged_to - self._held))
        return self._write(PATIENCE_SECONDS)

    def flush(self, blocked: Blocked | None) -> list[ClipInProgress]:
        """End the stream: write what is held, complete or not; what fails now is lost."""
        self._ring.gap(self._ring.position)
        for wanted in self._wanted:
            self._complete(wanted, blocked, THE_END)
        self._wanted, self._tried = [], -float("inf")
        return self._write(-1.0)

    def notices(self) -> list[Notice]:
        """Return what happened since the last call."""
        held, self._notices = self._notices, []
        return held

    def _complete(self, wanted: _Wanted, blocked: Blocked | None, judged_to: int) -> bool:
        """Return whether a clip is done with; encode it if all of it is there and may be kept."""
        ring, over = self._ring, judged_to == THE_END
        if not over and ring.stretch == wanted.stretch and ring.position < wanted.end:
            return False
        found = ring.stretch_of(wanted.begin + self._before, wanted.last)
        if found is None:
            if not over and wanted.last > ring.position:  # it is still to come
                return False
            self._miss(wanted)
            return True
        stretch, begin, end = found
        if end < wanted.end and stretch == ring.stretch:
            return False
        if min(end, wanted.end) > judged_to:
            return False
        first, samples = ring.read(stretch, max(wanted.begin, begin), wanted.end)
        if blocked is not None and blocked(first, first + len(samples)) is not False:
            self.counts["withheld"] += 1
            return True
        cut = (
            *wanted.cut, *([LATE] if first > max(wanted.begin, begin) else []),
            *([BEGINS] if begin > wanted.begin else []),
            *([ENDS] if end < wanted.end else []),
        )  # fmt: skip
        self._keep(wanted, first, samples, cut)
        return True

    def _miss(self, wanted: _Wanted) -> None:
        self.counts["missed"] += 1
        if self.counts["missed"] == 1:
            self._notices.append(
                Notice(
                    "clip-missed",
                    f"The sound at sample {wanted.first} was not held any more; a clip is missing.",
                )
            )

    def _keep(
        self, wanted: _Wanted, first: int, samples: NDArray[np.int16], cut: tuple[str, ...]
    ) -> None:
        utc = wanted.utc and wanted.utc + timedelta(seconds=(first - wanted.first) / self.rate)
        tags: dict[str, Any] = {
            "id": wanted.id, "label": wanted.label, "score": round(wanted.score, 4),
            "utc": utc and utc.isoformat(timespec="milliseconds"), "bundle_digest": self.digest,
            "first_sample": first, "samples": len(samples), "rate": self.rate,
            "event": [wanted.first, wanted.last], "cut": list(cut),
        }  # fmt: skip
        data = to_flac(samples, self.rate, tags)
        path = clip_path(wanted.label, wanted.id, wanted.utc, wanted.first / self.rate)
        clip = ClipInProgress(wanted.id, wanted.label, path, first, len(samples), len(data), utc,
                              wanted.score, cut)  # fmt: skip
        if not self._waiting:
            self._tried = -float("inf")
        self._waiting.append(_Waiting(clip, data, self._clock()))

    def _write(self, patience_seconds: float) -> list[ClipInProgress]:
        """Try to write what waits, once a second; give up what has waited too long."""
        now = self._clock()
        if not self._waiting or now - self._tried < RETRY_SECONDS:
            return []
        self._tried = now
        written, left, reason = [], deque[_Waiting](), ""
        for waiting in self._waiting:
            try:
                self._check_room(len(waiting.data))
                write_clip(self.folder, waiting.clip.path, waiting.data)
                written.append(waiting.clip)
            except OSError as error:
                reason = error.strerror or str(error)
                left.append(waiting)
        self._give_up(left, now - patience_seconds, reason)
        self._waiting = left
        self.counts["written"] += len(written)
        if written and (lost := self.counts["lost"] - self._lost_before):
            self._lost_before = self.counts["lost"]
            text = f"Clips can be written again; {lost} were lost."
            self._notices.append(Notice("clips-back", text, {"lost": lost}))
        return written

    def _check_room(self, size: int) -> None:
        if self._disk is None or not self._disk.same():
            raise OSError("the folder is on another disk than it was")
        if free_bytes(self.folder) - size < self._reserve:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _give_up(self, left: deque[_Waiting], before: float, reason: str) -> None:
        """Give up the oldest: what has waited too long, and what is too much to hold."""
        held = sum(len(waiting.data) for waiting in left)
        while left and (left[0].since < before or held > MOST_WAITING_BYTES):
            held -= len(left.popleft().data)
            self.counts["lost"] += 1
            if self.counts["lost"] == self._lost_before + 1:
                text = f"Clips cannot be written to {self.folder} and are lost: {reason}."
                self._notices.append(Notice("clips-lost", text, {"reason": reason}))
