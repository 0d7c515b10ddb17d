"""Alarms: raised once, cleared once, however often the cause flickers; and those that stand. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeprune_device.stream import Notice

CLEARED = "-cleared"  # after an alarm's kind


@dataclass(frozen=True)
class Trouble:
    """What an alarm is about."""

    kind: str
    """Of its notice, such as ``health-silent``; ``-cleared`` follows where it ended."""
    text: str
    """One sentence; ``{amount}`` stands for how much has been bad in a row."""
    cleared: str
    """One sentence; ``{amount}`` stands for how much there was from the first bad to the last."""
    after: int
    """So many units in a row raise it; 0: the first does."""
    calm: int
    """So many units in a row without it clear it."""


class Alarm:
    """One alarm; time is counted in units of whoever asks: samples, windows.

    Parameters
    ----------
    trouble : Trouble
    unit : float
        What ``{amount}`` is divided by: the sampling rate makes seconds of samples.

    """

    def __init__(self, trouble: Trouble, unit: float = 1.0) -> None:
        self.trouble = trouble
        self.raised = False
        self._unit = unit
        self._first = self._last = 0  # where the trouble began, and its end so far
        self._bad = self._calm = 0  # units in a row

    @property
    def counts(self) -> bool:
        """Whether the last unit was bad, and long enough in a row."""
        return self._bad > 0 and self._bad >= self.trouble.after

    def take(
        self, bad: bool, first: int, last: int, details: Mapping[str, Any] | None = None
    ) -> Notice | None:
        """Take the next units, first to last; return a notice if the alarm is raised or cleared.

        Parameters
        ----------
        bad : bool
        first, last : int
            Half-open.
        details : mapping or None
            What else the notice of a raised alarm carries.

        """
        trouble = self.trouble
        if bad:
            if not self._bad and not self.raised:
                self._first = first
            self._bad += last - first
            self._calm, self._last = 0, last
            if self.raised or not self.counts:
                return None
            self.raised = True
            text = trouble.text.format(amount=f"{self._bad / self._unit:g}")
            return Notice(trouble.kind, text, {"first": self._first, **(details or {})})
        self._bad = 0
        self._calm += last - first
        if not self.raised or self._calm < trouble.calm:
            return None
        self.raised = False
        amount = (self._last - self._first) / self._unit
        text = trouble.cleared.format(amount=f"{amount:g}")
        return Notice(trouble.kind + CLEARED, text, {"first": self._first, "last": self._last})


RAISED = ("health-", "scores-")
"""Beginnings of kinds that stand until their ``-cleared`` comes."""
MICROPHONE = ("microphone-lost", "microphone-stalled", "microphone-absent")
ENDED_BY = {
    "microphone-back": MICROPHONE, "clips-back": ("clips-lost",),
    "load-restored": ("load-exceeded",), "clock-synchronised": ("clock-unsynchronised",),
}  # fmt: skip
"""Notices that end alarms, and those that they end."""
BEGUN_BY = {
    "bundle-refused",
    "metrics-off",
    *(kind for kinds in ENDED_BY.values() for kind in kinds),
}


@dataclass
class Alarms:
    """The alarms that stand, by what was noted."""

    standing: dict[str, str] = field(default_factory=dict)
    """Kind to sentence."""
    raised: Counter[str] = field(default_factory=Counter)
    """Times that each began."""

    def take(self, notice: Notice) -> None:
        """Take what happened."""
        kind = notice.kind
        for ended in (*ENDED_BY.get(kind, ()), kind.removesuffix(CLEARED)):
            if ended != kind:
                self.standing.pop(ended, None)
        begins = kind in BEGUN_BY or (kind.startswith(RAISED) and not kind.endswith(CLEARED))
        if notice.details.get("raised", begins):
            self.raised[kind] += kind not in self.standing
            self.standing[kind] = notice.text
        elif "raised" in notice.details:
            self.standing.pop(kind, None)
