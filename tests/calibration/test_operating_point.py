"""Thresholds for a rate of false alarms: the recorder's own count, exact on one stream, near on another."""

from __future__ import annotations

import dataclasses
from itertools import product
from typing import Any

import numpy as np
import pytest
from slow_cases import some_of

from edgeprune_calibration.count_intervals import poisson_interval
from edgeprune_calibration.event_matching import Event, match
from edgeprune_calibration.operating_point import (
    FLOOR,
    ScoredStream,
    at_false_alarms,
    at_precision,
    candidate_labels,
    count,
    evaluate,
    listen_to,
    replay,
    smooth,
)
from edgeprune_device.detection.decision_rule import DecisionRule

LABELS = ("background", "robin", "wren", "owl")
HOP, WINDOW = 0.5, 1.0


def rule(activation: str = "softmax", **changes: Any) -> DecisionRule:
    made = DecisionRule(
        LABELS, dict.fromkeys(LABELS, 0.5), 1, 1.0, frozenset({"background"}), activation
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def stream(
    seed: int, hours: float, activation: str = "softmax", a_minute: float = 1.0
) -> ScoredStream:
    """Make a scored stream: songs that mostly raise their label, and noise that sometimes does."""
    generator = np.random.default_rng(seed)
    number = round(hours * 3600 / HOP)
    starts = np.arange(number, dtype=np.float64) * HOP
    slow = generator.normal(size=(number, 4))
    logits = 1.2 * (slow + np.vstack([slow[:1], slow[:-1]])) + [2.0, 0.0, -0.5, -1.0]
    truth = []
    for i in np.flatnonzero(generator.random(number - 4) < a_minute / 60 * HOP):
        label = int(generator.integers(1, 4))
        logits[i : i + 3, label] += generator.normal(5.0, 1.5)
        truth.append(Event(LABELS[label], i * HOP + 0.3, i * HOP + 1.7))
    powers = np.exp(logits)
    scores = powers / powers.sum(axis=1, keepdims=True)
    if activation == "sigmoid":
        scores = 1 / (1 + np.exp(2 - logits))
    return ScoredStream(
        scores.astype(np.float32), starts, starts + WINDOW, tuple(truth), number * HOP + HOP
    )


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("smoothing", [1, 2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_what_is_counted_is_what_the_recorder_reports(
    activation: str, smoothing: int, seed: int
) -> None:
    heard = stream(seed, 0.5, activation, a_minute=6)
    generator = np.random.default_rng(seed)
    asked = rule(activation, smoothing_windows=smoothing,
                 thresholds={x: float(generator.uniform(0.2, 0.9)) for x in LABELS})  # fmt: skip
    quick = replay(candidate_labels(smooth(heard.scores, smoothing), activation), heard, asked)
    slow = listen_to(heard, asked)
    key = lambda e: (e.start_seconds, e.label)  # noqa: E731
    assert sorted(quick, key=key) == sorted(slow, key=key)
    assert len(slow) > 10


def test_smoothing_averages_the_windows_so_far() -> None:
    scores = np.random.default_rng(0).random((7, 2)).astype(np.float32)
    expected = [scores[max(0, i - 2) : i + 1].mean(axis=0) for i in range(7)]
    np.testing.assert_allclose(smooth(scores, 3), expected, rtol=1e-6)
    np.testing.assert_array_equal(smooth(scores, 1), scores)
    assert smooth(scores[:2], 5).shape == (2, 2)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("per_hour", [10.0, 40.0])
def test_the_rate_asked_for_is_met_on_the_stream_itself(activation: str, per_hour: float) -> None:
    heard = stream(0, 4, activation)
    chosen = at_false_alarms([heard], rule(activation), per_hour)
    assert chosen.total.false_alarms_per_hour == pytest.approx(per_hour, rel=0.05)
    assert chosen.total == match(listen_to(heard, chosen.rule), heard.truth, heard.seconds)
    assert chosen.total.recall > 0.5
    each = [o.false_alarms for o in chosen.per_label.values()]
    assert set(chosen.per_label) == set(LABELS[1:])
    assert sum(each) == chosen.total.false_alarms
    assert max(each) - min(each) <= 5  # dealt out evenly


@pytest.mark.parametrize(
    ("per_hour", "activation"),
    some_of(product((25.0, 60.0), ("softmax", "sigmoid")), (25.0, "softmax")),
)
def test_on_held_out_streams_false_alarms_come_within_a_fifth_of_the_rate(
    per_hour: float, activation: str
) -> None:
    """16 hours: 400 false alarms or more, so that chance moves the count by a tenth at most.

    The calibration's own count moves it by as much again; a fifth is three such deviations.
    """
    chosen = at_false_alarms([stream(1, 16, activation)], rule(activation), per_hour, (1, 3))
    for seed in (2, 3):
        later = evaluate([stream(seed, 16, activation)], chosen.rule).total
        assert later.false_alarms_per_hour == pytest.approx(per_hour, rel=0.2)


def test_many_labels_with_few_false_alarms_each_are_not_biased() -> None:
    """Twenty labels, one or two false alarms each: a threshold under the k-th lets k through."""
    labels = tuple(f"l{i}" for i in range(20))
    wide = DecisionRule(labels, dict.fromkeys(labels, 0.5), 1, 1.0, frozenset(), "sigmoid")
    found = []
    for seed in range(8):
        parts = []
        for part in range(2):
            generator = np.random.default_rng([seed, part])
            starts = np.arange(7200, dtype=np.float64) * HOP
            scores = generator.beta(1, 6, (7200, 20)).astype(np.float32)
            parts.append(ScoredStream(scores, starts, starts + WINDOW, (), 3600.0))
        chosen = at_false_alarms(parts[:1], wide, 30.0, (1,))
        assert chosen.total.false_alarms == pytest.approx(30, abs=1)
        found.append(evaluate(parts[1:], chosen.rule).total.false_alarms)
    low, high = poisson_interval(sum(found))
    spread = 2.0  # the thresholds' own chance doubles the variance
    middle = sum(found)
    assert middle + spread * (low - middle) <= 240 <= middle + spread * (high - middle)


def test_a_rate_higher_than_there_is_gets_the_lowest_thresholds() -> None:
    heard = stream(0, 1)
    chosen = at_false_alarms([heard], rule(), 100_000.0, (1,))
    assert all(chosen.rule.thresholds[x] == FLOOR for x in LABELS[1:])


def test_the_smoothing_that_finds_most_is_chosen() -> None:
    heard = stream(5, 4)
    chosen = at_false_alarms([heard], rule(), 20.0, (1, 2, 3))
    tried = {k: at_false_alarms([heard], rule(), 20.0, (k,)).total.recall for k in (1, 2, 3)}
    assert chosen.total.recall == max(tried.values())
    assert tried[chosen.rule.smoothing_windows] == max(tried.values())


@pytest.mark.parametrize(("precision", "hours"), some_of([(0.7, 1), (0.7, 4), (0.95, 4)], (0.7, 1)))
def test_each_label_reaches_a_precision(precision: float, hours: int) -> None:
    heard = stream(0, hours)
    chosen = at_precision([heard], rule(), precision, (1,))
    for label, outcome in chosen.per_label.items():
        assert outcome.precision >= precision - 0.03, label
        assert outcome.hits >= 5
    assert chosen.total.recall > 0.1


def test_counts_of_several_streams_add_up() -> None:
    streams = [stream(0, 1), stream(1, 2)]
    both = evaluate(streams, rule())
    each = [evaluate([heard], rule()).total for heard in streams]
    assert both.total.false_alarms == sum(o.false_alarms for o in each)
    assert both.total.hours == pytest.approx(3.0, abs=0.01)
    found = [listen_to(heard, rule()) for heard in streams]
    assert count(streams, found, "owl") == both.per_label["owl"]
