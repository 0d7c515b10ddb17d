"""The coverage ledger: what happened to every sample of the stream, balanced to the sample.

Stream time runs from 0 to ``position``. Each of its samples is exactly one of

    analysed       it is in a window whose scores were used
    dropped        it was captured but not analysed: load reduction, a closed gate, between windows
    invalid        it was captured but is not usable: a dead microphone, invalid scores
    not captured   it never arrived: no microphone, a stall, a scheduled pause

so that "nothing was detected" differs from "nothing was recorded". A sample in several windows
counts as analysed if one of them was; the samples of a rejected window stay open until the next
window, which may contain them too, has been judged.
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
"""Reason of a gap whose samples were captured, but overwritten before they were read."""


@dataclass(frozen=True)
class Span:
    """A span of stream time in samples, half-open, with its kind of coverage."""

    first: int
    last: int
    kind: str
    reason: str


class CoverageLedger:
    """Accounts for windows and gaps, which must come in the order of stream time."""

    def __init__(self) -> None:
        self.position = 0
        """Number of settled samples: the end of the spans so far."""
        self.totals: Counter[tuple[str, str]] = Counter()
        """Settled samples by kind and reason."""
        self._open: Span | None = None  # a rejected window, until the next one is judged
        self._spans: list[Span] = []

    def analysed(self, first: int, last: int) -> None:
        """Add a window whose scores were used; only its samples not settled yet count."""
        self._settle(first)
        self._add(last, ANALYSED, "")

    def rejected(self, first: int, last: int, kind: str, reason: str) -> None:
        """Add a window that was not scored, or whose scores are not used."""
        self._settle(first)
        if last > self.position:
            self._open = Span(self.position, last, kind, reason)

    def gap(self, position: int, lost: int, reason: str) -> None:
        """Add samples that are missing.

        Parameters
        ----------
        position : int
            Sample at which the stream broke off.
        lost : int
            Number of missing samples.
        reason : str
            ``BACKLOG``: they were captured and dropped; any other: they were never captured.

        """
        self.end(position)
        self._add(position + lost, DROPPED if reason == BACKLOG else NOT_CAPTURED, reason)

    def end(self, position: int) -> None:
        """Settle everything up to the position at which the stream ends or breaks off."""
        if self._open is not None:
            self._settle(min(position, self._open.last))
        self._add(position, DROPPED, TAIL)

    def drain(self) -> list[Span]:
        """Return the spans settled since the last call; equal neighbours are merged."""
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
    """Split spans at full hours.

    Parameters
    ----------
    spans : list of Span
    time_of : callable
        Sample -> its time.
    sample_rate : int
        Hz.

    Yields
    ------
    tuple
        Hour (ISO 8601, to the hour), kind, reason and number of samples. The numbers of a span add
        up to its length.

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
