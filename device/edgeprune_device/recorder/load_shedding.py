"""What to drop when the model is slower than the audio, and when to restore it; pure functions.

The user chooses what is dropped, and in which order (``load.steps``). Each step is a level:

    normal -> no-clips -> hop x2 -> hop x4 ... up to the window -> skip

A backlog leads to the next level; a level is taken back after ``calm_seconds`` with less than half
of that backlog. A level that was taken back too early, so that it was needed again at once, is kept
twice as long the next time, up to an hour: a board that is a little too slow for months does not
change levels a thousand times a day. Every change of level is a notice for the journal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeprune_device.settings import Load
from edgeprune_device.stream import Notice

LONGEST_CALM_SECONDS = 3600.0


@dataclass(frozen=True)
class LoadLevel:
    """What is dropped at one level."""

    name: str = "normal"
    clips: bool = True
    hop_factor: int = 1
    skip: bool = False


def levels_of(steps: Sequence[str], max_hop_factor: int) -> tuple[LoadLevel, ...]:
    """Return the levels of the given steps, from normal on; each drops one thing more.

    >>> [level.name for level in levels_of(("longer-hop", "skip"), 4)]
    ['normal', 'hop x2', 'hop x4', 'skip']
    """
    levels = [LoadLevel()]
    for step in steps:
        last = levels[-1]
        if step == "no-clips":
            levels.append(LoadLevel("no-clips", False, last.hop_factor, last.skip))
        elif step == "skip":
            levels.append(LoadLevel("skip", last.clips, last.hop_factor, True))
        else:
            factor = last.hop_factor
            while factor < max_hop_factor:
                factor = min(2 * factor, max_hop_factor)
                levels.append(LoadLevel(f"hop x{factor}", last.clips, factor, last.skip))
    return tuple(levels)


class LoadShedder:
    """Decides at which level a recorder runs.

    Parameters
    ----------
    load : settings.Load
    max_hop_factor : int
        Number of hops in a window, at least 1: a longer hop would leave audio out.

    """

    def __init__(self, load: Load, max_hop_factor: int = 1) -> None:
        self.levels = levels_of(load.steps, max(1, max_hop_factor))
        self.level = 0
        """Index in ``levels``; 0 is normal."""
        self._load = load
        self._calm = load.calm_seconds  # seconds before a step is taken back
        self._changed_at: float | None = None
        self._taken_back_at: float | None = None
        self._quiet_since: float | None = None
        self._judged_at: float | None = None
        self._backlog_then = 0.0  # backlog at that time
        self._skipping = False
        self._told_end = False

    @property
    def name(self) -> str:
        """Name of the level, such as ``hop x2``."""
        return self.levels[self.level].name

    @property
    def clips(self) -> bool:
        """Whether clips may be saved."""
        return self.levels[self.level].clips

    @property
    def hop_factor(self) -> int:
        """Factor of the hop."""
        return self.levels[self.level].hop_factor

    @property
    def skip(self) -> bool:
        """Whether windows are dropped now: from the limit of the backlog down to half of it."""
        return self.levels[self.level].skip and self._skipping

    def update(self, now: float, backlog_seconds: float) -> list[Notice]:
        """Update the level, by at most one.

        Parameters
        ----------
        now : float
            Monotonic seconds, not before the last call.
        backlog_seconds : float
            Captured audio that waits to be processed.

        Returns
        -------
        list of Notice
            ``load-shed`` and ``load-restored``, with ``level``, ``before`` and ``backlog_seconds``;
            ``load-exceeded``, once, when nothing more can be dropped.

        """
        limit = self._load.behind_seconds
        if backlog_seconds >= limit:
            self._skipping, self._quiet_since = True, None
            return self._behind(now, backlog_seconds)
        if backlog_seconds >= limit / 2:
            self._quiet_since = None
            return []
        self._skipping = False
        if self._quiet_since is None:
            self._quiet_since = now
        calm_since = max(self._quiet_since, self._changed_at or self._quiet_since)
        if now - calm_since < self._calm:
            return []
        told, self._told_end = self._told_end, False
        if self.level == 0:
            self._calm = self._load.calm_seconds
            details = {"level": self.name, "backlog_seconds": round(backlog_seconds, 3)}
            return [Notice("load-restored", "The model keeps up again.", details)] if told else []
        self._taken_back_at = now
        return [self._move(-1, now, backlog_seconds)]

    def _behind(self, now: float, backlog: float) -> list[Notice]:
        """Take the next step, unless the last one had no time to help yet, or is helping."""
        if self._judged_at is not None and now - self._judged_at < self._load.behind_seconds:
            return []
        helps = self.level > 0 and backlog < self._backlog_then
        self._judged_at, self._backlog_then = now, backlog
        if helps:
            return []
        if self.level + 1 < len(self.levels):
            if self._taken_back_at is not None and now - self._taken_back_at < self._calm:
                longest = max(LONGEST_CALM_SECONDS, self._load.calm_seconds)
                self._calm = min(2 * self._calm, longest)
            self._told_end = False
            return [self._move(1, now, backlog)]
        if self._told_end:
            return []
        self._told_end = True
        return [Notice(
            "load-exceeded",
            f"The model is {backlog:.0f} s behind and nothing more can be reduced: audio that does "
            "not fit the buffer will be lost.",
            {"level": self.name, "backlog_seconds": round(backlog, 3)},
        )]  # fmt: skip

    def _move(self, by: int, now: float, backlog: float) -> Notice:
        before = self.name
        self.level += by
        self._changed_at = now
        details = {"level": self.name, "before": before, "backlog_seconds": round(backlog, 3)}
        if by > 0:
            text = f"The model is {backlog:.0f} s behind: {_said(self.levels[self.level])}."
            return Notice("load-shed", text, details)
        text = f"The model keeps up again: back from {before} to {self.name}."
        return Notice("load-restored", text, details)


def _said(level: LoadLevel) -> str:
    if level.name == "skip":
        return "windows are skipped until the backlog is halved"
    if level.name == "no-clips":
        return "no clips are saved"
    return f"the hop is {level.hop_factor} times as long"
