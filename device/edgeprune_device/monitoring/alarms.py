"""Alarms that are raised once and cleared once, even if the fault comes and goes quickly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeprune_device.stream import Notice

CLEARED = "-cleared"  # appended to an alarm's kind


@dataclass(frozen=True)
class AlarmSpec:
    """Description of a fault and of when it raises and clears an alarm."""

    kind: str
    """Kind of its notice, such as ``health-silent``; with ``-cleared`` appended when it ends."""
    text: str
    """One sentence; ``{amount}`` is replaced by the length of the fault so far."""
    cleared: str
    """One sentence; ``{amount}`` is replaced by the length from the first to the last bad unit."""
    after: int
    """Number of consecutive bad units that raise the alarm; 0: the first one does."""
    calm: int
    """Number of consecutive good units that clear it."""


class Alarm:
    """One alarm; time is counted in units of the caller: samples or windows.

    Parameters
    ----------
    spec : AlarmSpec
    unit : float
        Divisor of ``{amount}``: the sample rate converts samples to seconds.

    """

    def __init__(self, spec: AlarmSpec, unit: float = 1.0) -> None:
        self.spec = spec
        self.raised = False
        self._unit = unit
        self._first = self._last = 0  # where the fault began, and its end so far
        self._bad = self._calm = 0  # consecutive units

    @property
    def counts(self) -> bool:
        """Whether the last unit was bad and the fault has lasted long enough."""
        return self._bad > 0 and self._bad >= self.spec.after

    def take(
        self, bad: bool, first: int, last: int, details: Mapping[str, Any] | None = None
    ) -> Notice | None:
        """Take the next units; return a notice if the alarm is raised or cleared.

        Parameters
        ----------
        bad : bool
            Whether the fault is present.
        first, last : int
            Range of units, half-open.
        details : mapping or None
            Further details for the notice of a raised alarm.

        """
        spec = self.spec
        if bad:
            if not self._bad and not self.raised:
                self._first = first
            self._bad += last - first
            self._calm, self._last = 0, last
            if self.raised or not self.counts:
                return None
            self.raised = True
            text = spec.text.format(amount=f"{self._bad / self._unit:g}")
            return Notice(spec.kind, text, {"first": self._first, **(details or {})})
        self._bad = 0
        self._calm += last - first
        if not self.raised or self._calm < spec.calm:
            return None
        self.raised = False
        amount = (self._last - self._first) / self._unit
        text = spec.cleared.format(amount=f"{amount:g}")
        return Notice(spec.kind + CLEARED, text, {"first": self._first, "last": self._last})


RAISED = ("health-", "scores-")
"""Prefixes of kinds that are active until their ``-cleared`` notice."""
MICROPHONE = ("microphone-lost", "microphone-stalled", "microphone-absent")
ENDED_BY = {
    "microphone-back": MICROPHONE, "clips-back": ("clips-lost",),
    "load-restored": ("load-exceeded",), "clock-synchronised": ("clock-unsynchronised",),
}  # fmt: skip
"""Kind of notice -> kinds of alarms that it ends."""
BEGUN_BY = {
    "bundle-refused",
    "metrics-off",
    *(kind for kinds in ENDED_BY.values() for kind in kinds),
}


@dataclass
class Alarms:
    """The active alarms, derived from the notices."""

    active: dict[str, str] = field(default_factory=dict)
    """Kind -> sentence of each active alarm."""
    raised: Counter[str] = field(default_factory=Counter)
    """Kind -> number of times it was raised."""

    def take(self, notice: Notice) -> None:
        """Update the alarms with a notice."""
        kind = notice.kind
        for ended in (*ENDED_BY.get(kind, ()), kind.removesuffix(CLEARED)):
            if ended != kind:
                self.active.pop(ended, None)
        begins = kind in BEGUN_BY or (kind.startswith(RAISED) and not kind.endswith(CLEARED))
        if notice.details.get("raised", begins):
            self.raised[kind] += kind not in self.active
            self.active[kind] = notice.text
        elif "raised" in notice.details:
            self.active.pop(kind, None)
