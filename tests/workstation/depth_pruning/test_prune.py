"""The search for the cut: which candidates are tried, in which order, and which one is kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from said import Lines
from steps_fixture import CONTEXT

from edgeprune.core.settings import Prune
from edgeprune.depth_pruning import prune as module
from edgeprune.depth_pruning.prune import fixed_layers, prune
from edgeprune.models import loading
from edgeprune.models.families import keep_layers, layers_of
from edgeprune.training import loop
from edgeprune.training.step_records import read_step, write_step
from edgeprune_device.errors import EdgepruneError

LAYERS = 3
TEACHER, MOST = 0.9, 0.1  # its score, and what may be lost: the floor is 80 %
QUICK = Prune(recovery_epochs=0)
Search = Callable[..., tuple[dict[str, Any], str]]


def layer(convexity: float) -> dict[str, float]:
    return {"mean_of_classes": convexity}


SCORES: dict[str, Any] = {  # convexity is highest after the second block
    "task": "label", "layers": LAYERS, "block_influence": [0.3, 0.1, 0.2],
    "angular": (1 - np.eye(LAYERS + 1)).tolist(), "similarity": {"cka": np.eye(LAYERS + 1).tolist()},
    "curves": {"teacher": {"label": [layer(x) for x in (0.1, 0.2, 0.3, 0.9)]},
               "untouched": {"label": [layer(x) for x in (0.2, 0.5, 0.9, 0.8)]}},
}  # fmt: skip


@pytest.fixture
def teacher(model_folder: Path, tmp_path: Path) -> Path:
    """Give the folder of a teacher that is its own student."""
    shutil.copytree(model_folder, tmp_path / "teach" / "model")
    model = loading.load_model(str(model_folder))
    write_step(tmp_path / "teach", model, 3200, step="teach", valid_score=TEACHER, curve=[],
               unchanged=True)  # fmt: skip
    (tmp_path / "teach" / "teach.json").write_text(json.dumps({"valid_score": TEACHER}), "utf-8")
    return tmp_path / "teach"


@pytest.fixture
def search(
    teacher: Path, clips_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Search:
    """Return a search in which a cut scores what its number of layers is said to be worth."""

    def searched(
        worth: dict[int, float], settings: Prune = QUICK, scores: dict[str, Any] = SCORES
    ) -> tuple[dict[str, Any], str]:
        (tmp_path / "layers.json").write_text(json.dumps(scores), "utf-8")
        monkeypatch.setattr(loop, "evaluate", lambda cut, *_: worth[len(layers_of(cut))])
        out, said = tmp_path / "depth", Lines()
        out.mkdir(exist_ok=True)
        prune(teacher, teacher, clips_folder, CONTEXT, tmp_path, MOST, out=out, settings=settings,
              ui=said)  # fmt: skip
        return read_step(out), said.text

    return searched


@pytest.mark.parametrize(
    ("worth", "tried", "kept"),
    [({2: 0.85, 1: 0.8}, [[0, 1], [0]], [0]), ({2: 0.85, 1: 0.79}, [[0, 1], [0]], [0, 1]),
     ({2: 0.79}, [[0, 1]], [0, 1, 2])],
)  # fmt: skip
def test_convexity_proposes_a_depth_and_what_holds_the_score_is_kept(
    worth: dict[int, float], tried: list[list[int]], kept: list[int], search: Search,
    tmp_path: Path,
) -> None:  # fmt: skip
    facts, said = search(worth)
    assert [candidate["keep"] for candidate in facts["tried"]] == tried
    assert [candidate["valid_score"] for candidate in facts["tried"]] == list(worth.values())
    assert [candidate["convexity"] for candidate in facts["tried"]] == [0.9, 0.5][: len(tried)]
    assert (facts["kept"], facts["layers"], facts["of_layers"]) == (kept, len(kept), LAYERS)
    assert facts["valid_score"] == worth.get(len(kept), TEACHER)
    assert facts["unchanged"] is (len(kept) == LAYERS)
    assert (facts["rule"], facts["first_candidate"]) == ("convexity-plateau", 2)
    assert f"of 3 layers: valid {100 * worth[2]:.1f} %" in said
    assert not list((tmp_path / "depth").glob("layers-*")), "what was only tried is gone"


def test_other_rules_halve_the_depth_and_leave_the_layers_they_name(
    search: Search, teacher: Path, tmp_path: Path
) -> None:
    facts, _ = search({1: 0.5, 2: 0.85}, replace(QUICK, pick="forward"))
    assert [candidate["keep"] for candidate in facts["tried"]] == [[0], [0, 2]]
    whole, left = (
        loading.load_model(str(folder / "model")) for folder in (teacher, tmp_path / "depth")
    )
    for block, place in zip(layers_of(left), (0, 2), strict=True):
        for name, value in layers_of(whole)[place].state_dict().items():
            assert torch.equal(block.state_dict()[name], value)


def test_layers_that_were_asked_for_are_kept_whatever_they_cost(search: Search) -> None:
    facts, said = search({2: 0.1}, replace(QUICK, layers=(0, 2)))
    assert (facts["kept"], facts["rule"]) == ([0, 2], "given")
    assert [candidate["held"] for candidate in facts["tried"]] == [False]
    assert "(rejected, minimum 80.0 %)" in said


def test_where_there_are_no_classes_the_last_layers_go_first(search: Search) -> None:
    facts, said = search({1: 0.85}, scores=SCORES | {"curves": {"teacher": {}, "untouched": {}}})
    assert (facts["kept"], facts["rule"]) == ([0], "backward")
    assert "no classes, so no convexity: using the rule backward" in said


def test_a_bridge_over_the_gap_is_fitted_and_saved_with_the_model(
    search: Search, tmp_path: Path
) -> None:
    facts, _ = search({2: 0.85}, replace(QUICK, layers=(0, 2), bridge=True))
    assert facts["bridged"] is True
    left = loading.load_model(str(tmp_path / "depth" / "model"))
    assert left.config.edgeprune_bridges == [0]  # behind the first of those that are left


def test_a_rule_that_measures_removes_what_costs_least_and_writes_the_order_down(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "greedy_removal", lambda *_: [1, 0])
    facts, _ = search({2: 0.85, 1: 0.1}, replace(QUICK, pick="greedy-ablation"))
    assert [candidate["keep"] for candidate in facts["tried"]] == [[2], [0, 2]]
    assert facts["kept"] == [0, 2]
    assert json.loads((tmp_path / "depth/removal.json").read_text("utf-8")) == [1, 0]


def test_a_cut_that_was_tried_before_an_interruption_is_not_tried_again(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyError):
        search({2: 0.85})  # it stops at the cut of one layer
    facts, _ = search({2: 0.0, 1: 0.8})
    assert [candidate["valid_score"] for candidate in facts["tried"]] == [0.85, 0.8]


def test_a_model_that_has_lost_layers_since_it_was_scored_is_refused(
    search: Search, teacher: Path
) -> None:
    model = loading.load_model(str(teacher / "model"))
    keep_layers(model, [0, 1])
    loading.save(model, teacher / "model")
    with pytest.raises(EdgepruneError, match="has scores of 3 layers, but the model has 2"):
        search({})


def test_layers_named_by_the_user_are_kept_as_they_are() -> None:
    assert fixed_layers(Prune(), 12) is None
    assert fixed_layers(Prune(keep=4), 12) == [0, 1, 2, 3]
    assert fixed_layers(Prune(layers=(0, 5, 7)), 12) == [0, 5, 7]
    with pytest.raises(EdgepruneError, match=r"keep = 13 is out of range \(allowed: 1 to 12\)"):
        fixed_layers(Prune(keep=13), 12)
    with pytest.raises(EdgepruneError, match="Layers 3, 1 cannot be kept"):
        fixed_layers(Prune(layers=(3, 1)), 12)
    with pytest.raises(EdgepruneError, match="Both --keep and --layers"):
        fixed_layers(Prune(keep=3, layers=(0, 1)), 12)
