"""Label cells that are tags or transcripts: read, checked, split, cut into windows, thresholded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeprune.core.console import Silent
from edgeprune.core.recipe import build_settings
from edgeprune.core.settings import Clips, Score
from edgeprune.data.tasks import TASKS
from edgeprune.data.windows import Windows, load_windows
from edgeprune.depth_pruning.states import choose_points
from edgeprune.pipeline.clips import clips
from edgeprune.training.teach import _check_frames
from edgeprune_calibration.dataset import Dataset, check_audio, read_data
from edgeprune_calibration.manifest import Clip
from edgeprune_calibration.splits import PARTS, split_clips
from edgeprune_calibration.thresholds import HIGHEST, LOWEST_TAG, choose_thresholds
from edgeprune_device.errors import EdgepruneError

RATE = 8000


def write(folder: Path, rows: list[str], seconds: float = 0.2) -> Path:
    for row in rows:
        name = row.split(",")[0]
        length = float(name.split("_")[1]) if "_" in name else seconds
        noise = 0.1 * np.random.default_rng(len(name)).standard_normal(round(length * RATE))
        soundfile.write(folder / f"{name}.wav", noise, RATE)
    text = "path,label,speaker\n" + "".join(row.replace(",", ".wav,", 1) + "\n" for row in rows)
    (folder / "labels.csv").write_text(text, "utf-8")
    return folder / "labels.csv"


def test_a_cell_may_hold_several_tags_or_none(tmp_path: Path) -> None:
    data = write(tmp_path, ["a,dog; rain,", "b,,", "c,rain,", "d,dog,"])
    found = read_data(data, task="tags")
    assert found.labels == ("dog", "rain")
    assert [clip.label for clip in found.clips] == ["dog; rain", "", "rain", "dog"]
    with pytest.raises(EdgepruneError, match=r"Line 3 of .* has no label"):
        read_data(data)
    checked, bad = check_audio(found)
    assert (len(checked.clips), bad) == (4, [])


def test_tags_that_cannot_be_split_are_named(tmp_path: Path) -> None:
    with pytest.raises(EdgepruneError, match=r"The label 'owl' of .* has a single clip"):
        read_data(write(tmp_path, ["a,dog;owl,", "b,dog,"]), task="tags")
    with pytest.raises(EdgepruneError, match="names no label in column 'label'"):
        read_data(write(tmp_path, ["a,,", "b,;,"]), task="tags")


def test_transcripts_are_tokens_and_each_may_stand_once(tmp_path: Path) -> None:
    data = write(tmp_path, ["a,Go on,", "b,stop,"])
    assert read_data(data, task="ctc").labels == ("G", "n", "o", "p", "s", "t", "|")
    assert read_data(data, task="ctc", tokens="words").labels == ("Go", "on", "stop")


def dataset(cells: list[str], task: str, groups: int = 0) -> Dataset:
    made = tuple(Clip(Path(f"{i}.wav"), cell, f"g{i % groups}" if groups else None)
                 for i, cell in enumerate(cells))  # fmt: skip
    return Dataset(Path("data.csv"), made, "label", "speaker" if groups else "", task)


@pytest.mark.parametrize("groups", [0, 12])
def test_every_tag_stands_in_every_part_and_groups_in_one(groups: int) -> None:
    generator = np.random.default_rng(0)
    cells = [";".join(t for t in ("dog", "rain", "wind") if generator.random() < 0.3)
             for _ in range(120)]  # fmt: skip
    parts = split_clips(dataset(cells, "tags", groups))
    for clips_of_part in parts.values():
        tags = {tag for clip in clips_of_part for tag in clip.label.split(";")}
        assert tags >= {"dog", "rain", "wind", ""}  # clips without a tag are dealt out, too
    assert sum(map(len, parts.values())) == 120
    assert 0.55 < len(parts["train"]) / 120 < 0.85
    sides = {(clip.group, part) for part in PARTS for clip in parts[part]}
    if groups:
        assert len(sides) == groups


def test_transcripts_are_split_by_clips() -> None:
    parts = split_clips(dataset([f"text {i}" for i in range(40)], "ctc", 10))
    assert all(parts.values())
    assert 0.6 <= len(parts["train"]) / 40 <= 0.8
    with pytest.raises(EdgepruneError, match="leave none for the"):
        split_clips(dataset(["a", "b"], "ctc"))


def backbone_windows(model: Path, data: Path, out: Path, settings: Clips) -> Windows:
    out.mkdir()
    clips(model, data, "digest", out=out, settings=settings, ui=Silent())
    return load_windows(out)


def test_the_window_holds_the_longest_transcribed_clip(backbone: Path, tmp_path: Path) -> None:
    rows = [f"{i}_{0.3 + 0.01 * i:.2f},{'ab'[i % 2]}{'cd'[i // 2 % 2]},s{i % 7}" for i in range(28)]
    data = write(tmp_path, rows)
    windows = backbone_windows(backbone, data, tmp_path / "out", Clips(task="ctc"))
    assert windows.window_samples == 9600  # 0.57 s, up to the next tenth, at 16 kHz
    assert len(windows.clip) == 28
    assert windows.labels == ("<pad>", "a", "b", "c", "d")
    assert TASKS["ctc"].targets(windows, windows.labels).shape == (28, 2)


def test_transcribed_clips_over_a_given_window_are_left_out_one_in_a_hundred(
    backbone: Path, tmp_path: Path
) -> None:
    rows = [f"{i}_0.10,ab,s{i % 40}" for i in range(199)]
    data = write(tmp_path, [*rows, "long_0.30,ab,s0"])
    settings = Clips(task="ctc", window_seconds=0.2)
    windows = backbone_windows(backbone, data, tmp_path / "out", settings)
    assert len(windows.clip) == 199
    more = write(tmp_path, [*rows, *[f"long{i}_0.30,ab,s{i}" for i in range(3)]])
    with pytest.raises(
        EdgepruneError, match="3 of 202 transcribed clips are longer than the window"
    ):
        backbone_windows(backbone, more, tmp_path / "other", settings)


def test_layers_are_scored_on_clips_of_one_tag() -> None:
    cells = ["dog", "dog;rain", "", "rain", "dog", "rain", "rain"]
    rows = tuple({"label": cell, "split": "valid", "columns": {}} for cell in cells)
    windows = Windows(np.zeros((7, 4), np.float32), np.tile([0, 4], (7, 1)), np.arange(7), rows,
                      ("dog", "rain"), RATE, task="tags")  # fmt: skip
    split, chosen = choose_points(windows, Score(neighbours=3))
    assert (split, chosen.tolist()) == ("valid", [0, 3, 4, 5, 6])


def test_a_tags_threshold_is_chosen_against_the_clips_without_it() -> None:
    generator = np.random.default_rng(0)
    truth = (generator.random((300, 2)) < 0.3).astype(np.float32)
    scores = (0.6 * truth + 0.4 * generator.random((300, 2))).astype(np.float32)
    scores[:, 1] = 0.5 * scores[:, 1]  # a rare tag is never sure
    chosen = choose_thresholds(scores, truth, ["a", "b"], 0.95, LOWEST_TAG)
    for index, label in enumerate("ab"):
        said = scores[:, index] >= chosen[label]
        assert truth[said, index].mean() >= 0.95
        assert truth[~said, index].sum() == 0
        assert LOWEST_TAG <= chosen[label] <= HIGHEST
    assert set(chosen) == {"a", "b"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"clips": {"task": "tag"}}, "clips.task = 'tag' is not known"),
        ({"clips": {"task": "ctc", "tokens": "phones"}}, "clips.tokens = 'phones' is not known"),
        ({"clips": {"task": "ctc"}, "teach": {"head": "mlp"}}, "does not go with clips.task"),
        ({"teach": {"head": "bilstm"}}, "'bilstm' does not go with clips.task = 'classes'"),
        ({"clips": {"task": "tags", "context": "file"}}, "have one class each"),
        ({"clips": {"task": "ctc"}, "score": {"labelings": ["speaker"]}}, "not scored as classes"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    changes: dict[str, dict[str, object]], sentence: str
) -> None:
    with pytest.raises(EdgepruneError, match=sentence):
        build_settings(changes)


def test_a_transcript_with_more_tokens_than_frames_is_an_error(backbone: Path) -> None:
    from edgeprune.models import loading

    rows = tuple({"label": label, "split": "train", "columns": {}} for label in ("ab", "a" * 9))
    labels = ("<pad>", "a", "b")
    windows = Windows(np.zeros((2, 4000), np.float32), np.tile([0, 4000], (2, 1)), np.arange(2),
                      rows, labels, 16000, task="ctc")  # fmt: skip
    model = loading.load_model(str(backbone), labels, task="ctc")
    with pytest.raises(EdgepruneError, match="1 of 2 transcripts have more tokens"):
        _check_frames(model, windows, labels)  # nine times a: eight blanks between, 17 of 12 frames
