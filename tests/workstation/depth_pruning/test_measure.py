"""What a model's cuts are worth, measured: every number is counted from which clips were right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from said import Lines

from edgeprune.core.settings import Measure
from edgeprune.depth_pruning import measure as module
from edgeprune.depth_pruning.measure import cut_name, keeps_of, measure
from edgeprune.depth_pruning.selection_rules import RANDOM, RULES, Evidence

LAYERS = 3
KNOWN: dict[str, Any] = {
    "layers": LAYERS, "convexity": [0.2, 0.5, 0.9, 0.8], "block_influence": [0.3, 0.1, 0.2],
    "angles": (1 - np.eye(4)).tolist(), "similarity": np.eye(4).tolist(), "tolerance": 0.01,
}  # fmt: skip


def evidence() -> Evidence:
    return Evidence(LAYERS, KNOWN["convexity"], KNOWN["block_influence"],
                    np.array(KNOWN["angles"]), np.array(KNOWN["similarity"]))  # fmt: skip


REMOVAL = {"plain": [2, 1, 0], "bridged": [1, 2, 0]}


def test_every_rule_keeps_layers_at_every_depth_and_the_control_in_every_order() -> None:
    found = keeps_of(evidence(), REMOVAL, 8, ())
    once = {name for name in RULES if name != RANDOM}
    assert set(found) == once | {f"{RANDOM} {seed}" for seed in range(8)}
    assert len({tuple(found[f"{RANDOM} {seed}"]["2"]) for seed in range(8)}) > 1
    for depths in found.values():
        assert {depth: len(keep) for depth, keep in depths.items()} == {"1": 1, "2": 2, "3": 3}
    assert found["greedy-ablation"]["1"] == [0]
    assert found["greedy-bridged"]["2"] == [0, 2]


def test_a_rule_whose_measurement_was_not_made_is_left_out() -> None:
    found = keeps_of(evidence(), {"plain": REMOVAL["plain"]}, 1, ())
    assert "greedy-bridged" not in found
    assert "greedy-ablation" in found


def test_no_cut_is_shallower_than_the_layers_that_must_stay() -> None:
    for depths in keeps_of(evidence(), REMOVAL, 1, (0, 1)).values():
        assert list(depths) == ["2", "3"]


def test_a_cut_is_named_by_the_layers_it_keeps() -> None:
    assert cut_name((0, 2, 11)) == "0-2-11"


def run(model: Path, clips: Path, out: Path, settings: Measure) -> tuple[dict[str, Any], str]:
    out.mkdir(exist_ok=True)
    said = Lines()
    measure(model, clips, KNOWN, "cpu", out=out, settings=settings, ui=said)
    return json.loads((out / "measured.json").read_text("utf-8")), said.text


QUICK = Measure(clips=12, euclidean_pairs=0, bridge_clips=0, random_orders=1)


@pytest.fixture(scope="module")
def plain(
    model_folder: Path, clips_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path]:
    out = tmp_path_factory.mktemp("measured")
    return run(model_folder, clips_folder, out, QUICK)[0], out


def test_accuracies_are_counted_from_the_clips_that_were_right(
    plain: tuple[dict[str, Any], Path],
) -> None:
    facts, out = plain
    right = load_file(out / "right.safetensors")
    assert set(right) == set(facts["cuts"]) >= {"0-1-2"}
    for name, row in facts["cuts"].items():
        assert row["accuracy"] == pytest.approx(right[name].mean())
        assert row["interval"][0] <= row["accuracy"] <= row["interval"][1]
        assert cut_name(row["keep"]) == name
    assert facts["measured_on"]["baseline"] == facts["cuts"]["0-1-2"]["accuracy"]
    assert facts["measured_on"]["clips"] == len(right["0-1-2"])


def test_the_clips_that_are_told_to_be_right_are_the_test_clips(
    model_folder: Path, clips_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rights(_: Path, evaluators: Any, cuts: Any, *__: Any) -> dict[tuple[str, Any], Any]:
        valid, test = (len(evaluator.windows.samples) for evaluator in evaluators)
        return {key: value for cut in cuts for key, value in (
            (("valid", cut), np.zeros(valid, bool)), (("test", cut), np.ones(test, bool)),
        )}  # fmt: skip

    monkeypatch.setattr(module, "_rights", rights)
    facts, _ = run(model_folder, clips_folder, tmp_path, QUICK)
    assert all(right.all() for right in load_file(tmp_path / "right.safetensors").values())
    assert {(row["valid_accuracy"], row["accuracy"]) for row in facts["cuts"].values()} == {(0, 1)}


def test_a_layer_alone_is_the_span_of_one_and_what_costs_least_goes_first(
    plain: tuple[dict[str, Any], Path],
) -> None:
    facts, _ = plain
    ablation, order = facts["ablation"], facts["removal"]["plain"]
    assert ablation["single"] == [ablation["spans"][i][i + 1] for i in range(LAYERS)]
    assert ablation["spans"][0][LAYERS] is None
    assert ablation["single"][order[0]] == max(ablation["single"])
    assert sorted(order) == sorted(set(order))
    assert len(order) == LAYERS - 1


def test_what_was_not_asked_for_is_not_measured(plain: tuple[dict[str, Any], Path]) -> None:
    facts, out = plain
    assert facts["euclidean"] is None
    assert set(facts["removal"]) == {"plain"}
    assert "greedy-bridged" not in facts["keeps"]
    assert all(row["bridged_accuracy"] is None for row in facts["cuts"].values())
    assert not (out / "bridges.safetensors").exists()
    assert {"ablation", "euclidean", "removal", "picks"} == set(facts["seconds"])


def test_bridges_are_fitted_once_and_read_after_an_interruption(
    model_folder: Path, clips_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Measure(clips=12, euclidean_pairs=0, bridge_clips=12, random_orders=1)
    whole, _ = run(model_folder, clips_folder, tmp_path / "whole", asked)
    assert set(whole["removal"]) == {"plain", "bridged"}
    assert all(0 <= row["bridged_accuracy"] <= 1 for row in whole["cuts"].values())

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "_rights", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(model_folder, clips_folder, tmp_path / "cut", asked)
    monkeypatch.setattr(module, "fit_bridges", None)
    monkeypatch.setattr(module, "greedy_removal", None)
    resumed, said = run(model_folder, clips_folder, tmp_path / "cut", asked)
    for facts in (whole, resumed):
        facts.pop("seconds")
    assert resumed == whole
    assert "validation clips with all" not in said, "the ablation was read, not measured"
