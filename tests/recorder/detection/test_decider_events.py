"""Confirmation, hysteresis, merging and lists: by sentences, and against an oracle that sees all."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune_device.audio.windowing import Windower
from edgeprune_device.detection.decider import Decider
from edgeprune_device.detection.decision_rule import DecisionRule
from edgeprune_device.detection.events import Detection

LABELS = ("background", "robin", "wren")
Found = tuple[str, float, float, float, float, float]


def rule(**changes: Any) -> DecisionRule:
    values: dict[str, Any] = {
        "labels": LABELS, "thresholds": dict.fromkeys(LABELS, 0.6), "smoothing_windows": 1,
        "refractory_seconds": 0.0, "ignore": frozenset({"background"}),
    }  # fmt: skip
    return DecisionRule(**(values | changes))


def row(word: str) -> list[float]:
    """Translate 'r8' to robin at 0.8, 'w7' to wren at 0.7, '.' to background at 0.9."""
    label, score = {"r": 1, "w": 2, ".": 0}[word[0]], float(word[1:] or 9) / 10
    scores = [(1 - score) / 2] * 3
    scores[label] = score
    return scores


def decide(text: str, hop: float = 0.5, **changes: Any) -> list[Detection]:
    """Decide over windows of a second; '|' is a gap, '-' a window that a gate kept back."""
    decider, found, index = Decider(rule(**changes)), [], 0
    for word in text.split():
        if word == "|":
            found += decider.flush()
            index += 10
        elif word == "-":
            found += decider.skip_gated(hop * index)
        else:
            scores = np.array(row(word), np.float32)
            found += decider.step(hop * index, hop * index + 1, scores)
        index += word != "|"
    return found + decider.flush()


def spans(text: str, **changes: Any) -> list[tuple[str, float, float]]:
    return [(d.label, d.from_seconds, d.to_seconds) for d in decide(text, **changes)]


def test_an_event_lasts_from_its_first_window_to_its_last_and_keeps_its_most_certain_one() -> None:
    (event,) = decide(". r7 r9 . .")
    assert (event.from_seconds, event.to_seconds) == (0.5, 2.0)
    assert (event.start_seconds, event.end_seconds) == (1.0, 2.0)


def test_two_of_three_windows_confirm_an_event_which_begins_with_the_first_of_them() -> None:
    two_of_three = {"confirm_windows": 2, "of_windows": 3}
    assert spans(". r9 . . . r9 . . .", **two_of_three) == []
    assert spans(". r9 . r7 . . .", **two_of_three) == [("robin", 0.5, 2.5)]
    (event,) = decide(". r9 . r7 . . .", **two_of_three)
    assert event.start_seconds == 0.5
    assert event.score == pytest.approx(0.9)
    assert spans(". r9 w9 r9 . .", **two_of_three) == [("robin", 0.5, 2.5)]  # votes are a label's


def test_windows_before_a_gap_confirm_nothing_after_it() -> None:
    assert spans("r9 | r9 . .", confirm_windows=2, of_windows=3) == []


def test_a_window_confirms_one_event_only() -> None:
    found = spans("r9 r9 . r9 . . . .", confirm_windows=2, of_windows=4)
    assert found == [("robin", 0.0, 1.5), ("robin", 1.5, 2.5)]


def test_what_has_begun_goes_on_down_to_the_released_threshold() -> None:
    assert spans(". r8 r5 r5 r4 .", release=0.1) == [("robin", 0.5, 2.0), ("robin", 1.5, 2.5)]
    assert spans(". r8 r5 r5 r4 .", release=0.1, merge_seconds=0.1) == [("robin", 0.5, 2.5)]
    assert spans(". r5 r5 r8 .", release=0.1) == [("robin", 1.5, 2.5)]
    assert spans(". r8 . r5 .", release=0.1) == [("robin", 0.5, 1.5)]


def test_events_of_a_label_that_lie_close_together_are_one() -> None:
    text = "r9 . . . r8 . . . . . . . r7 . . . . ."
    apart = [("robin", 0.0, 1.0), ("robin", 2.0, 3.0), ("robin", 6.0, 7.0)]
    assert spans(text) == apart
    assert spans(text, merge_seconds=1.0) == apart  # a second between them is not under a second
    assert spans(text, merge_seconds=1.5) == [("robin", 0.0, 3.0), ("robin", 6.0, 7.0)]
    assert spans(text.replace("r8", "w8"), merge_seconds=1.5) == [
        ("robin", 0.0, 1.0), ("wren", 2.0, 3.0), ("robin", 6.0, 7.0)
    ]  # fmt: skip


def test_events_on_both_sides_of_a_gap_stay_two() -> None:
    assert len(spans("r9 . | r9 .", merge_seconds=100.0)) == 2


def test_a_song_without_end_is_reported_while_it_goes_on() -> None:
    decider = Decider(rule(merge_seconds=2.0, longest_seconds=10.0, refractory_seconds=5.0))
    scores = np.array(row("r9"), np.float32)
    found = [(i, d) for i in range(100) for d in decider.step(0.5 * i, 0.5 * i + 1, scores)]
    assert [i for i, _ in found] == [20]
    assert (found[0][1].from_seconds, found[0][1].to_seconds) == (0.0, 10.5)
    assert decider.flush() == []  # it never stopped, so it is not reported again


def test_a_window_that_a_gate_kept_back_ends_an_event_and_is_no_gap() -> None:
    assert spans("r9 - r9 . .") == [("robin", 0.0, 1.0), ("robin", 1.0, 2.0)]
    assert spans("r9 - r9 . .", merge_seconds=1.0) == [("robin", 0.0, 2.0)]
    assert spans("r9 - r9 . .", confirm_windows=2, of_windows=3) == [("robin", 0.0, 2.0)]


def smoothed(scores: np.ndarray, windows: int) -> np.ndarray:
    first = np.maximum(np.arange(len(scores)) + 1 - windows, 0)
    return np.array([np.mean(list(scores[a : i + 1]), axis=0) for i, a in enumerate(first)])


def counting(named: list[str], sure: list[float], made: DecisionRule) -> dict[int, list[int]]:
    """Return, for each window that counts, the windows that are reported with it."""
    n, m = made.confirm_windows, made.of_windows
    over = [s >= made.thresholds[k] and k not in made.ignore
            for k, s in zip(named, sure, strict=True)]  # fmt: skip
    counts: dict[int, list[int]] = {}
    taken: set[int] = set()
    for i, label in enumerate(named):
        run = i
        while run - 1 in counts:
            run -= 1
        lower = sure[i] >= made.thresholds[label] - made.release and label not in made.ignore
        goes_on = lower and label in named[run:i]
        votes = [j for j in range(max(0, i - m + 1), i + 1) if over[j] and named[j] == label]
        if goes_on or (over[i] and len(votes) >= n):
            counts[i] = sorted({*votes, i} - taken) if over[i] else [i]
            taken |= set(counts[i])
    return counts


def pieces(
    named: list[str], sure: list[float], made: DecisionRule, hop: float, at: float
) -> list[Found]:
    """Return (label, score, start, end, from, to) of each stretch: windows last a second."""
    counts, found, i = counting(named, sure, made), [], 0
    while i < len(named):
        members: list[int] = []
        begin, last = i, i
        while i in counts:
            best = max(members, key=lambda j: (sure[j], -members.index(j)), default=None)
            if best is not None and i * hop >= best * hop + 1:
                break
            rows = counts[i]
            top = max(rows, key=lambda j: (sure[j], -j))
            members.append(top)
            begin = min(begin, *rows)
            last, i = i, i + 1
        if members:
            best = max(members, key=lambda j: (sure[j], -members.index(j)))
            start = at + best * hop
            found.append((named[best], sure[best], start, start + 1,
                          at + begin * hop, at + last * hop + 1))  # fmt: skip
        else:
            i += 1
    return found


def joined(found: list[Found], made: DecisionRule) -> list[Found]:
    if not made.merge_seconds:
        return found
    done: list[list[Found]] = []
    for event in sorted(found, key=lambda e: (e[0], e[4])):
        group = done[-1] if done else []
        near = bool(group) and group[-1][0] == event[0] and (
            event[4] - max(e[5] for e in group) < made.merge_seconds)  # fmt: skip
        if near and max(e[5] for e in group) - group[0][4] < made.longest_seconds:
            group.append(event)
        else:
            done.append([event])
    best = [max(group, key=lambda e: e[1]) for group in done]
    return [(*b[:4], g[0][4], max(e[5] for e in g)) for b, g in zip(best, done, strict=True)]


def hushed(found: list[Found], made: DecisionRule) -> list[Found]:
    ends: dict[str, float] = {}
    kept = []
    for event in sorted(found, key=lambda e: e[4]):
        begin, end = event[4:6] if made.merge_seconds else event[2:4]
        if event[0] not in ends or begin >= ends[event[0]] + made.refractory_seconds:
            kept.append(event)
        ends[event[0]] = end
    return kept


def oracle(stretches: list[np.ndarray], made: DecisionRule, hop: float) -> list[Found]:
    """Return what is to be reported of scores (windows, labels) with 100 s between the stretches."""
    found: dict[int, list[Found]] = {}
    for k, scores in enumerate(stretches):
        mean = smoothed(scores, made.smoothing_windows)
        for stream in range(len(LABELS) if made.activation == "sigmoid" else 1):
            best = mean.argmax(axis=1) if made.activation == "softmax" else [stream] * len(mean)
            named = [LABELS[j] for j in best]
            sure = [float(mean[i, j]) for i, j in enumerate(best)]
            events = joined(pieces(named, sure, made, hop, 100.0 * k), made)
            found.setdefault(stream, []).extend(events)
    return sorted(e for events in found.values() for e in hushed(events, made))


steps = st.integers(0, 10).map(lambda n: n / 10)
streams = st.lists(st.lists(st.tuples(steps, steps, steps), min_size=1, max_size=24),
                   min_size=1, max_size=3)  # fmt: skip


@st.composite
def rules(draw: st.DrawFn) -> DecisionRule:
    of = draw(st.integers(1, 5))
    return rule(
        thresholds={k: draw(st.sampled_from([0.25, 0.5, 0.75])) for k in LABELS},
        smoothing_windows=draw(st.integers(1, 3)), activation=draw(st.sampled_from(["softmax", "sigmoid"])),
        refractory_seconds=draw(st.sampled_from([0.0, 0.5, 1.0, 4.0])),
        ignore=draw(st.sampled_from([frozenset(), frozenset({"background"})])),
        of_windows=of, confirm_windows=draw(st.integers(1, of)),
        release=draw(st.sampled_from([0.0, 0.125, 0.25])),
        merge_seconds=draw(st.sampled_from([0.0, 0.5, 1.0, 3.0])),
        longest_seconds=draw(st.sampled_from([2.0, 60.0])),
    )  # fmt: skip


@settings(deadline=None, max_examples=600)
@given(streams, rules(), st.sampled_from([0.25, 0.5, 1.0, 1.5]))
def test_the_recorder_reports_what_an_oracle_finds_that_sees_the_whole_stream(
    drawn: list[list[tuple[float, ...]]], made: DecisionRule, hop: float
) -> None:
    stretches = [np.array(rows, np.float32) for rows in drawn]
    decider, found = Decider(made), []
    for k, scores in enumerate(stretches):
        for i, one in enumerate(scores):
            start = 100.0 * k + hop * i
            found += decider.step(start, start + 1, one)
        found += decider.flush()
    assert sorted(dataclasses.astuple(d) for d in found) == oracle(stretches, made, hop)


@settings(deadline=None, max_examples=100)
@given(rules(), st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(0, 2**31),
       st.lists(st.integers(1, 500), min_size=1, max_size=4))  # fmt: skip
def test_blocks_of_any_size_give_the_same_events_over_gaps_too(
    made: DecisionRule, chunks: list[int], seed: int, stretches: list[int]
) -> None:
    """Ten samples are a window of a second, three are a hop; a window's scores are its sound."""
    generator = np.random.default_rng(seed)
    sounds = [(generator.integers(0, 11, n) / 10).astype(np.float32) for n in stretches]

    def heard(sizes: list[int] | None) -> list[Detection]:
        windower, decider, found = Windower(10, 3), Decider(made), []
        for sound in sounds:
            done, turn = 0, itertools.cycle(sizes or [len(sound)])
            while done < len(sound):
                piece = sound[done : done + next(turn)]
                done += len(piece)
                for first, window in windower.push(piece):
                    found += decider.step(first / 10, first / 10 + 1, window[:3])
            windower.gap(25)
            found += decider.flush()
        return found

    assert heard(chunks) == heard(None)
