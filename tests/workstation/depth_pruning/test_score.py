"""Scores from states: every labelling, every layer, every pair of layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_recordings import TONES

from edgeprune.core.console import Silent
from edgeprune.core.settings import Clips, Score
from edgeprune.data.windows import Windows, load_windows
from edgeprune.depth_pruning.score import choose_labelings, groups_of, score
from edgeprune.depth_pruning.states import load_states, states
from edgeprune.metrics.convexity import graph_convexity
from edgeprune.models import loading
from edgeprune.pipeline.clips import clips
from edgeprune_calibration.dataset import read_data
from edgeprune_device.errors import EdgepruneError

SETTINGS = Score(split="train", neighbours=3, permutations=3, draws=50)


@pytest.fixture(scope="module")
def folders(backbone: Path, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the clips, and the states of a model with a head and of the one it came from."""
    root = tmp_path_factory.mktemp("score")
    for name in ("clips", "teacher", "untouched"):
        (root / name).mkdir()
    clips(
        backbone, recordings, read_data(recordings).digest(),
        out=root / "clips", settings=Clips(window_seconds=0.4), ui=Silent(),
    )  # fmt: skip
    loading.save(loading.load_model(str(backbone), tuple(TONES)), root / "model")
    for name, model in (("teacher", root / "model"), ("untouched", backbone)):
        states(model, root / "clips", "cpu", out=root / name, settings=SETTINGS, ui=Silent())
    return root


@pytest.fixture(scope="module")
def found(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("out")
    score(folders / "clips", folders / "teacher", folders / "untouched", out=out,
          settings=SETTINGS, ui=Silent())  # fmt: skip
    scores: dict[str, Any] = json.loads((out / "layers.json").read_text("utf-8"))
    return scores


def test_every_labelling_is_scored_in_every_layer_of_both_models(
    found: dict[str, Any], folders: Path
) -> None:
    assert set(found["curves"]) == {"teacher", "untouched"}
    assert list(found["curves"]["teacher"]) == ["label", "speaker"]
    kept = load_states(folders / "teacher")
    windows = load_windows(folders / "clips").take(kept.points)
    for layer, points in enumerate(kept.states):
        expected = graph_convexity(points, windows.column("speaker"), k=3, permutations=0, draws=0)
        given = found["curves"]["teacher"]["speaker"][layer]
        assert given["mean_of_classes"] == pytest.approx(expected.mean_of_classes)
        assert given["per_class"] == pytest.approx(expected.per_class)
        assert given["interval"][0] <= given["mean_of_classes"] <= given["interval"][1]


def test_every_two_layers_are_compared(found: dict[str, Any]) -> None:
    names = {"cosine_flattened", "cosine_pooled", "cka", "cka_uncentred", "mutual_knn"}
    assert set(found["similarity"]) == set(found["blocks"]) == names
    for matrix in (*found["similarity"].values(), found["angular"]):
        assert np.shape(matrix) == (4, 4)
    cosines = np.array(found["similarity"]["cosine_flattened"])
    np.testing.assert_allclose(found["block_influence"], 1 - np.diag(cosines, 1), atol=1e-5)
    assert found["layers"] == 3
    assert set(found["seconds"]) == {"forward", "convexity", "similarity"}


def test_intervals_are_over_speakers_for_words_and_over_clips_for_speakers(
    found: dict[str, Any],
) -> None:
    assert found["labelings"]["label"]["interval_over"] == "speaker"
    assert found["labelings"]["speaker"]["interval_over"] == "clips"


def test_groups_that_are_the_classes_leave_nothing_to_draw_but_clips(folders: Path) -> None:
    windows = load_windows(folders / "clips")
    points = np.arange(len(windows.clip))
    speakers, labels = windows.column("speaker"), windows.column("label")
    assert groups_of(windows, points, labels, "speaker") == speakers
    assert groups_of(windows, points, speakers, "speaker") is None
    assert groups_of(windows, points, labels, "") is None


def test_a_wanted_labelling_that_cannot_be_scored_is_named(folders: Path) -> None:
    windows: Windows = load_windows(folders / "clips")
    points = windows.where("valid")
    with pytest.raises(EdgepruneError, match="The column 'weather' cannot be scored"):
        choose_labelings(windows, points, "label", "", ("weather",))
    assert list(choose_labelings(windows, points, "label", "", ())) == ["label"]
    assert list(choose_labelings(windows, windows.where("train"), "label", "", ("speaker",))) == [
        "label", "speaker",
    ]  # fmt: skip
