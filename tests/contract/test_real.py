"""Real models on real recordings: what the papers say of layers holds, and layers can go."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from repository import shared

from edgeprune.core.console import Silent
from edgeprune.core.recipe import build_settings
from edgeprune.pipeline.score import score

RECIPE = """
seeds = 1
max_drop = 0.02
[teach]
epochs = 4
[prune]
keep = 10
recovery_epochs = 3
[distill]
epochs = 5
label_epochs = 3
[bench]
seconds = 0.5
rounds = 3
"""


@pytest.mark.slow
def test_ten_layers_of_the_keyword_transformer_tell_spoken_digits_apart(
    kwt_folder: Path, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    digits = shared("data/fsdd_digits/labels.csv", pytestconfig)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    done = subprocess.run(
        [sys.executable, "-m", "edgeprune.cli", "compress", str(kwt_folder), str(digits),
         "-o", str(tmp_path / "run"), "--recipe", str(tmp_path / "recipe.toml"), "--json"],
        capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["seeds"][0]["taught"]  # its own head knows yes and no, not the digits
    assert report["summary"]["teacher"]["score"] > 0.9
    assert report["summary"]["bundle"]["layers"] == 10
    assert report["summary"]["bundle"]["agreement"] > 0.9
    assert report["seeds"][0]["export_difference"] < 1e-4
    assert list(report["scores"][0]["curves"]["teacher"]) == ["label", "speaker"]


def scored(model: Path, data: Path, out: Path, quick: bool, **changes: Any) -> dict[str, Any]:
    settings = build_settings(changes)
    return dict(score(model, data, out, settings, ui=Silent(), ablation=not quick).scores)


@pytest.mark.slow
def test_words_are_convex_late_and_speakers_early_in_a_model_of_words(
    kwt_folder: Path, arabic_csv: Path, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """arXiv 2408.11858, figure 1: KWT-1 as it came, on words and on speakers it never heard."""
    digits = shared("data/fsdd_digits/labels.csv", pytestconfig)
    every = {"split": "all", "max_clips": 1500}
    words = scored(kwt_folder, arabic_csv, tmp_path / "words", True, score=every)
    speakers = scored(kwt_folder, digits, tmp_path / "speakers", True, score=every,
                      clips={"label": "speaker"})  # fmt: skip
    word = words["curves"]["teacher"]["label"]
    speaker = speakers["curves"]["teacher"]["speaker"]
    for curve in (word, speaker):
        assert all(layer["interval"][0] > layer["null_high"] for layer in curve)
    word, speaker = ([layer["mean_of_classes"] for layer in curve] for curve in (word, speaker))
    assert word.index(max(word)) in (9, 10, 11, 12)
    assert word[12] <= max(word[9:12])  # the last block belongs to the twelve words it was taught
    assert word[10] > word[4] + 0.2
    assert speaker.index(max(speaker)) in (0, 1, 2, 3)
    assert speaker[12] < max(speaker) - 0.1


@pytest.mark.slow
def test_half_the_layers_can_go_without_training_where_bridges_stand_in(
    arabic_csv: Path, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """arXiv 2409.16302 removes 40 % at 95 % of the accuracy; here 50 %, counted on test clips."""
    model = shared("models/w2v2_arabic_words", pytestconfig)
    found = scored(model, arabic_csv, tmp_path / "run", False,
                   measure={"clips": 160, "bridge_clips": 200, "euclidean_pairs": 0,
                            "random_orders": 1})  # fmt: skip
    whole = found["measured_on"]["baseline"]
    assert whole > 0.9
    pick = found["picks"]["greedy-bridged"]
    six = next(row for row in pick["depths"] if row["layers"] == 6)
    assert six["bridged_accuracy"] >= 0.95 * whole
    assert pick["held_95_bridged"] <= 6
    assert found["picks"]["backward"]["held_95"] > 9  # the last layers cannot simply be dropped
    assert found["convexity_against_accuracy"]["cut"]["rho"] > 0.8


@pytest.mark.slow
def test_phones_are_more_convex_than_chance_in_every_layer(
    kwt_folder: Path, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """TIMIT's own phones.csv as it stands: stretches in samples, heard in their sentences."""
    phones = shared("data/timit_sample/phones.csv", pytestconfig)
    found = scored(kwt_folder, phones, tmp_path / "run", True, score={"max_clips": 1500},
                   clips={"label": "phone", "context": "file"})  # fmt: skip
    assert found["unit"] == "stretches"
    assert found["labelings"]["phone"]["classes"] > 50
    curve = found["curves"]["teacher"]["phone"]
    assert all(layer["interval"][0] > layer["null_high"] for layer in curve)
