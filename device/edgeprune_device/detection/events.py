"""Events in time: windows of a stream to stretches, confirmed, joined, hushed. No clock, no files.

    Confirm   which windows count: N of the last M to begin, a lower threshold to go on
    Events    windows that count to events: one goes on at a time; merging; the refractory time

What either has not seen yet changes nothing it has said: a stream gives the same events at
whatever pace it comes.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace

TIE_SECONDS = 1e-6
"""Times that lie closer are one: less than a sample, more than what a float loses in months, so that
what is just a window, or just the refractory time, away is so wherever in the stream it stands."""


@dataclass(frozen=True)
class Detection:
    """One event."""

    label: str
    """What was heard; of a transcript, its text."""
    score: float
    start_seconds: float
    """Start of its most certain window, in stream time."""
    end_seconds: float
    from_seconds: float = math.nan
    """Start of the event's first window; not given: ``start_seconds``."""
    to_seconds: float = math.nan
    """End of its last window before it was reported; not given: ``end_seconds``."""

    def __post_init__(self) -> None:
        """Let an event of one window have that window's times."""
        if math.isnan(self.from_seconds):
            object.__setattr__(self, "from_seconds", self.start_seconds)
        if math.isnan(self.to_seconds):
            object.__setattr__(self, "to_seconds", self.end_seconds)


class Confirm:
    """Which windows of one stream count.

    A label begins with the window at which it is over its threshold and was so in ``needed`` of
    the last ``of`` windows; it goes on, without a break, while it is over its released threshold.

    Parameters
    ----------
    needed, of : int
        N and M, 1 <= N <= M; 1 and 1: every window over the threshold counts.

    """

    def __init__(self, needed: int = 1, of: int = 1) -> None:
        self.needed = needed
        self._recent: deque[Detection | None] = deque(maxlen=of)  # over the threshold
        self._unused: list[Detection] = []  # of those, what no event has taken up yet
        self._on: set[str] = set()  # labels of the run that goes on

    @property
    def earliest_seconds(self) -> float:
        """Start of the first window that an event may yet begin with; infinity if there is none."""
        return self._unused[0].start_seconds if self._unused else math.inf

    def take(self, window: Detection, over: bool) -> Detection | None:
        """Take a window that is over its label's released threshold.

        Parameters
        ----------
        window : Detection
        over : bool
            Over the whole threshold, too.

        Returns
        -------
        Detection or None
            What counts: the most certain of the windows that confirmed it, with the times from the
            first of them to this one; None if it does not count.

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
        """Take a window that is under its released threshold."""
        self._remember(None)
        self._on.clear()

    def flush(self) -> None:
        """Forget the windows so far: what comes next does not follow them."""
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
    """One stream of events, of which one is going on at a time.

    Parameters
    ----------
    refractory_seconds : float
        A label that was reported stays quiet for so long after.
    merge_seconds : float
        Events of a label with less than this between them are one, which is reported when nothing
        can join it any more; 0: each is reported as soon as it ends.
    longest_seconds : float
        Merging ends with an event of this length, so that what never ends is reported, too.

    """

    def __init__(
        self, refractory_seconds: float, merge_seconds: float = 0.0, longest_seconds: float = 60.0
    ) -> None:
        self.refractory_seconds = refractory_seconds
        self.merge_seconds = merge_seconds
        self.longest_seconds = longest_seconds
        self._best: Detection | None = None  # most certain window of the event that is going on
        self._from = self._to = 0.0  # of that event
        self._held: dict[str, Detection] = {}  # of each label, what another may yet join
        self._last_end: dict[str, float] = {}  # of each label that was reported

    def take(
        self, start_seconds: float, found: Detection | None, earliest_seconds: float = math.inf
    ) -> list[Detection]:
        """Take what the next window holds, if anything; return the events that ended with it.

        Parameters
        ----------
        start_seconds : float
            Of the window.
        found : Detection or None
        earliest_seconds : float
            Start of earlier windows that may still count (``Confirm.earliest_seconds``).

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
        """Return the event that was going on, and those that were held for others to join."""
        best, self._best = self._best, None
        done = self._ended(best) if best is not None else []
        return done + self._ripe(math.inf)

    def _ended(self, best: Detection) -> list[Detection]:
        """Join an event that ended to the one before, or hold or report it."""
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
        """Report what no event that begins at ``next_seconds`` or later can join."""
        ripe = [held for held in self._held.values()
                if next_seconds - held.to_seconds >= self.merge_seconds - TIE_SECONDS]  # fmt: skip
        for held in ripe:
            del self._held[held.label]
        ripe.sort(key=lambda held: held.from_seconds)
        return [event for held in ripe for event in self._report(held)]

    def _report(self, event: Detection) -> list[Detection]:
        """Return an event unless its label was reported a moment ago."""
        start, end = event.start_seconds, event.end_seconds
        if self.merge_seconds:
            start, end = event.from_seconds, event.to_seconds
        last = self._last_end.get(event.label)
        self._last_end[event.label] = end
        if last is not None and start < last + self.refractory_seconds - TIE_SECONDS:
            return []
        return [event]
