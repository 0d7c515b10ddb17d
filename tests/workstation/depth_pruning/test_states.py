"""The pass over the audio: pooled over sound alone, one vector a layer and point, kept on disk."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_recordings import RATE, TONES, tone

from edgeprune.core.console import Silent
from edgeprune.core.settings import Clips, Score
from edgeprune.data.windows import Windows, load_windows
from edgeprune.depth_pruning.states import (
    choose_points,
    layer_states,
    load_states,
    sound_frames,
    states,
)
from edgeprune.models import loading
from edgeprune.pipeline.clips import clips
from edgeprune_calibration.dataset import read_data
from edgeprune_device.errors import EdgepruneError

CPU = torch.device("cpu")


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
    model = loading.load_model(str(backbone), tuple(TONES))
    found, _, _ = layer_states(model, windows, np.arange(4), CPU, Silent())
    assert found.shape == (4, 4, 16)  # the first block's input and three outputs, four clips
    with torch.inference_mode():
        _, full = loading.logits_and_states(model, torch.from_numpy(np.array(windows.samples)))
    frames = full[0].shape[1]
    first, last = windows.sound[0] / windows.window_samples
    middles = (np.arange(frames) + 0.5) / frames
    inside = (middles >= first) & (middles < last)
    assert 0 < inside.sum() < frames
    for layer, pooled in zip(full, found, strict=True):
        np.testing.assert_allclose(pooled[0], layer[0][inside].mean(0), rtol=1e-5, atol=1e-6)


def test_cosines_and_angles_are_those_of_flattened_states(
    backbone: Path, clip_folder: Path
) -> None:
    windows = load_windows(clip_folder).split("valid").take(np.arange(3))
    model = loading.load_model(str(backbone), tuple(TONES))
    _, cosines, angles = layer_states(model, windows, np.arange(3), CPU, Silent())
    with torch.inference_mode():
        _, full = loading.logits_and_states(model, torch.from_numpy(np.array(windows.samples)))
    inside = sound_frames(windows.sound, windows.window_samples, full[0].shape[1]).astype(bool)
    each = []
    for clip in range(3):
        flat = [layer[clip].numpy()[inside[clip]].ravel().astype(float) for layer in full]
        each.append([[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in flat] for a in flat])
    np.testing.assert_allclose(cosines, np.mean(each, axis=0), atol=1e-5)
    expected = np.mean(np.arccos(np.clip(each, -1, 1)) / np.pi, axis=0)
    off = ~np.eye(4, dtype=bool)  # at 1 an angle is the square root of a rounding error
    np.testing.assert_allclose(angles[off], expected[off], atol=1e-4)


def test_the_order_of_the_points_and_the_batches_do_not_matter(
    backbone: Path, clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = load_windows(clip_folder)
    model = loading.load_model(str(backbone), tuple(TONES))
    chosen = np.array([40, 3, 17, 5, 60, 61, 2])
    whole, cosines, _ = layer_states(model, windows, chosen, CPU, Silent())
    monkeypatch.setattr("edgeprune.depth_pruning.states.BATCH", 3)
    order = np.array([4, 0, 6, 2, 1, 5, 3])
    part, again, _ = layer_states(model, windows, chosen[order], CPU, Silent())
    np.testing.assert_allclose(part, whole[:, order], atol=1e-5)
    np.testing.assert_allclose(again, cosines, atol=1e-6)


def test_segments_are_averaged_in_the_place_they_have_in_their_file(
    backbone: Path, tmp_path: Path
) -> None:
    """Two stretches of one file: frames of the file's own states, not those of a cut-out clip."""
    import soundfile

    rows = []
    for number in range(2):
        whole = np.concatenate([tone(p, 0.2, number) for p in (300.0, 2500.0)])
        soundfile.write(tmp_path / f"{number}.wav", whole, RATE, subtype="FLOAT")
        rows += [(f"{number}.wav", "low", 0, 3200), (f"{number}.wav", "high", 3200, 6400)]
    with (tmp_path / "phones.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label", "start_sample", "end_sample"), *rows])
    clips(backbone, tmp_path / "phones.csv", "x", out=tmp_path, ui=Silent(),
          settings=Clips(context="file", window_seconds=0.4))  # fmt: skip
    windows = load_windows(tmp_path)
    assert windows.samples.shape == (2, 6400)
    model = loading.load_model(str(backbone), tuple(TONES))
    found, _, _ = layer_states(model, windows, np.arange(4), CPU, Silent())
    with torch.inference_mode():
        _, full = loading.logits_and_states(model, torch.from_numpy(np.array(windows.samples)))
    half = full[0].shape[1] // 2
    for point in range(4):
        part = slice(0, half) if windows.column("label")[point] == "low" else slice(half, None)
        file = windows.window[point]
        np.testing.assert_allclose(
            found[2, point], full[2][file, part].mean(0), rtol=1e-4, atol=1e-5
        )


def test_states_are_kept_on_disk_and_read_back(
    backbone: Path, clip_folder: Path, tmp_path: Path
) -> None:
    model = loading.load_model(str(backbone), tuple(TONES))
    loading.save(model, tmp_path / "model")
    states(tmp_path / "model", clip_folder, "cpu", out=tmp_path, settings=Score(neighbours=3),
           ui=Silent())  # fmt: skip
    kept = load_states(tmp_path)
    expected, cosines, _ = layer_states(
        model, load_windows(clip_folder), kept.points, CPU, Silent()
    )
    np.testing.assert_allclose(kept.states, expected, atol=1e-6)
    np.testing.assert_allclose(kept.cosines, cosines, atol=1e-9)
    assert kept.split == "valid"
    assert kept.seconds > 0


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
    chosen, index = choose_points(windows, Score(neighbours=neighbours))
    assert chosen == split
    assert set(windows.take(index).column("split")) == {split}


def test_every_clip_can_be_scored(clip_folder: Path) -> None:
    windows = load_windows(clip_folder)
    assert len(choose_points(windows, Score(split="all"))[1]) == len(windows.clip)


def test_too_few_clips_for_the_graph_are_refused(clip_folder: Path) -> None:
    with pytest.raises(
        EdgepruneError, match=r"Too few clips to score: .* A graph with 500 neighbours needs more"
    ):
        choose_points(load_windows(clip_folder), Score(neighbours=500))


def test_a_split_with_a_single_label_gives_way(clip_folder: Path) -> None:
    windows = load_windows(clip_folder)
    alike = tuple({**row, "label": "low"} if row["split"] == "valid" else row
                  for row in windows.rows)  # fmt: skip
    chosen, _ = choose_points(replace(windows, rows=alike), Score(neighbours=3))
    assert chosen == "train"


def test_layers_are_scored_on_clips_of_one_tag() -> None:
    cells = ["dog", "dog;rain", "", "rain", "dog", "rain", "rain"]
    rows = tuple({"label": cell, "split": "valid", "columns": {}} for cell in cells)
    windows = Windows(np.zeros((7, 4), np.float32), np.tile([0, 4], (7, 1)), np.arange(7), rows,
                      ("dog", "rain"), RATE, task="tags")  # fmt: skip
    split, chosen = choose_points(windows, Score(neighbours=3))
    assert (split, chosen.tolist()) == ("valid", [0, 3, 4, 5, 6])
