"""Records audio around detections: a buffer of the last seconds, and a FLAC file for each event.

    push(first, samples)   the model's input as it arrives; gap(position) after lost samples
    want(id, label, ...)   an event was reported: keep it, with audio before and after
    ready(blocked, to)     write what is complete and allowed; return it for the journal
    flush(blocked)         the stream has ended

A clip has the model's input samples, rounded to 16 bits, at the positions in its tags, independent
of block sizes. It never spans a gap: there it begins or ends, and ``cut`` gives the reason.
Overlapping events have a file each. A clip waits until every window that covers it was judged, so
that speech in its post-roll is known; unknown counts as speech.

Writing never blocks: a clip that cannot be written is tried again once a second while the loop
continues, and dropped after half a minute. Dropped clips are counted. The last megabyte of a disk
is left to the journal.
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
"""Whether a span of samples has speech; None if unknown."""
RETRY_SECONDS = 1.0
PATIENCE_SECONDS = 30.0
MOST_WAITING_BYTES = 16_000_000
DELAY_SECONDS = 60.0
RESERVE_BYTES = 1_000_000
BEGINS, ENDS = "no sound before", "no sound after"  # a gap, or the start or end of the stream
LONG, LATE = "too long", "begins late"
THE_END = 1 << 62


@dataclass(frozen=True)
class ClipInProgress:
    """A clip that was written."""

    id: str
    """Id of its detection."""
    label: str
    path: str
    """Relative to the journal's folder."""
    first: int
    """First sample in stream time."""
    samples: int
    bytes: int
    utc: datetime | None
    """Time of its first sample; None for a sound file."""
    score: float
    cut: tuple[str, ...]
    """Reasons why it is shorter than wanted; empty if it is not."""


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
    stretch: int  # current one when the clip was requested


@dataclass
class _Waiting:
    clip: ClipInProgress
    data: bytes
    since: float


class ClipRecorder:
    """Records the clips of one session; the journal creates the folder before the first audio.

    Parameters
    ----------
    settings : settings.Clips
        With ``save`` false nothing is buffered and nothing is written.
    folder : Path
        Folder of the journal.
    rate : int
        Sample rate of the model in Hz.
    digest : str
        Digest of the bundle, for the tags.
    delay_seconds : float
        Longest time from an event's end to its report: window, smoothing and merging. Audio of
        this duration plus one clip is buffered.
    reserve_bytes : int
        Disk space that no clip uses, so that the journal can still be written.
    clock : callable
        Returns monotonic seconds.

    Raises
    ------
    EdgepruneError
        Clips are wanted at a sample rate that FLAC does not support.

    """

    def __init__(
        self, settings: ClipSettings, folder: Path, rate: int, *, digest: str = "",
        delay_seconds: float = DELAY_SECONDS, reserve_bytes: int = RESERVE_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        if settings.save and rate > MOST_FLAC_RATE:
            raise EdgepruneError(
                f"Clips cannot be saved at {rate} Hz: FLAC supports up to {MOST_FLAC_RATE} Hz.",
                "Set save = false in [clips].",
            )
        self.settings, self.folder, self.rate, self.digest = settings, folder, rate, digest
        self.counts: Counter[str] = Counter()
        """Clips by outcome: ``wanted``, ``written``, ``withheld`` (speech, or unknown), ``lost``
        (disk failure) and ``missed`` (the audio was no longer buffered)."""
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
        self._lost_before = 0  # when a clip was last written
        self._disk: Disk | None = None  # from the first audio on, when the journal's folder exists

    @property
    def waiting(self) -> int:
        """Number of clips not written yet: a reason to free disk space at once."""
        return len(self._waiting)

    def push(self, first: int, samples: NDArray[np.float32]) -> None:
        """Take the next samples of the stream; ``first`` is the position of the first one.

        Raises
        ------
        ValueError
            They begin before the current position.

        """
        if self.settings.save:
            if self._disk is None:
                self._disk = Disk(self.folder)
                remove_parts(self.folder)
            self._ring.push(first, samples)
            # Twice what a clip needs, in case ``ready`` is not called.
            self._ring.drop(self._ring.position - len(samples) - 2 * self._held)

    def gap(self, position: int) -> None:
        """Note that the stream continues at ``position`` and everything before it was lost."""
        if self.settings.save:
            self._ring.gap(position)

    def want(
        self, id: str, label: str, first: int, last: int, *, score: float = 0.0,
        utc: datetime | None = None,
    ) -> None:  # fmt: skip
        """Keep an event of samples ``first`` to ``last`` (exclusive) that began at ``utc``.

        Of an event over ``longest_seconds`` the last part is kept: it is reported when it is over.
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
        """Write the clips whose last sample has arrived and was judged; call it after every window.

        Parameters
        ----------
        blocked : callable or None
            Called once for each clip; True or None prevents it from being written. None: no rule.
        judged_to : int
            End of the last window that was judged or skipped (after a gap, where the audio
            continues), less the margin of the rule: ``blocked`` then knows everything it will know
            about a clip that ends by then. Never the end of a block not yet cut into windows.

        Returns
        -------
        list of ClipInProgress
            The clips that were written now, for the journal.

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
        """End the stream: write all clips, complete or not; those that fail now are lost."""
        self._ring.gap(self._ring.position)
        for wanted in self._wanted:
            self._complete(wanted, blocked, THE_END)
        self._wanted, self._tried = [], -float("inf")
        return self._write(-1.0)

    def notices(self) -> list[Notice]:
        """Return the notices since the last call."""
        held, self._notices = self._notices, []
        return held

    def _complete(self, wanted: _Wanted, blocked: Blocked | None, judged_to: int) -> bool:
        """Return whether a clip is finished; encode it if it is complete and allowed."""
        ring, over = self._ring, judged_to == THE_END
        if not over and ring.stretch == wanted.stretch and ring.position < wanted.end:
            return False
        found = ring.stretch_of(wanted.begin + self._before, wanted.last)
        if found is None:
            if not over and wanted.last > ring.position:  # it has not arrived yet
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
                    f"The audio at sample {wanted.first} is no longer buffered; a clip is missing.",
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
        """Try to write the waiting clips, once a second; drop those that have waited too long."""
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
            raise OSError("the folder is no longer on the same disk")
        if free_bytes(self.folder) - size < self._reserve:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _give_up(self, left: deque[_Waiting], before: float, reason: str) -> None:
        """Drop the oldest: those that have waited too long, and those beyond the memory limit."""
        held = sum(len(waiting.data) for waiting in left)
        while left and (left[0].since < before or held > MOST_WAITING_BYTES):
            held -= len(left.popleft().data)
            self.counts["lost"] += 1
            if self.counts["lost"] == self._lost_before + 1:
                text = f"Clips cannot be written to {self.folder} and are lost: {reason}."
                self._notices.append(Notice("clips-lost", text, {"reason": reason}))
