"""Matching detections with the true events of a stream: hits, misses, false alarms per hour."""

from __future__ import annotations

import csv
import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeprune_device.errors import EdgepruneError

TOLERANCE_SECONDS = 0.5


@dataclass(frozen=True)
class Event:
    """A labelled segment of a stream."""

    label: str
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class Outcome:
    """Counts of detections and events of a stream."""

    hits: int
    """Events overlapped by a detection of their label."""
    misses: int
    confusions: int
    """False alarms that overlap an event of another label."""
    false_alarms: int
    """Detections that are no hit, including confusions and repeated detections of an event."""
    hours: float

    @property
    def recall(self) -> float:
        """Share of events that were detected."""
        return self.hits / max(1, self.hits + self.misses)

    @property
    def precision(self) -> float:
        """Share of detections that are correct."""
        return self.hits / max(1, self.hits + self.false_alarms)

    @property
    def false_alarms_per_hour(self) -> float:
        """False alarms per hour of stream."""
        return self.false_alarms / self.hours


def match(
    detections: Sequence[Event], truth: Sequence[Event], duration_seconds: float,
    tolerance_seconds: float = TOLERANCE_SECONDS,
) -> Outcome:  # fmt: skip
    """Match detections with events, each at most once, in order of time.

    Parameters
    ----------
    detections, truth : sequence of Event
        Detections and true events.
    duration_seconds : float
        Length of the stream in seconds.
    tolerance_seconds : float
        How far, in seconds, a detection may lie outside an event and still be a hit.

    """
    later = deque(sorted(truth, key=lambda event: event.start_seconds))
    free: list[Event] = []  # events that can still be matched
    hits = confusions = 0
    for found in sorted(detections, key=lambda event: (event.start_seconds, event.label)):
        while later and later[0].start_seconds < found.end_seconds + tolerance_seconds:
            free.append(later.popleft())
        free = [e for e in free if e.end_seconds + tolerance_seconds > found.start_seconds]
        near = [e for e in free if _overlap(found, e, tolerance_seconds)]
        own = next((e for e in near if e.label == found.label), None)
        if own is not None:
            hits += 1
            free.remove(own)
        elif near:
            confusions += 1
    return Outcome(
        hits, len(truth) - hits, confusions, len(detections) - hits, duration_seconds / 3600
    )


def _overlap(a: Event, b: Event, tolerance: float) -> bool:
    return (
        a.start_seconds < b.end_seconds + tolerance and b.start_seconds < a.end_seconds + tolerance
    )


def read_truth(path: Path) -> list[Event]:
    """Read a CSV with the columns start_seconds, end_seconds and label.

    Raises
    ------
    EdgepruneError
        There is no such file, or a row lacks one of these.

    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [Event(row["label"], float(row["start_seconds"]), float(row["end_seconds"]))
                    for row in csv.DictReader(file)]  # fmt: skip
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise EdgepruneError(
            f"{path} is not a list of events ({error}).",
            "Columns: start_seconds,end_seconds,label.",
        ) from None


def write_truth(path: Path, events: Sequence[Event]) -> None:
    """Write events in the format of ``read_truth``, to the millisecond."""
    rows = [(f"{e.start_seconds:.3f}", f"{e.end_seconds:.3f}", e.label) for e in events]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("start_seconds", "end_seconds", "label"), *rows])


def read_detections(journal: Path) -> list[Event]:
    """Read the detections of a journal folder, or of its ``detections.jsonl``."""
    path = journal / "detections.jsonl" if journal.is_dir() else journal
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [Event(row["label"], row["start_seconds"], row["end_seconds"]) for row in rows]
