"""The search for the depth: which candidates are tried, in which order, and which one is kept."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from edgeprune.depth_pruning.depth_search import bisect, search


class Holds:
    """Says a cut holds from some depth on, and remembers what was asked."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.asked: list[int] = []

    def __call__(self, keep: Sequence[int]) -> bool:
        assert list(keep) == list(range(len(keep)))
        self.asked.append(len(keep))
        return len(keep) >= self.depth


RISING = [0.30, 0.50, 0.60, 0.70, 0.80, 0.90, 0.995, 1.0, 0.99]
"""Convexity of a model with eight layers: within 1 % of the peak from layer 6 on."""


@pytest.mark.parametrize(
    ("holds_from", "asked", "kept"),
    [
        (5, [6, 5, 4], 5),  # shallower while it holds
        (6, [6, 5], 6),
        (7, [6, 7], 7),  # the first fails: deeper, one by one
        (9, [6, 7], 8),  # nothing holds: all layers stay, untried
        (1, [6, 5, 4, 3, 2, 1], 1),
    ],
)
def test_convexity_proposes_and_measurement_decides(
    holds_from: int, asked: list[int], kept: int
) -> None:
    holds = Holds(holds_from)
    assert search(RISING, 6, 1, holds) == list(range(kept))
    assert holds.asked == asked


def test_shallower_cuts_follow_in_the_order_of_their_convexity() -> None:
    curve = [0.1, 0.2, 0.8, 0.4, 0.6, 1.0, 1.0]
    holds = Holds(1)
    assert search(curve, 5, 1, holds) == [0]
    assert holds.asked == [5, 2, 1]  # 4 and 3 are deeper than 2, which held


def test_no_cut_is_tried_that_is_shallower_than_one_that_failed() -> None:
    curve = [0.1, 0.5, 0.2, 0.8, 0.7, 1.0, 1.0]
    holds = Holds(4)
    assert search(curve, 5, 1, holds) == [0, 1, 2, 3]
    assert holds.asked == [5, 3, 4]


def test_a_peak_at_the_last_layer_still_lets_shallower_cuts_be_tried() -> None:
    holds = Holds(2)
    assert search([0.1, 0.2, 0.3, 0.9], 3, 1, holds) == [0, 1]
    assert holds.asked == [2, 1]


@pytest.mark.parametrize("holds_from", range(1, 14))
@pytest.mark.parametrize("least", [1, 3])
def test_halving_finds_the_smallest_depth_that_holds_in_few_trials(
    holds_from: int, least: int
) -> None:
    asked = []

    def holds(keep: Sequence[int]) -> bool:
        asked.append(len(keep))
        return len(keep) >= holds_from

    kept = bisect(lambda depth: [0, *range(13 - depth, 12)], least, 12, holds)
    assert len(kept) == min(max(holds_from, least), 12)
    assert len(asked) <= 4
    assert len(set(asked)) == len(asked)
    assert min(asked) >= least
    assert max(asked) < 12  # the whole model needs no trial


def test_a_family_may_set_the_shallowest_cut() -> None:
    holds = Holds(0)
    assert search(RISING, 6, 3, holds) == [0, 1, 2]
    assert min(holds.asked) == 3
