"""Euclidean convexity: pairs drawn fairly, and what the rest of the model says between them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from measured_models import LABELS

from edgeprune.depth_pruning.euclidean_convexity import draw_pairs, euclidean_convexity
from edgeprune.depth_pruning.evaluator import Evaluator


def test_pairs_are_of_one_class_different_and_drawn_once() -> None:
    codes = np.repeat([0, 1, 2], [10, 4, 1])
    a, b = draw_pairs(codes, 5)
    assert (codes[a] == codes[b]).all()
    assert (a != b).all()
    assert len({tuple(sorted(p)) for p in zip(a.tolist(), b.tolist(), strict=True)}) == 10
    assert np.bincount(codes[a]).tolist() == [5, 5]  # class 1 has 6 pairs, class 2 none


def test_classes_of_one_clip_have_no_euclidean_convexity(evaluator: Evaluator) -> None:
    one_each = np.unique(evaluator.windows.targets(LABELS), return_index=True)[1]
    alone = replace(evaluator, windows=evaluator.windows.subset(one_each))
    assert euclidean_convexity(alone, 2) is None


def test_euclidean_convexity_counts_what_the_rest_of_the_model_says_between_two_clips(
    evaluator: Evaluator,
) -> None:
    """State 1 by hand: ten points between two clips' states, through blocks 1 and 2 and the head."""
    found = euclidean_convexity(evaluator, 2)
    assert found is not None
    assert len(found) == 4
    _, first = np.unique(evaluator.windows.clip, return_index=True)  # a clip has two windows here
    targets = evaluator.windows.targets(LABELS)
    a, b = (first[end] for end in draw_pairs(targets[first], 2))
    stack, right = evaluator.stack, []
    with torch.inference_mode():
        for i, j in zip(a, b, strict=True):
            entered = [
                stack.run_front_end(torch.from_numpy(evaluator.windows.read(np.array([k]))))
                for k in (i, j)
            ]
            x, y = (stack.states(batch)[1] for batch in entered)
            for step in range(1, 11):
                state = x + (y - x) * step / 11
                for block in (1, 2):
                    state = stack.block(block, state, entered[0])
                answer = stack.run_head([state], (0, 1, 2)).argmax()
                right.append(int(answer) == targets[i])
    assert found[1]["value"] == pytest.approx(np.mean(right))
    assert found[1]["pairs"] == len(a)
