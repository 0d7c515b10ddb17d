"""Every rule, at every depth: how many layers, which, and what the rule's paper says."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from edgeprune.core.settings import PICKS
from edgeprune.depth_pruning.selection_rules import RULES, Evidence

LAYERS = 6


def evidence(**changes: object) -> Evidence:
    place = np.arange(LAYERS + 1)
    apart = np.abs(place[:, None] - place[None]) / LAYERS
    given = {
        "layers": LAYERS, "convexity": [0.3, 0.5, 0.7, 0.995, 1.0, 0.9, 0.8],
        "block_influence": [0.01, 0.5, 0.1, 0.4, 0.2, 0.3], "angles": apart,
        "similarity": 1 - apart, "removal": [4, 2, 5, 1, 3],
    }  # fmt: skip
    return Evidence(**{**given, **changes})


@pytest.mark.parametrize("name", RULES)
def test_every_rule_keeps_as_many_layers_as_it_is_asked_ascending_and_layer_0(name: str) -> None:
    for depth in range(1, LAYERS + 1):
        keep = RULES[name].keep(evidence(), depth)
        assert len(keep) == depth
        assert list(keep) == sorted(set(keep))
        assert keep[0] == 0
        assert keep[-1] < LAYERS


def test_the_recipe_knows_exactly_these_rules() -> None:
    assert tuple(RULES) == PICKS


def test_convexity_names_the_peak_and_the_first_layer_near_it() -> None:
    peak, plateau = RULES["convexity-peak"], RULES["convexity-plateau"]
    assert peak.depth is not None
    assert plateau.depth is not None
    assert peak.depth(evidence()) == 4
    assert plateau.depth(evidence()) == 3
    assert plateau.depth(evidence(tolerance=0.4)) == 2
    assert plateau.keep(evidence(), 3) == (0, 1, 2)


def test_backward_drops_the_last_and_forward_the_first_but_layer_0() -> None:
    assert RULES["backward"].keep(evidence(), 4) == (0, 1, 2, 3)
    assert RULES["forward"].keep(evidence(), 4) == (0, 3, 4, 5)


def test_block_influence_drops_what_changes_least_and_spares_layer_0() -> None:
    """Layer 0 has the least influence of all (0.01) and stays; then 2 (0.1) and 4 (0.2) go."""
    assert RULES["block-influence"].keep(evidence(), 4) == (0, 1, 3, 5)


def test_the_span_with_the_smallest_angle_goes_as_a_whole() -> None:
    angles = np.full((LAYERS + 1, LAYERS + 1), 0.5)
    angles[2, 5] = angles[5, 2] = 0.1
    angles[0, 3] = 0.0  # would drop layer 0
    assert RULES["angular-span"].keep(evidence(angles=angles), 3) == (0, 1, 5)


def test_one_layer_leads_into_every_block_of_alike_states() -> None:
    """States 1-2, 3-5 and 6 are alike: layer 2 leads from 2 to 3, layer 5 from 5 to 6."""
    code = np.array([0, 1, 1, 2, 2, 2, 3])
    similarity = np.where(code[:, None] == code[None], 1.0, 0.2)
    assert RULES["similarity-block"].keep(evidence(similarity=similarity), 3) == (0, 2, 5)


def test_measured_removal_is_followed_in_its_order() -> None:
    assert RULES["greedy-ablation"].keep(evidence(), 4) == (0, 1, 3, 5)
    assert RULES["greedy-ablation"].keep(evidence(removal=[0, 5, 4, 3, 2]), 3) == (1, 2, 3)


def test_the_control_is_random_but_the_same_for_the_same_seed() -> None:
    kept = {RULES["random"].keep(evidence(seed=seed), 3) for seed in range(30)}
    assert len(kept) > 5
    assert RULES["random"].keep(evidence(seed=4), 3) == RULES["random"].keep(evidence(seed=4), 3)
    nested = [set(RULES["random"].keep(evidence(seed=4), depth)) for depth in range(1, 7)]
    assert all(a < b for a, b in pairwise(nested))
