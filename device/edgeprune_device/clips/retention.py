"""How long clips are kept: by age, size and free space, with a minimum per label and locks.

`plan` decides what to delete: the oldest first, never a locked clip and never one of the newest of
its label. These are kept even if the disk is full: when nothing else may be deleted, a notice
reports how much space is missing, and new clips are lost rather than the last owl. `ClipRetention`
carries out the plan:

1. Is it still the same disk? If not, nothing is deleted.
2. Less than a quarter of the ballast free: the ballast is deleted, so that the database can commit.
3. Scan the folder, 0.2 s per step; nothing is deleted before the scan is complete.
4. Delete files, 0.3 s per step. Only files: their rows are marked afterwards, by the loop, so that
   it works when the database cannot be written.
5. Enough space again: the ballast is created again.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from edgeprune_device.clips.clip_files import (
    CLIPS,
    LOCK,
    ClipFile,
    delete_clip,
    find_clips,
    remove_parts,
)
from edgeprune_device.clips.clip_recorder import ClipInProgress
from edgeprune_device.clips.disk import Ballast, Disk, free_bytes
from edgeprune_device.settings import Retention as RetentionSettings
from edgeprune_device.stream import Notice

SCAN_SECONDS, DELETE_SECONDS = 0.2, 0.3  # per step
LOOKED_SECONDS = 0.05  # a longer scan uses up the step
RESCAN_SECONDS = 600.0
OLD_PART_SECONDS = 3600.0
CLOCK_CHECK = 256  # entries between checks of the clock
EARLIEST = datetime(2024, 1, 1, tzinfo=UTC).timestamp()
"""A clock before this date was never set; ages by it are not trusted."""
SECONDS_PER_DAY, BYTES_PER_MEGABYTE = 86_400, 1_000_000
PAGE_BYTES = 4096
NO_ROOM = ("disk-full", "clips-stuck", "disk-detached")
ROOM_BYTES, ROOM_SECONDS = 2_000_000, 10.0  # space to open a journal, and time to free it


@dataclass(frozen=True)
class DeletionPlan:
    """The clips to delete, and why."""

    delete: tuple[ClipFile, ...]
    """Clips that are too old, then the oldest of the rest."""
    reasons: tuple[str, ...]
    """Reason of each: ``age``, ``size`` or ``free``."""
    missing_bytes: int
    """Free space that will still be missing, in bytes."""


def plan(
    clips: Iterable[ClipFile], now: float, free: int, settings: RetentionSettings, *,
    trusted: bool = True,
) -> DeletionPlan:  # fmt: skip
    """Decide which clips to delete.

    Parameters
    ----------
    clips : iterable of ClipFile
    now : float
        Unix time.
    free : int
        Free bytes of the disk.
    settings : settings.Retention
    trusted : bool
        Whether ``now`` can be trusted; if not, nothing is deleted for its age.

    Returns
    -------
    DeletionPlan

    """
    ordered = sorted(clips, key=lambda clip: (clip.seconds, clip.path))
    may_go = _unprotected(ordered, settings.keep_per_label)
    limit = settings.megabytes * BYTES_PER_MEGABYTE
    over = sum(clip.bytes for clip in ordered) - limit if limit else 0
    wanted = settings.free_megabytes * BYTES_PER_MEGABYTE
    aged = settings.days and trusted and now >= EARLIEST
    oldest = now - settings.days * SECONDS_PER_DAY if aged else -float("inf")
    delete = [clip for clip in may_go if EARLIEST <= clip.seconds < oldest]
    reasons = ["age"] * len(delete)
    gone = sum(clip.bytes for clip in delete)
    aged_paths = {clip.path for clip in delete}
    for clip in may_go:
        if gone >= over and free + gone >= wanted:
            break
        if clip.path not in aged_paths:
            delete.append(clip)
            reasons.append("size" if gone < over else "free")
            gone += clip.bytes
    return DeletionPlan(tuple(delete), tuple(reasons), max(0, round(wanted - free - gone)))


def _unprotected(ordered: list[ClipFile], keep_per_label: int) -> list[ClipFile]:
    """Return the clips neither locked nor among the newest of their label, oldest first."""
    seen: Counter[str] = Counter()
    left = []
    for clip in reversed(ordered):
        seen[clip.label] += 1
        if not clip.locked and seen[clip.label] > keep_per_label:
            left.append(clip)
    return left[::-1]


@dataclass
class _Index:
    """The clips of the folder, scanned in small steps."""

    folder: Path
    clips: dict[str, ClipFile] = field(default_factory=dict)
    complete: bool = False
    looked_at: float = -float("inf")
    looks: int = 0
    _walk: Iterator[ClipFile] | None = None
    _found: dict[str, ClipFile] = field(default_factory=dict)

    def look(self, clock: Callable[[], float]) -> bool:
        """Continue the scan for SCAN_SECONDS; its result counts once the scan is complete.

        Returns whether the step is used up: the scan took long, or is not complete.
        """
        began = clock()
        if self._walk is None:
            if self.complete and began - self.looked_at < RESCAN_SECONDS:
                return False
            self._walk, self._found = find_clips(self.folder), {}
        try:
            for number, clip in enumerate(self._walk, 1):
                self._found[clip.path] = clip
                if number % CLOCK_CHECK == 0 and clock() - began > SCAN_SECONDS:
                    return True
        except OSError:
            self._walk = None  # a partial result must not be taken for all clips
            raise
        self.clips, self._found, self._walk = self._found, {}, None
        self.complete, self.looked_at = True, clock()
        self.looks += 1
        return clock() - began > LOOKED_SECONDS

    def stale(self) -> None:
        """Scan the folder again at the next step."""
        self.looked_at = -float("inf")

    def add(self, clip: ClipFile) -> None:
        """Add a clip that was written just now."""
        self.clips[clip.path] = clip
        if self._walk is not None:
            self._found[clip.path] = clip

    def remove(self, path: str) -> None:
        """Remove a deleted clip."""
        self.clips.pop(path, None)
        self._found.pop(path, None)


class ClipRetention:
    """Deletes clips of a journal's folder; create it after the journal.

    Parameters
    ----------
    settings : settings.Retention
    folder : Path
        Folder of the journal.
    clock : callable
        Returns monotonic seconds.
    now : callable
        Returns Unix time.
    free : callable
        Returns the free bytes of a folder's disk.

    """

    def __init__(
        self, settings: RetentionSettings, folder: Path, *,
        clock: Callable[[], float] = time.monotonic, now: Callable[[], float] = time.time,
        free: Callable[[Path], int] = free_bytes,
    ) -> None:  # fmt: skip
        self.settings, self.folder = settings, folder
        self.counts: Counter[str] = Counter()
        """Number of deleted clips by reason: ``age``, ``size``, ``free``."""
        self._clock, self._now, self._free = clock, now, free
        self._index = _Index(folder)
        self._disk = Disk(folder)
        self._ballast = Ballast(folder, settings.ballast_megabytes)
        self._due = -float("inf")
        self._planned = 0  # scans of the folder before the last plan
        self._deleted: list[str] = []
        self._states: dict[str, bool] = {}  # of alarms: raised or not
        self._notices: list[Notice] = []

    def wrote(self, clips: Iterable[ClipInProgress]) -> None:
        """Add clips that were written just now, so that they need not be found by a scan."""
        for clip in clips:
            size = -(-clip.bytes // PAGE_BYTES) * PAGE_BYTES
            heard = clip.utc.timestamp() if clip.utc else self._now()
            label = clip.path.split("/")[-2]
            self._index.add(ClipFile(clip.path, label, heard, size, locked=False))

    def deleted(self) -> list[str]:
        """Return the paths of the clips deleted since the last call, for the database."""
        held, self._deleted = self._deleted, []
        return held

    def step(self, *, urgent: bool = False, trusted: bool = True) -> list[Notice]:
        """Do a part of the work, less than a second; call this often.

        Parameters
        ----------
        urgent : bool
            A write has failed: do not wait until ``every_seconds`` have passed.
        trusted : bool
            Whether the wall clock can be trusted.

        Returns
        -------
        list of Notice
            ``clips-deleted``, ``ballast``, and alarms as they are raised and cleared:
            ``disk-detached``, ``disk-full``, ``clips-stuck``.

        """
        full = self._states.get("disk-full", False)  # hurrying does not help
        if self._clock() < self._due and (full or not urgent):
            return []
        self._due = self._clock() + self.settings.every_seconds
        same = self._disk.same()
        self._alarm(
            "disk-detached", not same,
            f"{self.folder} is no longer on the same disk; no clips are deleted there.",
            f"{self.folder} is on its original disk again.",
        )  # fmt: skip
        if same:
            try:
                self._work(trusted)
            except OSError as error:  # a disk that fails during the scan
                self._stuck(error)
        held, self._notices = self._notices, []
        return held

    def _work(self, trusted: bool) -> None:
        self._trim_ballast()
        remove_parts(self.folder, self._now() - OLD_PART_SECONDS)
        if self._index.look(self._clock):
            self._due = -float("inf")  # the plan gets its own step
            return
        fresh, self._planned = self._index.looks > self._planned, self._index.looks
        free = self._free(self.folder)
        if self._needed(free):
            todo = plan(
                self._index.clips.values(), self._now(), free, self.settings, trusted=trusted
            )
            done = self._carry_out(todo)
            if done and (fresh or not todo.missing_bytes):
                self._say_full(todo)
            else:  # continue; before reporting a full disk, scan for new or unlocked clips
                self._due = -float("inf")
                if done:
                    self._index.stale()
        else:
            self._say_full(None)
        self._trim_ballast()

    def _needed(self, free: int) -> bool:
        settings = self.settings
        limit = settings.megabytes * BYTES_PER_MEGABYTE
        return bool(
            settings.days
            or free < settings.free_megabytes * BYTES_PER_MEGABYTE
            or (limit and sum(clip.bytes for clip in self._index.clips.values()) > limit)
        )

    def _carry_out(self, todo: DeletionPlan) -> bool:
        """Delete the planned clips, for DELETE_SECONDS; return whether all are done."""
        began, done, size = self._clock(), Counter[str](), 0
        try:
            for clip, reason in zip(todo.delete, todo.reasons, strict=True):
                if os.path.lexists(self.folder / (clip.path + LOCK)):  # locked meanwhile
                    self._index.add(ClipFile(clip.path, clip.label, clip.seconds, clip.bytes, True))
                    continue
                delete_clip(self.folder, clip.path)
                self._index.remove(clip.path)
                self._deleted.append(clip.path)
                done[reason] += 1
                size += clip.bytes
                if self._clock() - began > DELETE_SECONDS:
                    return False
            self._alarm("clips-stuck", False, "", "Clips can be deleted again.")
        except OSError as error:
            self._stuck(error)
        finally:
            self.counts += done
            if done:
                text = f"{done.total()} clips were deleted ({size / BYTES_PER_MEGABYTE:.1f} MB)."
                self._notices.append(Notice("clips-deleted", text, {**done, "bytes": size}))
        return True

    def _stuck(self, error: OSError) -> None:
        text = f"Clips in {self.folder} cannot be deleted: {error.strerror or error}."
        self._alarm("clips-stuck", True, text, "")

    def _say_full(self, todo: DeletionPlan | None) -> None:
        missing = todo.missing_bytes if todo else 0
        wanted = self.settings.free_megabytes
        kept = len(self._index.clips)
        why = f"the remaining {kept} clips are locked or the newest of their label"
        self._alarm(
            "disk-full", missing > 0,
            f"{missing / BYTES_PER_MEGABYTE:.1f} of the {wanted:g} MB of wanted free space are "
            f"missing, and {'no more clips may' if kept else 'there is no clip that could'} be "
            f"deleted{f': {why}' if kept else ''}.",
            f"{wanted:g} MB of disk space are free again.",
        )  # fmt: skip

    def _trim_ballast(self) -> None:
        if what := self._ballast.trim(self._free(self.folder)):
            size = self._ballast.size / BYTES_PER_MEGABYTE
            text = f"The ballast file ({size:g} MB reserved for a full disk) was {what}."
            self._notices.append(Notice("ballast", text, {"what": what}))

    def _alarm(self, kind: str, raised: bool, begins: str, ends: str) -> None:
        """Add a notice when an alarm begins and when it ends."""
        if raised != self._states.get(kind, False):
            self._states[kind] = raised
            self._notices.append(Notice(kind, begins if raised else ends, {"raised": raised}))


def make_room(settings: RetentionSettings, folder: Path) -> None:
    """Delete clips before a journal is opened on a full disk.

    Without this, a recorder that starts there, as after a restart, would not start at all, because
    SQLite cannot even delete. Nothing is done if there is enough space, or no journal yet.
    """
    wanted = min(ROOM_BYTES, settings.free_megabytes * BYTES_PER_MEGABYTE or ROOM_BYTES)
    if not (folder / CLIPS).is_dir() or free_bytes(folder) >= wanted:
        return
    patience = (
        ROOM_SECONDS if settings.free_megabytes else 1.0
    )  # then only the ballast can be deleted
    keeper, until = ClipRetention(settings, folder), time.monotonic() + patience
    while free_bytes(folder) < wanted and time.monotonic() < until:
        if any(notice.kind in NO_ROOM for notice in keeper.step(urgent=True)):
            return  # no more clips may or can be deleted
