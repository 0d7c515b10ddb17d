"""Combines windows into events: confirmation, merging, refractory time; no clock and no files.

    Confirm   which windows count: N of the last M to begin, a lower threshold to continue
    Events    counting windows to events: one at a time per stream; merging; the refractory time

Later windows never change what was already returned: a stream gives the same events at any pace.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace

TIE_SECONDS = 1e-6
"""Times closer than this are equal: less than a sample, more than a float loses in months, so that
a distance of exactly a window, or of the refractory time, is recognised anywhere in the stream."""


@dataclass(frozen=True)
class Detection:
    """One event."""

    label: str
    """Detected label; of a transcript, its text."""
    score: float
    start_seconds: float
    """Start of its highest-scoring window, in stream time."""
    end_seconds: float
    from_seconds: float = math.nan
    """Start of the event's first window; by default ``start_seconds``."""
    to_seconds: float = math.nan
    """End of its last window before it was reported; by default ``end_seconds``."""

    def __post_init__(self) -> None:
        """Default to the times of the single window."""
        if math.isnan(self.from_seconds):
            object.__setattr__(self, "from_seconds", self.start_seconds)
        if math.isnan(self.to_seconds):
            object.__setattr__(self, "to_seconds", self.end_seconds)


class Confirmation:
    """Decides which windows of one stream count.

    A label begins with the window at which it is over its threshold and was so in ``needed`` of the
    last ``of`` windows; it continues, without a break, while it is over its released threshold.

    Parameters
    ----------
    needed, of : int
        N and M, 1 <= N <= M; with 1 and 1 every window over the threshold counts.

    """

    def __init__(self, needed: int = 1, of: int = 1) -> None:
        self.needed = needed
        self._recent: deque[Detection | None] = deque(maxlen=of)  # over the threshold
        self._unused: list[Detection] = []  # of those, the windows not used by an event yet
        self._on: set[str] = set()  # labels of the current run

    @property
    def earliest_seconds(self) -> float:
        """Start of the first window with which an event may still begin; infinity if none."""
        return self._unused[0].start_seconds if self._unused else math.inf

    def take(self, window: Detection, over: bool) -> Detection | None:
        """Take a window that is over its label's released threshold.

        Parameters
        ----------
        window : Detection
        over : bool
            Whether it is over the full threshold as well.

        Returns
        -------
        Detection or None
            The window that counts: the highest-scoring of those that confirmed it, with the times
            from the first of them to this one; None if it does not count.

        """
        self._remember(window if over else None)
        label = window.label
        votes = sum(seen is not None and seen.label == label for seen in self._recent)
        if label not in self._on and not (over and votes >= self.needed):
            self._on.clear()
            return None
        self._on.add(label)
        confirming = [seen for seen in self._unused if seen.label == label] or [window]
        self._unused = [seen for seen in self._unused if seen.label != label]
        best = max(confirming, key=lambda seen: seen.score)
        if len(confirming) == 1:
            return best
        return replace(
            best, from_seconds=confirming[0].start_seconds, to_seconds=window.end_seconds
        )

    def miss(self) -> None:
        """Take a window that is below its released threshold."""
        self._remember(None)
        self._on.clear()

    def flush(self) -> None:
        """Forget the windows so far, because the next one does not follow them directly."""
        self._recent.clear()
        self._unused.clear()
        self._on.clear()

    def _remember(self, window: Detection | None) -> None:
        full = len(self._recent) == self._recent.maxlen
        if full and self._unused and self._unused[0] is self._recent[0]:
            del self._unused[0]
        self._recent.append(window)
        if window is not None:
            self._unused.append(window)


class Events:
    """One stream of events, with at most one in progress.

    Parameters
    ----------
    refractory_seconds : float
        Time for which a reported label is not reported again.
    merge_seconds : float
        Events of a label closer than this are merged, and reported when no other can be merged with
        them; 0: each event is reported as soon as it ends.
    longest_seconds : float
        Length of an event at which merging ends, so that an endless event is reported as well.

    """

    def __init__(
        self, refractory_seconds: float, merge_seconds: float = 0.0, longest_seconds: float = 60.0
    ) -> None:
        self.refractory_seconds = refractory_seconds
        self.merge_seconds = merge_seconds
        self.longest_seconds = longest_seconds
        self._best: Detection | None = None  # highest-scoring window of the current event
        self._from = self._to = 0.0  # of that event
        self._held: dict[str, Detection] = {}  # of each label, the event that may still be merged
        self._last_end: dict[str, float] = {}  # of each label that was reported

    def take(
        self, start_seconds: float, found: Detection | None, earliest_seconds: float = math.inf
    ) -> list[Detection]:
        """Take the next window, if it counts; return the events that ended with it.

        Parameters
        ----------
        start_seconds : float
            Start of the window in stream time.
        found : Detection or None
            As from ``Confirmation.take``.
        earliest_seconds : float
            Start of earlier windows that may still count (``Confirmation.earliest_seconds``).

        """
        best = self._best
        if best is None and found is None and not self._held:
            return []
        done = []
        if best is not None and (found is None or start_seconds >= best.end_seconds - TIE_SECONDS):
            done, best = self._ended(best), None
        if found is not None:
            if best is None:
                best, self._from, self._to = found, found.from_seconds, found.to_seconds
            else:
                best = found if found.score > best.score else best
                self._from = min(self._from, found.from_seconds)
                self._to = max(self._to, found.to_seconds)
        self._best = best
        if self._held:
            going = self._from if best is not None else math.inf
            done += self._ripe(min(start_seconds, earliest_seconds, going))
        return done

    def flush(self) -> list[Detection]:
        """Return the current event and those held for merging."""
        best, self._best = self._best, None
        done = self._ended(best) if best is not None else []
        return done + self._ripe(math.inf)

    def _ended(self, best: Detection) -> list[Detection]:
        """Merge an ended event with the one before, or hold or report it."""
        event = best
        if (self._from, self._to) != (best.from_seconds, best.to_seconds):
            event = replace(best, from_seconds=self._from, to_seconds=self._to)
        if not self.merge_seconds:
            return self._report(event)
        done = []
        held = self._held.pop(event.label, None)
        near = self.merge_seconds - TIE_SECONDS
        if held is not None and event.from_seconds - held.to_seconds < near:
            surer = event if event.score > held.score else held
            event = replace(
                surer, from_seconds=held.from_seconds,
                to_seconds=max(held.to_seconds, event.to_seconds),
            )  # fmt: skip
        elif held is not None:
            done = self._report(held)
        if event.to_seconds - event.from_seconds >= self.longest_seconds - TIE_SECONDS:
            return done + self._report(event)
        self._held[event.label] = event
        return done

    def _ripe(self, next_seconds: float) -> list[Detection]:
        """Report events that cannot be merged with one that begins at ``next_seconds`` or later."""
        ripe = [held for held in self._held.values()
                if next_seconds - held.to_seconds >= self.merge_seconds - TIE_SECONDS]  # fmt: skip
        for held in ripe:
            del self._held[held.label]
        ripe.sort(key=lambda held: held.from_seconds)
        return [event for held in ripe for event in self._report(held)]

    def _report(self, event: Detection) -> list[Detection]:
        """Return an event unless its label is within the refractory time."""
        start, end = event.start_seconds, event.end_seconds
        if self.merge_seconds:
            start, end = event.from_seconds, event.to_seconds
        last = self._last_end.get(event.label)
        self._last_end[event.label] = end
        if last is not None and start < last + self.refractory_seconds - TIE_SECONDS:
            return []
        return [event]
