"""The verdict: which depths hold, which rule won, and what is said of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeprune.depth_pruning.rule_comparison import (
    compare,
    correlate_with_accuracy,
    headline,
    pick_table,
)
from edgeprune.depth_pruning.selection_rules import RULES

LAYERS = 4
VALID = {1: 0.40, 2: 0.86, 3: 0.89, 4: 0.90}


def known(valid: dict[int, float] = VALID) -> dict[str, Any]:
    """Make ``measured.json`` for two rules, one of them random with two orders."""
    keeps = {
        "backward": {str(d): list(range(d)) for d in range(1, 5)},
        "random 0": {"1": [0], "2": [0, 1], "3": [0, 1, 2], "4": [0, 1, 2, 3]},
        "random 1": {"1": [0], "2": [0, 3], "3": [0, 2, 3], "4": [0, 1, 2, 3]},
    }
    cuts = {}
    for depths in keeps.values():
        for depth, keep in depths.items():
            shift = 0.1 if keep[-1] == 3 and len(keep) < 4 else 0.0
            accuracy = valid[int(depth)]
            cuts["-".join(map(str, keep))] = {
                "keep": keep, "valid_accuracy": accuracy, "accuracy": accuracy - shift,
                "bridged_valid_accuracy": accuracy + 0.001, "bridged_accuracy": accuracy,
                "interval": [accuracy - 0.05, accuracy + 0.05],
            }  # fmt: skip
    return {"layers": LAYERS, "keeps": keeps, "cuts": cuts}


def test_the_fewest_layers_that_hold_are_found_on_the_validation_clips() -> None:
    table = pick_table(known(), {}, max_drop=0.011)
    assert table["backward"]["held"] == 3
    assert table["backward"]["held_95"] == 2  # 0.86 is over 0.95 x 0.90 = 0.855
    assert table["backward"]["held_95_bridged"] == 2
    assert pick_table(known(), {}, max_drop=0.0)["backward"]["held"] == 4


def test_the_control_is_the_mean_of_its_orders_and_keeps_them() -> None:
    row = pick_table(known(), {}, max_drop=0.01)["random"]["depths"][1]
    assert row["draws"] == pytest.approx([0.86, 0.76])
    assert row["accuracy"] == pytest.approx(0.81)
    assert row["keep"] == [0, 1]


def test_what_was_fine_tuned_stands_beside_what_was_not() -> None:
    whole = {"0-1-2-3": {"accuracy": 0.99}}
    trained = {
        "0": {"accuracy": 0.5},
        "0-1": {"accuracy": 0.95},
        "0-1-2": {"accuracy": 0.97},
    } | whole
    table = pick_table(known(), trained, max_drop=0.01)
    rows = table["backward"]["depths"]
    assert [row["finetuned_accuracy"] for row in rows] == [0.5, 0.95, 0.97, 0.99]
    # The control shares cuts with it, but was not tuned: a few of its depths would make no curve.
    assert {row["finetuned_accuracy"] for row in table["random"]["depths"]} == {None}


def test_convexity_is_correlated_with_the_accuracy_at_the_same_depth() -> None:
    rows = pick_table(known(), {}, max_drop=0.01)["backward"]["depths"]
    found = correlate_with_accuracy([9.0, 0.1, 0.2, 0.3, 0.4], rows)
    assert found is not None
    assert found["cut"]["rho"] == pytest.approx(1.0)
    assert found["cut"]["interval"] is None  # of a perfect order the method knows nothing
    assert found["cut"]["layers"] == 4
    assert found["finetuned"] is None
    reverse = correlate_with_accuracy([9.0, 0.4, 0.3, 0.2, 0.1], rows)
    assert reverse is not None
    assert reverse["cut"]["rho"] == pytest.approx(-1.0)


def answers(shares: dict[str, float], clips: int = 400) -> dict[str, Any]:
    return {
        name: (np.arange(clips) < share * clips).astype(float) for name, share in shares.items()
    }


KEEPS = {
    "backward": {"1": [0], "2": [0, 1], "3": [0, 1, 2]},
    "convexity-peak": {"1": [0], "2": [0, 1], "3": [0, 1, 2]},
    "forward": {"1": [0], "2": [0, 2], "3": [0, 1, 2]},
    "greedy-bridged": {"1": [1], "2": [0, 2], "3": [0, 1, 2]},
    "random 0": {"1": [2], "2": [1, 2], "3": [0, 1, 2]},
}


def test_the_winner_keeps_the_most_over_all_depths_and_the_difference_is_tested() -> None:
    """The rules share depth 1 and differ by 8 points at depth 2: 4 on the average."""
    right = answers(
        {"0": 0.4, "0-1": 0.80, "0-2": 0.88, "0-1-2": 0.9, "2": 1.0, "1-2": 1.0, "1": 1.0}
    )
    found = compare(KEEPS, right, None, "Here")
    assert found is not None
    assert (found["winner"], found["runner_up"]) == ("forward", "backward")
    assert found["difference"] == pytest.approx(0.04)
    assert found["significant"]
    assert "4.0 percentage points more than backward" in found["sentence"]
    assert "The difference is significant" in found["sentence"]
    assert set(found["mean_accuracy"]) == {"backward", "forward"}


def test_a_difference_within_chance_is_said_not_to_be_significant() -> None:
    right = answers({"0": 0.4, "0-1": 0.80, "0-2": 0.805, "0-1-2": 0.9})
    right |= {"2": right["0"], "1-2": right["0"], "1": right["0"]}
    found = compare(KEEPS, right, None, "Here")
    assert found is not None
    assert not found["significant"]
    assert "The difference is not significant" in found["sentence"]


def test_few_speakers_make_no_significance() -> None:
    """All of the difference comes from three speakers: at best p = 1/4."""
    right = answers({"0": 0.4, "0-1": 0.80, "0-2": 0.88, "0-1-2": 0.9})
    speakers = np.repeat(["a", "b", "c"], [100, 200, 100]).tolist()
    found = compare(KEEPS | {"greedy-bridged": KEEPS["forward"], "random 0": KEEPS["forward"]},
                    right, speakers, "Here")  # fmt: skip
    assert found is not None
    assert not found["significant"]


def test_the_headline_names_the_layers_to_keep_and_what_they_are_worth() -> None:
    table = pick_table(known(), {}, max_drop=0.011)
    facts = {"layers": LAYERS, "first_within_1_percent": {"teacher": 3}, "task": "word",
             "picks": table, "max_drop": 0.011, "measured_on": {"baseline": 0.9}}  # fmt: skip
    line = headline(facts)
    assert "Keep layers 0-2 of 4 (backward)" in line
    assert "89.0 %" in line
    assert "its peak after 3 of 4 layers" in line
    assert (
        "layers 0-1 alone (backward) reach 86.0 % (95.6 % of the whole model's accuracy), "
        "with 50.0 % of the layers removed" in line
    )
    facts |= {"picks": None}
    assert "No layer subset was measured" in headline(facts)


def test_where_no_layer_can_go_the_headline_says_so() -> None:
    table = pick_table(known({1: 0.1, 2: 0.1, 3: 0.1, 4: 0.9}), {}, max_drop=0.01)
    facts = {"layers": LAYERS, "first_within_1_percent": {"teacher": 3}, "task": "word",
             "picks": table, "max_drop": 0.01, "measured_on": {"baseline": 0.0}}  # fmt: skip
    line = headline(facts)
    assert line.startswith("Keep all 4 layers unless the model is retrained")
    assert "bridges" not in line


def test_of_equally_few_layers_the_validation_clips_choose_not_the_test_clips() -> None:
    def pick(valid: float, test: float) -> dict[str, Any]:
        row = {"layers": 2, "keep": [0, 1], "valid_accuracy": valid, "accuracy": test,
               "bridged_valid_accuracy": valid, "bridged_accuracy": test}  # fmt: skip
        return {"held": 2, "held_95_bridged": 2, "depths": [row]}

    facts = {"layers": LAYERS, "first_within_1_percent": {"teacher": 3}, "task": "word",
             "picks": {"forward": pick(0.90, 0.85), "backward": pick(0.95, 0.80)},
             "max_drop": 0.01, "measured_on": {"baseline": 0.9}}  # fmt: skip
    assert "(backward)" in headline(facts)
    assert "(forward)" not in headline(facts)


def test_every_rule_is_a_row_where_it_was_measured() -> None:
    assert set(pick_table(known(), {}, 0.01)) == {"backward", "random"}
    assert set(pick_table(known(), {}, 0.01)) <= set(RULES)
