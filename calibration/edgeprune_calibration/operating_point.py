"""Thresholds and smoothing for a target number of false alarms per hour, on scored streams.

Counts are those of ``listen``: the recorder's own ``Events`` merges and suppresses windows
(``edgeprune_device.detection.decider``), and ``event_matching.match`` compares with the truth.

A threshold for k false alarms of a label is placed at the k-th highest wrong score. On another
stream of the same kind, such a threshold gives k false alarms on average (just above the next
score it would be k + 1, which over twenty labels is twenty too many). The allowed false alarms are
divided evenly among the labels; what a label cannot use goes to the others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune_calibration.event_matching import Event, Outcome, match
from edgeprune_device.detection.decider import Decider
from edgeprune_device.detection.decision_rule import DecisionRule
from edgeprune_device.detection.events import Detection, Events

FLOOR = 0.2  # lowest threshold
SMOOTHINGS = (1, 2, 3, 5)
"""Numbers of windows to average over that are tried."""
CANDIDATES = 400  # number of scores of a label that are tried for a precision


@dataclass(frozen=True)
class ScoredStream:
    """Scores of a stream from the deployed file."""

    scores: NDArray[np.float32]
    """(windows, labels), before the temperature."""
    starts: NDArray[np.float64]
    """(windows,): start times in seconds."""
    ends: NDArray[np.float64]
    truth: tuple[Event, ...]
    seconds: float


@dataclass(frozen=True)
class ChosenRule:
    """A decision rule, and its results on the streams it was chosen on."""

    rule: DecisionRule
    total: Outcome
    per_label: dict[str, Outcome]


def smooth(scores: NDArray[np.float32], windows: int) -> NDArray[np.float32]:
    """Average each window's scores with those before it, as the recorder does.

    Parameters
    ----------
    scores : array (n, labels)
        Scores.
    windows : int
        Number of windows, including the window itself; the first windows have fewer.

    """
    total = np.zeros_like(scores)
    for lag in range(min(windows, len(scores)) - 1, -1, -1):
        total[lag:] += scores[: len(scores) - lag]
    count = np.minimum(np.arange(1, len(scores) + 1), windows).astype(np.float32)
    return np.asarray(total / count[:, None], dtype=np.float32)


Asked = list[tuple[NDArray[np.int64], NDArray[np.float32]]]
"""Per independent sequence of events: candidate label of each window, and its score."""


def candidate_labels(smoothed: NDArray[np.float32], activation: str) -> Asked:
    """Return the candidate labels of each window: its best label or, for tags, all.

    Parameters
    ----------
    smoothed : array (windows, labels)
        Scores after temperature and ``smooth``.
    activation : str
        ``softmax`` or ``sigmoid``.

    """
    if activation == "softmax":
        best = smoothed.argmax(axis=1)
        return [(best, smoothed[np.arange(len(best)), best])]
    return [(np.full(len(smoothed), i), column) for i, column in enumerate(smoothed.T.copy())]


def replay(asked: Asked, heard: ScoredStream, rule: DecisionRule) -> list[Event]:
    """Return what the recorder would report; equal to ``listen_to``, but much faster.

    Windows below the threshold only end an event, so that the first of several in a row suffices.

    Parameters
    ----------
    asked : list
        Result of ``candidate_labels``.
    heard : ScoredStream
        Stream, for the times.
    rule : DecisionRule
        Thresholds and refractory time.

    """
    least = _least(rule)
    found: list[Detection] = []
    for label, score in asked:
        over = score >= least[label]
        events = Events(rule.refractory_seconds)
        after = over.copy()
        after[1:] |= over[:-1]
        for i in np.flatnonzero(after).tolist():
            start = float(heard.starts[i])
            now = None
            if over[i]:
                now = Detection(rule.labels[label[i]], float(score[i]), start, float(heard.ends[i]))
            found += events.take(start, now)
        found += events.flush()
    return [_event(x) for x in found]


def listen_to(heard: ScoredStream, rule: DecisionRule) -> list[Event]:
    """Return what the recorder's ``Decider`` reports for a scored stream, window by window."""
    decider = Decider(rule)
    found = []
    for start, end, scores in zip(heard.starts, heard.ends, heard.scores, strict=True):
        found += decider.step(float(start), float(end), scores)
    return [_event(x) for x in [*found, *decider.flush()]]


def count(
    streams: Sequence[ScoredStream], found: Sequence[Sequence[Event]], label: str = ""
) -> Outcome:
    """Count hits and false alarms over several streams.

    Parameters
    ----------
    streams : sequence of ScoredStream
        Streams.
    found : sequence of sequence of Event
        Detections in each stream.
    label : str
        Count this label only; empty: all.

    """
    outcomes = []
    for heard, events in zip(streams, found, strict=True):
        own = [e for e in events if label in ("", e.label)]
        truth = [e for e in heard.truth if label in ("", e.label)]
        outcomes.append(match(own, truth, heard.seconds))
    return add(outcomes)


def add(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the sum of several outcomes."""
    return Outcome(*(sum(getattr(o, f.name) for o in outcomes)
                     for f in dataclasses.fields(Outcome)))  # fmt: skip


def at_false_alarms(
    streams: Sequence[ScoredStream], rule: DecisionRule, per_hour: float,
    smoothings: Sequence[int] = SMOOTHINGS,
) -> ChosenRule:  # fmt: skip
    """Choose thresholds and smoothing for a number of false alarms per hour of all labels.

    Parameters
    ----------
    streams : sequence of ScoredStream
        Scores after the temperature.
    rule : DecisionRule
        The bundle's rule, with temperature 1 (it was applied).
    per_hour : float > 0
        Target rate.
    smoothings : sequence of int
        Numbers of windows to average that are tried; the one with the greatest recall is chosen,
        of equal ones the smallest.

    """
    wanted = per_hour * sum(heard.seconds for heard in streams) / 3600
    return _best([_Search(streams, rule, s).for_count(wanted) for s in smoothings])


def at_precision(
    streams: Sequence[ScoredStream], rule: DecisionRule, precision: float,
    smoothings: Sequence[int] = SMOOTHINGS,
) -> ChosenRule:  # fmt: skip
    """Choose for each label the lowest threshold with a given precision.

    Parameters
    ----------
    streams, rule, smoothings
        As for ``at_false_alarms``.
    precision : float
        0 to 1. A label that cannot reach it gets a threshold above its highest wrong score.

    """
    return _best([_Search(streams, rule, s).for_precision(precision) for s in smoothings])


def evaluate(streams: Sequence[ScoredStream], rule: DecisionRule) -> ChosenRule:
    """Count what a rule reports, by the recorder's own ``Decider``."""
    return _counted(streams, rule, [listen_to(heard, rule) for heard in streams])


class _Search:
    """Search for the thresholds at one smoothing."""

    def __init__(self, streams: Sequence[ScoredStream], rule: DecisionRule, smoothing: int) -> None:
        self.streams, self.smoothing = streams, smoothing
        self.rule = dataclasses.replace(rule, smoothing_windows=smoothing)
        self.asked = [
            candidate_labels(smooth(h.scores, smoothing), rule.activation) for h in streams
        ]
        self.labels = [label for label in rule.labels if label not in rule.ignore]
        self.candidates = {label: self._candidates(label) for label in self.labels}
        self.known: dict[tuple[str, float], Outcome] = {}
        self.found: dict[tuple[str, int], float] = {}
        self.seen: dict[str, dict[int, int]] = {}

    def _candidates(self, label: str) -> NDArray[np.float64]:
        """Return the scores with which a label might be reported, highest first."""
        own = [score[which == self.rule.labels.index(label)]
               for asked in self.asked for which, score in asked]  # fmt: skip
        scores = np.unique(np.concatenate(own).astype(np.float64))
        return scores[scores >= FLOOR][::-1]

    def alone(self, label: str, threshold: float) -> Outcome:
        """Count a label's detections if no other label is ever reported."""
        if (label, threshold) not in self.known:
            index = self.rule.labels.index(label)
            asked = self.asked
            if self.rule.activation == "sigmoid":
                asked = [streams[index : index + 1] for streams in asked]
            silent = dict.fromkeys(self.rule.labels, 2.0) | {label: threshold}
            self.known[label, threshold] = self.outcome(asked, silent, label)
        return self.known[label, threshold]

    def outcome(
        self, asked: Sequence[Asked], thresholds: dict[str, float], label: str = ""
    ) -> Outcome:
        rule = dataclasses.replace(self.rule, thresholds=thresholds)
        found = [replay(a, heard, rule) for a, heard in zip(asked, self.streams, strict=True)]
        return count(self.streams, found, label)

    def threshold(self, label: str, false_alarms: int) -> float:
        """Return the score of a label's k-th false alarm; for none, midway from the first to 1."""
        candidates, seen = self.candidates[label], self.seen.setdefault(label, {})
        wanted = max(1, false_alarms)

        def enough(place: int) -> bool:
            seen[place] = self.alone(label, float(candidates[place])).false_alarms
            return seen[place] >= wanted

        # The first candidate with enough false alarms: by exponential search, then bisection.
        # Earlier counts narrow it; high scores are few, so counting there is cheapest.
        high = min((i for i, n in seen.items() if n >= wanted), default=len(candidates))
        low = max((i + 1 for i, n in seen.items() if n < wanted and i < high), default=0)
        stride = 1
        while low + stride < high and not enough(low + stride):
            low, stride = low + stride + 1, 2 * stride
        high = min(high, low + stride) if low + stride < high else high
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle) else (middle + 1, high)
        if low == len(candidates):
            return FLOOR
        at = float(candidates[low])
        if false_alarms == 0:
            return (at + 1) / 2
        return _a_little_under(candidates, low)

    def dealt(self, total: int) -> dict[str, float]:
        """Return the thresholds for a total of false alarms, divided evenly among the labels."""
        each, more = divmod(total, len(self.labels))
        thresholds = dict.fromkeys(self.rule.labels, 1.0)
        for place, label in enumerate(self.labels):
            key = (label, each + (place < more))
            if key not in self.found:
                self.found[key] = self.threshold(*key)
            thresholds[label] = self.found[key]
        return thresholds

    def for_count(self, wanted: float) -> ChosenRule:
        """Find the total that comes closest to a number of false alarms."""
        most = round(wanted) * len(self.labels) + 1
        low, high = 0, max(1, most)
        counts: dict[int, int] = {}

        def found(total: int) -> int:
            if total not in counts:
                counts[total] = self.outcome(self.asked, self.dealt(total)).false_alarms
            return counts[total]

        while low < high:
            middle = (low + high) // 2
            if found(middle) >= wanted:
                high = middle
            else:
                low = middle + 1
        for total in range(max(0, low - 2), min(most, low + 2) + 1):
            found(total)
        best = min(counts, key=lambda total: (abs(counts[total] - wanted), total))
        return self.done(self.dealt(best))

    def for_precision(self, precision: float) -> ChosenRule:
        """Find each label's lowest threshold with a given precision."""
        thresholds = dict.fromkeys(self.rule.labels, 1.0)
        for label in self.labels:
            all_scores = self.candidates[label]
            step = max(1, len(all_scores) // CANDIDATES)
            chosen = self.threshold(label, 0)
            for place in range(0, len(all_scores), step):
                outcome = self.alone(label, float(all_scores[place]))
                if outcome.hits and outcome.precision >= precision:
                    chosen = min(chosen, _a_little_under(all_scores, place))
            thresholds[label] = chosen
        return self.done(thresholds)

    def done(self, thresholds: dict[str, float]) -> ChosenRule:
        rule = dataclasses.replace(self.rule, thresholds=thresholds)
        pairs = zip(self.asked, self.streams, strict=True)
        found = [replay(asked, heard, rule) for asked, heard in pairs]
        return _counted(self.streams, rule, found)


def _counted(
    streams: Sequence[ScoredStream], rule: DecisionRule, found: Sequence[Sequence[Event]]
) -> ChosenRule:
    labels = [label for label in rule.labels if label not in rule.ignore]
    return ChosenRule(rule, count(streams, found), {x: count(streams, found, x) for x in labels})


def _best(tried: Sequence[ChosenRule]) -> ChosenRule:
    return max(tried, key=lambda c: (c.total.recall, -c.rule.smoothing_windows))


def _a_little_under(candidates: NDArray[np.float64], place: int) -> float:
    """Return a threshold that a score reaches in spite of rounding, but not the next lower one."""
    at = float(candidates[place])
    below = float(candidates[place + 1]) if place + 1 < len(candidates) else 0.0
    return at - min(1e-4, (at - below) / 2)


def _least(rule: DecisionRule) -> NDArray[np.float64]:
    """Return the score each label must reach; one that no score reaches for ignored labels."""
    return np.array([2.0 if x in rule.ignore else rule.thresholds[x] for x in rule.labels])


def _event(found: Detection) -> Event:
    return Event(found.label, found.start_seconds, found.end_seconds)
