"""A session's figures: for the live line, the status file, the metrics, and ``stats.json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from edgeprune_device.journal import Total
from edgeprune_device.latency import Latencies
from edgeprune_device.ledger import KINDS, NOT_CAPTURED, by_hour
from edgeprune_device.loop import Loop
from edgeprune_device.screen import clock

EPOCH = datetime(1, 1, 1)
"""Hours of a file are counted from its beginning."""


class Account:
    """Adds up one session.

    Parameters
    ----------
    loop : Loop
    latencies : Latencies
        Of the model, in the loop's order.
    source : iterator
        Its drift and reconnects are told where it knows them.
    identity : mapping
        What the session is: bundle, digest, source, start.

    """

    def __init__(
        self, loop: Loop, latencies: Latencies, source: Any, identity: dict[str, Any], *,
        live: bool,
    ) -> None:  # fmt: skip
        self.loop, self.latencies, self.source, self.identity = loop, latencies, source, identity
        self.live = live
        self.state: dict[str, Any] = {}
        """Of the machine (``machine_state``), as it was found last."""
        self._hours: Counter[tuple[str, str, str]] = Counter()

    def coverage(self) -> Iterable[Total]:
        """Return the totals of the hours that have changed since the last call."""
        loop, found = self.loop, set()
        spans = loop.parts.ledger.drain()
        if self.live:
            time_of = loop.times.utc
        else:
            def time_of(sample: int) -> datetime:
                return EPOCH + timedelta(seconds=sample / loop.rate)

        for hour, kind, reason, samples in by_hour(spans, time_of, loop.rate):
            if not self.live:
                hour = str(round((datetime.fromisoformat(hour) - EPOCH).total_seconds() / 3600))
            self._hours[hour, kind, reason] += samples
            found.add((hour, kind, reason))
        return [Total(*key, self._hours[key]) for key in sorted(found)]
