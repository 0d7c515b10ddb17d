"""Label cells that are tags or transcripts: read, checked, split, cut into windows, thresholded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from labelled_noise import write_noises

from edgeprune_calibration.dataset import Dataset, check_audio, read_data
from edgeprune_calibration.manifest import Clip
from edgeprune_calibration.splits import PARTS, split_clips
from edgeprune_calibration.thresholds import HIGHEST, LOWEST_TAG, choose_thresholds
from edgeprune_device.errors import EdgepruneError


def test_a_cell_may_hold_several_tags_or_none(tmp_path: Path) -> None:
    data = write_noises(tmp_path, ["a,dog; rain,", "b,,", "c,rain,", "d,dog,"])
    found = read_data(data, task="tags")
    assert found.labels == ("dog", "rain")
    assert [clip.label for clip in found.clips] == ["dog; rain", "", "rain", "dog"]
    with pytest.raises(EdgepruneError, match=r"Line 3 of .* has no label"):
        read_data(data)
    checked, bad = check_audio(found)
    assert (len(checked.clips), bad) == (4, [])


def test_tags_that_cannot_be_split_are_named(tmp_path: Path) -> None:
    with pytest.raises(EdgepruneError, match=r"The label 'owl' of .* has a single clip"):
        read_data(write_noises(tmp_path, ["a,dog;owl,", "b,dog,"]), task="tags")
    with pytest.raises(EdgepruneError, match="has no label in column 'label'"):
        read_data(write_noises(tmp_path, ["a,,", "b,;,"]), task="tags")


def test_transcripts_are_tokens_and_each_may_stand_once(tmp_path: Path) -> None:
    data = write_noises(tmp_path, ["a,Go on,", "b,stop,"])
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
