"""The coverage ledger: every sample is exactly one thing, whatever happens."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeprune_device.journal.coverage import (
    ANALYSED,
    BACKLOG,
    BETWEEN,
    DROPPED,
    INVALID,
    NOT_CAPTURED,
    TAIL,
    CoverageLedger,
    Span,
    by_hour,
)


def test_overlapping_windows_count_each_sample_once() -> None:
    ledger = CoverageLedger()
    for first in (0, 50, 100):
        ledger.analysed(first, first + 100)
    ledger.end(210)
    assert ledger.totals == {(ANALYSED, ""): 200, (DROPPED, TAIL): 10}
    assert ledger.drain() == [Span(0, 200, ANALYSED, ""), Span(200, 210, DROPPED, TAIL)]


def test_what_another_window_holds_too_is_analysed_and_the_rest_is_not() -> None:
    ledger = CoverageLedger()
    ledger.analysed(0, 100)
    ledger.rejected(50, 150, INVALID, "stuck")
    ledger.rejected(100, 200, INVALID, "stuck")
    ledger.analysed(150, 250)
    assert ledger.totals == {(ANALYSED, ""): 200, (INVALID, "stuck"): 50}


def test_a_hop_longer_than_the_window_leaves_sound_between_windows() -> None:
    ledger = CoverageLedger()
    ledger.analysed(0, 100)
    ledger.analysed(150, 250)
    assert ledger.totals[DROPPED, BETWEEN] == 50


def test_a_gap_settles_what_was_open_and_says_why_the_rest_is_missing() -> None:
    ledger = CoverageLedger()
    ledger.rejected(0, 100, DROPPED, "load")
    ledger.gap(130, 1000, "microphone lost")
    ledger.gap(1130, 40, BACKLOG)
    assert ledger.drain() == [
        Span(0, 100, DROPPED, "load"), Span(100, 130, DROPPED, TAIL),
        Span(130, 1130, NOT_CAPTURED, "microphone lost"), Span(1130, 1170, DROPPED, BACKLOG),
    ]  # fmt: skip


EVENTS = st.lists(
    st.tuples(st.sampled_from(["analysed", "load", "stuck", "gap"]), st.integers(1, 400)),
    max_size=40,
)  # fmt: skip


@given(EVENTS, st.integers(1, 120), st.integers(1, 200), st.integers(0, 99))
def test_every_sample_is_what_a_count_sample_by_sample_says(
    events: list[tuple[str, int]], window: int, hop: int, tail: int
) -> None:
    ledger, oracle = CoverageLedger(), np.full(100_000, "", dtype=object)
    begin = position = following = 0
    for what, size in events:
        if what == "gap":
            oracle[position : position + size] = "not captured"
            ledger.gap(position, size, "lost")
            begin = position = following = position + size
            continue
        first, last = following, following + window
        following, position = first + hop, max(position, last)
        if what == "analysed":
            oracle[first:last] = "analysed"
            ledger.analysed(first, last)
        else:  # the last reason that a sample was rejected for stands
            held = oracle[first:last]
            held[held != "analysed"] = what
            ledger.rejected(first, last, DROPPED if what == "load" else INVALID, what)
    assert begin <= position
    ledger.end(position + tail)
    expected = Counter(oracle[: position + tail])
    kinds = {
        "analysed": (ANALYSED, ""), "load": (DROPPED, "load"), "stuck": (INVALID, "stuck"),
        "not captured": (NOT_CAPTURED, "lost"),
    }  # fmt: skip
    for name, key in kinds.items():
        assert ledger.totals[key] == expected[name]
    assert sum(ledger.totals.values()) == ledger.position == position + tail
    spans = ledger.drain()
    assert sum(span.last - span.first for span in spans) == position + tail
    assert all(a.last == b.first for a, b in pairwise(spans))


def test_spans_are_cut_at_full_hours_and_keep_their_samples() -> None:
    start = datetime(2026, 3, 1, 22, 59, 58, tzinfo=UTC)
    spans = [Span(0, 40, ANALYSED, ""), Span(40, 36_100, NOT_CAPTURED, "lost")]
    rows = list(by_hour(spans, lambda sample: start + timedelta(seconds=sample / 10), 10))
    assert rows == [
        ("2026-03-01T22+00:00", ANALYSED, "", 20), ("2026-03-01T23+00:00", ANALYSED, "", 20),
        ("2026-03-01T23+00:00", NOT_CAPTURED, "lost", 35_980),
        ("2026-03-02T00+00:00", NOT_CAPTURED, "lost", 80),
    ]  # fmt: skip
