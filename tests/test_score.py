"""Layer states: pooled over sound alone, one for every layer, scored for several labellings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TONES

from edgeprune import models
from edgeprune.audio import Windows, clips, load_windows
from edgeprune.console import Silent
from edgeprune.score import (
    choose_labelings,
    choose_windows,
    layer_states,
    one_window_a_clip,
    score,
    sound_frames,
)
from edgeprune.settings import Clips, Score
from edgeprune_calibration.manifest import read_data
from edgeprune_device.errors import EdgepruneError


@pytest.fixture(scope="module")
def clip_folder(backbone: Path, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clips")
    clips(
        backbone, recordings, read_data(recordings).digest(),
        out=out, settings=Clips(window_seconds=0.4), ui=Silent(),
    )  # fmt: skip
    return out


def test_padding_is_left_out_of_every_average(backbone: Path, clip_folder: Path) -> None:
    """What stands in the padding's frames cannot matter: it is replaced, the average stays."""
    windows = load_windows(clip_folder).split("valid").take(np.arange(4))
    model = models.load_classifier(str(backbone), tuple(TONES))
    states = layer_states(model, windows, torch.device("cpu"), Silent())
    assert len(states) == 4  # the first block's input and three blocks' outputs
    with torch.inference_mode():
        _, full = models.logits_and_states(model, torch.from_numpy(np.array(windows.samples)))
    frames = full[0].shape[1]
    first, last = windows.sound[0] / windows.window_samples
    middles = (np.arange(frames) + 0.5) / frames
    inside = (middles >= first) & (middles < last)
    assert 0 < inside.sum() < frames
    for layer, pooled in zip(full, states, strict=True):
        np.testing.assert_allclose(pooled[0], layer[0][inside].mean(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("sound", "marked"),
    [((0, 100), "1111111111"), ((30, 70), "0001111000"), ((42, 44), "0000100000"),
     ((95, 100), "0000000001")],
)  # fmt: skip
def test_frames_with_sound_are_marked(sound: tuple[int, int], marked: str) -> None:
    found = sound_frames(np.array([sound]), 100, 10)
    assert "".join(str(int(v)) for v in found[0]) == marked


@pytest.mark.parametrize(("neighbours", "split"), [(3, "valid"), (17, "valid"), (18, "train")])
def test_a_validation_split_too_small_for_the_graph_gives_way_to_the_training_split(
    clip_folder: Path, neighbours: int, split: str
) -> None:
    windows = load_windows(clip_folder)
    chosen, index = choose_windows(windows, Score(neighbours=neighbours))
    assert chosen == split
    assert set(windows.take(index).column("split")) == {split}


def test_too_few_clips_for_the_graph_are_refused(clip_folder: Path) -> None:
    with pytest.raises(EdgepruneError, match="a graph of 500 neighbours needs more"):
        choose_windows(load_windows(clip_folder), Score(neighbours=500))


def test_the_speaker_is_scored_beside_the_labels(
    backbone: Path, clip_folder: Path, tmp_path: Path
) -> None:
    model = models.load_classifier(str(backbone), tuple(TONES))
    models.save(model, tmp_path / "model")
    score(
        tmp_path / "model", backbone, clip_folder, "cpu",
        out=tmp_path, settings=Score(split="train", neighbours=3, permutations=3), ui=Silent(),
    )  # fmt: skip
    found: dict[str, Any] = json.loads((tmp_path / "scores.json").read_text("utf-8"))
    assert set(found["curves"]) == {"teacher", "untouched"}
    assert list(found["curves"]["teacher"]) == ["label", "speaker"]
    for curve in found["curves"]["teacher"].values():
        assert len(curve) == 4
        assert all(0 <= layer["mean_of_classes"] <= 1 for layer in curve)


def test_a_wanted_labelling_that_cannot_be_scored_is_named(clip_folder: Path) -> None:
    windows = load_windows(clip_folder).split("valid")
    with pytest.raises(EdgepruneError, match="The column 'weather' cannot be scored"):
        choose_labelings(windows, "label", "", ("weather",))


def test_at_most_so_many_clips_are_scored_spread_over_the_classes(clip_folder: Path) -> None:
    windows = load_windows(clip_folder).split("train")
    every = np.arange(len(windows.clip))
    index = one_window_a_clip(windows, every, 9)
    chosen = windows.take(index).column("label")
    assert {label: chosen.count(label) for label in TONES} == dict.fromkeys(TONES, 3)


def test_too_few_clips_for_the_graph_are_one_sentence(
    backbone: Path, clip_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(EdgepruneError, match="a graph of 500 neighbours needs more"):
        score(backbone, backbone, clip_folder, "cpu", out=tmp_path,
              settings=Score(neighbours=500), ui=Silent())  # fmt: skip


def test_windows_of_a_long_clip_belong_to_one_clip(
    backbone: Path, recordings: Path, tmp_path: Path
) -> None:
    clips(backbone, recordings, "x", out=tmp_path, settings=Clips(window_seconds=0.1), ui=Silent())
    windows: Windows = load_windows(tmp_path)
    counts = np.bincount(windows.clip)
    assert set(counts.tolist()) == {3}  # a quarter of a second in tenths; the last ends with it
    assert len(one_window_a_clip(windows, np.arange(len(windows.clip)), 10**6)) == len(counts)
