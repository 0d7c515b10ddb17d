"""The coverage ledger: what became of every sample of the stream, balanced to the sample.

Stream time runs from 0 to ``position``. Each of its samples is exactly one of

    analysed       it lies in a window whose scores were used
    dropped        it was there and was not looked at: shed load, a closed gate, between two windows
    invalid        it was looked at and cannot be believed: a dead microphone, scores that are none
    not captured   it never arrived: no microphone, a stall, a scheduled pause

so that "nothing was heard" differs from "nobody listened". A sample in several windows counts as
analysed if one of them was; what a rejected window held stays open until the next window, which may
hold it too, has been judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

ANALYSED, DROPPED, INVALID, NOT_CAPTURED = KINDS = (
    "analysed", "dropped", "invalid", "not captured",
)  # fmt: skip
BETWEEN, TAIL = "between windows", "too short"
BACKLOG = "backlog"
"""Why a gap's samples are missing although they were captured: they were overwritten, unread."""


@dataclass(frozen=True)
class Span:
    """A stretch of stream time, in samples, its end not in it."""

    first: int
    last: int
    kind: str
    reason: str


class CoverageLedger:
    """Takes windows and gaps in the order of stream time."""

    def __init__(self) -> None:
        self.position = 0
        """Samples that are settled: what the spans so far hold."""
        self.totals: Counter[tuple[str, str]] = Counter()
        """Settled samples by kind and reason."""
        self._open: Span | None = None  # a rejected window, until the next one is judged
        self._spans: list[Span] = []

    def analysed(self, first: int, last: int) -> None:
        """Take a window whose scores were used; of those in order, the samples not yet settled."""
        self._settle(first)
        self._add(last, ANALYSED, "")

    def rejected(self, first: int, last: int, kind: str, reason: str) -> None:
        """Take a window that was not scored, or whose scores are not used."""
        self._settle(first)
        if last > self.position:
            self._open = Span(self.position, last, kind, reason)

    def gap(self, position: int, lost: int, reason: str) -> None:
        """Take samples that are missing.

        Parameters
        ----------
        position : int
            Where the stream broke off.
        lost : int
            Samples that are missing there.
        reason : str
            ``BACKLOG``: they were captured and dropped; any other: they were never captured.

        """
        self.end(position)
        self._add(position + lost, DROPPED if reason == BACKLOG else NOT_CAPTURED, reason)

    def end(self, position: int) -> None:
        """Settle everything up to where the stream ends, or breaks off."""
        if self._open is not None:
            self._settle(min(position, self._open.last))
        self._add(position, DROPPED, TAIL)

    def drain(self) -> list[Span]:
        """Return the spans that were settled since the last call; what touches and agrees is one."""
        spans, self._spans = self._spans, []
        return spans

    def _settle(self, until: int) -> None:
        if self._open is not None:
            held, self._open = self._open, None
            self._add(min(until, held.last), held.kind, held.reason)
        self._add(until, DROPPED, BETWEEN)

    def _add(self, last: int, kind: str, reason: str) -> None:
        if last <= self.position:
            return
        first, self.position = self.position, last
        self.totals[kind, reason] += last - first
        if self._spans and (self._spans[-1].kind, self._spans[-1].reason) == (kind, reason):
            first = self._spans.pop().first
        self._spans.append(Span(first, last, kind, reason))


def by_hour(
    spans: list[Span], time_of: Callable[[int], datetime], sample_rate: int
) -> Iterator[tuple[str, str, str, int]]:
    """Cut spans at full hours.

    Parameters
    ----------
    spans : list of Span
    time_of : callable
        The time of a sample.
    sample_rate : int
        Hz.

    Yields
    ------
    tuple
        Hour (ISO 8601, to the hour), kind, reason and samples. The samples of a span add up to it.

    """
    for span in spans:
        first = span.first
        while first < span.last:
            moment = time_of(first)
            hour = moment.replace(minute=0, second=0, microsecond=0)
            left = (hour + timedelta(hours=1) - moment).total_seconds()
            last = min(span.last, first + max(1, round(left * sample_rate)))
            yield hour.isoformat(timespec="hours"), span.kind, span.reason, last - first
            first = last
