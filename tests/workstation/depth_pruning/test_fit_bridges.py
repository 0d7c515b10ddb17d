"""Bridges as they are fitted: the least-squares map between two states, and which a cut needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from slow_cases import families
from tiny_models import FAMILY_NAMES
from tiny_recordings import TONES

from edgeprune.core.console import Silent
from edgeprune.data.windows import Windows
from edgeprune.depth_pruning.fit_bridges import fit_bridges, removed_spans, used_bridges
from edgeprune.depth_pruning.layer_stack import Stack
from edgeprune.models import loading
from edgeprune.models.families import FAMILIES

one_width = pytest.mark.parametrize(
    "family_folder",
    families(name for name in FAMILY_NAMES if FAMILIES[name].bridges),
    indirect=True,
)
"""Every family whose states have one width, in turn."""


def windows(count: int = 12, seed: int = 0) -> Windows:
    samples = np.random.default_rng(seed).normal(0, 0.1, (count, 16000)).astype(np.float32)
    sound = np.tile([[0, 16000]], (count, 1))
    rows = tuple({"label": "low", "split": "train", "group": "", "columns": {}} for _ in samples)
    return Windows(samples, sound, np.arange(count), rows, tuple(TONES), 16000)


def test_gaps_are_the_spans_between_the_layers_that_stay() -> None:
    assert removed_spans((0, 1, 2, 3), 4) == []
    assert removed_spans((0, 3), 4) == [(1, 3)]
    assert removed_spans((0, 2, 5), 8) == [(1, 2), (3, 5), (6, 8)]
    assert removed_spans((2, 3), 4) == [(0, 2)]


def test_a_bridge_is_placed_behind_the_block_before_its_gap() -> None:
    one = (torch.eye(2), torch.zeros(2))
    table = {(1, 2): one, (3, 5): one, (6, 8): one}
    assert set(used_bridges(table, (0, 2, 5), 8)) == {0, 1, 2}
    assert used_bridges(table, (2, 5), 8).keys() == {0, 1}  # nothing stands before layer 2


@one_width
def test_a_bridge_is_the_least_squares_map_between_the_two_states(family_folder: Path) -> None:
    """The same regression by numpy's solver, over rows that weigh a class token as all the rest."""
    model = loading.load_model(str(family_folder))
    stack, clips = Stack(model), windows(40)
    found = fit_bridges(stack, clips, torch.device("cpu"), Silent())
    assert set(found) == {(1, 2), (1, 3), (2, 3)}
    with torch.inference_mode():
        states = [
            s.double().numpy()
            for s in stack.states(stack.run_front_end(torch.from_numpy(clips.samples)))
        ]
    x, y = states[1], states[3]
    token = np.ones(x.shape[1])
    skip = stack.family.class_tokens
    token[:skip] = (x.shape[1] - skip) / max(1, skip)
    weights = np.tile(token, len(x))
    x, y = x.reshape(-1, 16), y.reshape(-1, 16)
    x_mean, y_mean = (np.average(v, axis=0, weights=weights) for v in (x, y))
    cov = np.cov(x.T, aweights=weights, ddof=0)
    ridge = np.sqrt(1e-3 * np.diag(cov).mean() * weights.sum())
    rows = np.concatenate([(x - x_mean) * np.sqrt(weights)[:, None], ridge * np.eye(16)])
    wanted = np.concatenate([(y - y_mean) * np.sqrt(weights)[:, None], ridge * np.eye(16)])
    solved = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    weight, bias = (part.double().numpy() for part in found[1, 3])
    np.testing.assert_allclose(x @ weight.T + bias, (x - x_mean) @ solved + y_mean, atol=1e-3)
