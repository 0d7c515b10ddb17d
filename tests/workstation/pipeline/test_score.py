"""`edgeprune score` from end to end on tiny recordings: measured, picked, tuned, resumed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from slow_cases import some_of
from tiny_models import make_model
from tiny_recordings import TONES

from edgeprune.core.console import Silent
from edgeprune.core.recipe import build_settings
from edgeprune.core.settings import Settings
from edgeprune.depth_pruning.selection_rules import RULES
from edgeprune.pipeline.compress import compress
from edgeprune.pipeline.score import score
from edgeprune_device.errors import EdgepruneError

RECIPE: dict[str, Any] = {
    "clips": {"window_seconds": 0.3},
    "score": {"neighbours": 3, "permutations": 3, "draws": 50, "split": "train"},
    "measure": {"euclidean_pairs": 1, "random_orders": 2},
    "finetune": {"epochs": 1, "rules": ["backward", "forward"]},
}


class Lines(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    @property
    def reused(self) -> set[str]:
        return {line.split()[0] for line in self.said if line.endswith("reused")}


def settings(**changes: Any) -> Settings:
    return build_settings(RECIPE, changes)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "labelled"
    return make_model(folder, "wav2vec2", tuple(sorted(TONES)))


@pytest.fixture(scope="module")
def finished(labelled: Path, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "score"
    score(str(labelled), recordings, out, settings(), ui=Silent(), finetune=True)
    return out


@pytest.fixture(scope="module")
def scores(finished: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((finished / "scores/scores.json").read_text("utf-8"))
    return found


def test_every_rule_is_measured_at_every_depth(scores: dict[str, Any]) -> None:
    assert set(scores["picks"]) == set(RULES)
    for pick in scores["picks"].values():
        assert [d["layers"] for d in pick["depths"]] == [1, 2, 3]
        for row in pick["depths"]:
            assert len(row["keep"]) == row["layers"]
            for key in ("valid_accuracy", "accuracy", "bridged_valid_accuracy", "bridged_accuracy"):
                assert 0 <= row[key] <= 1
            if "draws" not in row:
                assert row["interval"][0] <= row["accuracy"] <= row["interval"][1]


def test_the_whole_model_is_the_same_for_every_rule_and_the_baseline(
    scores: dict[str, Any],
) -> None:
    whole = {pick["depths"][-1]["accuracy"] for pick in scores["picks"].values()}
    assert whole == {scores["measured_on"]["baseline"]}
    assert scores["measured_on"]["head"] == "own"
    assert scores["measured_on"]["group"] == ""  # one speaker in the test split: clips are drawn


def test_ablation_of_one_layer_is_the_span_of_one(scores: dict[str, Any]) -> None:
    ablation = scores["ablation"]
    assert ablation["single"] == [ablation["spans"][i][i + 1] for i in range(3)]
    assert np.shape(ablation["spans"]) == (4, 4)
    assert ablation["spans"][0][3] is None  # nothing would be left
    assert ablation["spans"][2][1] is None


def test_the_depth_that_convexity_names_is_that_of_the_curve(scores: dict[str, Any]) -> None:
    curve = [layer["mean_of_classes"] for layer in scores["curves"]["teacher"]["label"]]
    assert scores["picks"]["convexity-peak"]["proposed"] == 1 + int(np.argmax(curve[1:]))
    assert scores["picks"]["backward"]["proposed"] is None


def test_cuts_are_fine_tuned_once_each_for_the_rules_that_were_asked(
    finished: Path, scores: dict[str, Any]
) -> None:
    tuned = json.loads((finished / "finetune/finetuned.json").read_text("utf-8"))
    assert set(tuned) == {"0-1-2", "0-1", "0-2", "0"}
    rows = scores["picks"]["backward"]["depths"]
    assert [row["finetuned_accuracy"] for row in rows] == [
        tuned[name]["accuracy"] for name in ("0", "0-1", "0-1-2")
    ]
    for name, one in tuned.items():
        right = np.load(finished / f"finetune/right/{name}.npy")
        assert one["accuracy"] == pytest.approx(right.mean())


@pytest.mark.slow
def test_a_second_run_keeps_every_stage(
    finished: Path, labelled: Path, recordings: Path, tmp_path: Path
) -> None:
    out, lines = shutil.copytree(finished, tmp_path / "score"), Lines()
    score(str(labelled), recordings, out, settings(), ui=lines, finetune=True)
    assert lines.reused == {"clips", "states", "score", "measure", "finetune", "scores"}


def test_another_null_measures_nothing_again(
    finished: Path, labelled: Path, recordings: Path, tmp_path: Path
) -> None:
    """Nothing is heard again, nor measured: the null changes no rule's choice."""
    out, lines = shutil.copytree(finished, tmp_path / "score"), Lines()
    changed = settings(score={"permutations": 4})
    score(str(labelled), recordings, out, changed, ui=lines, finetune=True)
    assert lines.reused == {"clips", "states", "measure", "finetune"}


def test_what_was_measured_before_an_interruption_is_not_measured_again(
    labelled: Path, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeprune.depth_pruning import measure

    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(measure, "greedy_removal", stopped)
        with pytest.raises(KeyboardInterrupt):
            score(str(labelled), recordings, tmp_path / "run", settings(), ui=Silent())
    assert (tmp_path / "run/measure.partial/ablation.json").exists()
    monkeypatch.setattr(measure, "all_spans", stopped)
    monkeypatch.setattr(measure, "euclidean_convexity", stopped)
    monkeypatch.setattr(measure, "fit_bridges", stopped)
    score(str(labelled), recordings, tmp_path / "run", settings(), ui=Silent())
    assert (tmp_path / "run/scores/scores.json").exists()


@pytest.mark.parametrize("family", some_of(("wavlm", "kwt"), "wavlm"))
def test_other_families_are_scored_and_reported_from_end_to_end(
    family: str, recordings: Path, tmp_path: Path
) -> None:
    """WavLM cannot lose layer 0, so that its ablation has no number; KWT reads a class token."""
    model = make_model(tmp_path / "model", family, tuple(sorted(TONES)), layers=4)
    asked = settings(clips={"window_seconds": 0.0 if family == "kwt" else 0.3})
    found = score(str(model), recordings, tmp_path / "run", asked, ui=Silent()).scores
    assert (found["ablation"]["single"][0] is None) == (family == "wavlm")
    assert all(row["keep"][0] == 0 for pick in found["picks"].values() for row in pick["depths"]
               if family == "wavlm")  # fmt: skip
    assert (tmp_path / "run/report.html").exists()
    assert "NaN" not in (tmp_path / "run/scores.json").read_text("utf-8")


def test_quick_scores_measure_nothing(labelled: Path, recordings: Path, tmp_path: Path) -> None:
    found = score(
        str(labelled), recordings, tmp_path / "run", settings(), ui=Silent(), ablation=False
    ).scores
    assert found["picks"] is found["ablation"] is found["euclidean"] is found["verdict"] is None
    assert found["curves"]["teacher"]["label"]
    assert found["headline"]


def test_a_model_without_a_head_is_measured_with_a_linear_probe(
    backbone: Path, recordings: Path, tmp_path: Path
) -> None:
    found = score(
        str(backbone),
        recordings,
        tmp_path / "run",
        settings(measure={"random_orders": 1}),
        ui=Silent(),
    ).scores
    assert found["measured_on"]["head"] == "linear probe"
    assert found["measured_on"]["baseline"] > 0.5  # tones are easy, even on random weights


def test_a_labelling_that_cannot_be_scored_leaves_nothing_behind(
    labelled: Path, recordings: Path, tmp_path: Path
) -> None:
    asked = settings(score={"labelings": ["weather"]})
    with pytest.raises(EdgepruneError, match="The column 'weather' cannot be scored"):
        score(str(labelled), recordings, tmp_path / "run", asked, ui=Silent())
    assert not (tmp_path / "run").exists()


def test_an_unknown_stage_to_redo_is_named(
    labelled: Path, recordings: Path, tmp_path: Path
) -> None:
    with pytest.raises(EdgepruneError, match="--redo 'teach' is not a stage") as error:
        score(str(labelled), recordings, tmp_path / "run", settings(), ui=Silent(), redo=("teach",))
    assert "measure" in error.value.hint


@pytest.mark.parametrize(
    "rule", some_of(("greedy-bridged", "block-influence", "convexity-peak"), "greedy-bridged")
)
def test_compress_cuts_by_any_rule_and_puts_bridges_over_the_gaps(
    rule: str, labelled: Path, recordings: Path, tmp_path: Path
) -> None:
    from edgeprune.models import loading

    asked = build_settings(
        RECIPE,
        {"seeds": 1, "max_drop": 0.9, "prune": {"pick": rule, "bridge": True, "recovery_epochs": 0},
         "distill": {"epochs": 1, "label_epochs": 0},
         "bench": {"seconds": 0.05, "threads": [1], "rounds": 3}},
    )  # fmt: skip
    done = compress(str(labelled), recordings, tmp_path / "run", asked, ui=Silent())
    (seed,) = done.report["seeds"]
    assert len(seed["steps"][1]["kept"]) == 1  # anything holds
    student = loading.load_model(str(tmp_path / "run/seed-0/distill/model"))
    assert student.config.edgeprune_bridges == [0]
    assert seed["export_difference"] < 1e-4
    assert json.loads((tmp_path / "run/seed-0/depth/step.json").read_text())["rule"] == rule


def test_segments_can_be_scored_but_not_compressed(
    labelled: Path, recordings: Path, tmp_path: Path
) -> None:
    asked = settings(clips={"context": "file"})
    found = score(str(labelled), recordings, tmp_path / "run", asked, ui=Silent()).scores
    assert found["unit"] == "stretches"
    assert found["picks"] is None
    with pytest.raises(
        EdgepruneError, match="is for edgeprune score only: segments cannot be trained on"
    ):
        compress(str(labelled), recordings, tmp_path / "other", asked, ui=Silent())
    with pytest.raises(EdgepruneError, match="--finetune cannot train on segments of files"):
        score(str(labelled), recordings, tmp_path / "third", asked, ui=Silent(), finetune=True)


def test_layers_are_not_chosen_on_the_test_clips(
    labelled: Path, recordings: Path, tmp_path: Path
) -> None:
    with pytest.raises(EdgepruneError, match="would choose layers on the test clips"):
        compress(str(labelled), recordings, tmp_path / "run", settings(score={"split": "all"}),
                 ui=Silent())  # fmt: skip


def test_the_fine_tuned_rules_are_compared_too(scores: dict[str, Any]) -> None:
    after = scores["verdict"]["finetuned"]
    assert {after["winner"], after["runner_up"]} == {"backward", "forward"}
    assert after["sentence"].startswith("Fine-tuned after removal")
    random = scores["picks"]["random"]["depths"][1]
    assert random["interval"] is None
    assert len(random["draws"]) == 2
