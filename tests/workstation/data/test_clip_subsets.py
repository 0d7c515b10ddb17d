"""Subsets of a split's clips: spread evenly, whole clips, one point a clip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_recordings import TONES

from edgeprune.core.console import Silent
from edgeprune.core.settings import Clips
from edgeprune.data.clip_subsets import (
    balanced_subset,
    groups_of_clips,
    one_point_per_clip,
    scored_classes,
    spread,
)
from edgeprune.data.windows import Windows, load_windows
from edgeprune.metrics.statistics import LEAST_GROUPS
from edgeprune.pipeline.clips import clips

CLIPS, EACH = 30, 2  # windows a clip
LABELS = tuple(sorted(TONES))


@pytest.fixture
def windows() -> Windows:
    """Thirty clips of two windows, the points in no order: every fifth is of the test split."""
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(CLIPS), EACH))
    samples = np.arange(CLIPS * EACH, dtype=np.float32)[:, None].repeat(4, axis=1)
    rows: tuple[dict[str, Any], ...] = tuple(
        {"label": LABELS[i % 3], "split": "test" if i % 5 == 0 else "train", "group": f"g{i % 6}",
         "columns": {}}
        for i in range(CLIPS)
    )  # fmt: skip
    return Windows(samples, np.tile([0, 4], (CLIPS * EACH, 1)), order, rows, LABELS, 16000)


def test_some_clips_come_with_all_their_windows(windows: Windows) -> None:
    few = balanced_subset(windows, "train", 6)
    assert len(set(few.clip.tolist())) == 6
    assert len(few.clip) == 12
    assert set(few.column("split")) == {"train"}
    assert sorted(few.column("label")) == sorted(4 * list(TONES))
    assert few.samples is windows.samples, "no sample is read"
    assert len(set(balanced_subset(windows, "test", 1000).clip.tolist())) == 6, "all there are"


def test_clips_are_spread_over_their_order_from_the_first_to_the_last(windows: Windows) -> None:
    few = spread(windows, 4)
    assert sorted(set(few.clip.tolist())) == [0, 9, 19, 29]  # thirds of 0 to 29, rounded down
    assert len(few.clip) == 4 * EACH
    for point, clip in enumerate(few.clip):
        sources = windows.samples[windows.window[windows.clip == clip], 0]
        assert few.samples[few.window[point], 0] in sources
    assert sorted(set(spread(windows, 99).clip.tolist())) == list(range(CLIPS))


def test_groups_are_told_clip_by_clip_or_not_at_all(windows: Windows) -> None:
    assert groups_of_clips(windows) == [f"g{i % 6}" for i in range(CLIPS)]
    few = tuple(
        {**row, "group": f"g{i % (LEAST_GROUPS - 1)}"} for i, row in enumerate(windows.rows)
    )
    assert groups_of_clips(replace(windows, rows=few)) is None
    some = ({**windows.rows[0], "group": ""}, *windows.rows[1:])
    assert groups_of_clips(replace(windows, rows=some)) is None


def test_of_tags_clips_with_exactly_one_have_a_class_and_transcripts_have_none(
    windows: Windows,
) -> None:
    cells = ["rain", "rain;wind", "", " wind "]
    rows = tuple({**windows.rows[0], "label": cell} for cell in cells)
    tagged = replace(windows, rows=rows, clip=np.arange(4), window=np.arange(4), task="tags")
    assert scored_classes(tagged).tolist() == ["rain", "", "", "wind"]
    assert scored_classes(replace(tagged, task="ctc")).tolist() == [""] * 4
    assert scored_classes(replace(tagged, task="classes")).tolist() == cells


def test_at_most_so_many_clips_are_scored_spread_over_the_classes(windows: Windows) -> None:
    index = one_point_per_clip(windows, np.arange(len(windows.clip)), 9)
    assert len(set(windows.clip[index].tolist())) == 9
    assert index.tolist() == sorted(index.tolist())
    chosen = windows.subset(index).column("label")
    assert {label: chosen.count(label) for label in TONES} == dict.fromkeys(TONES, 3)


def test_a_rare_class_is_not_drowned_by_a_common_one(windows: Windows) -> None:
    rows: tuple[dict[str, Any], ...] = tuple(
        {**row, "label": "low" if i < 27 else "high"} for i, row in enumerate(windows.rows)
    )
    uneven = replace(windows, rows=rows)
    index = one_point_per_clip(uneven, np.arange(len(windows.clip)), 10)
    assert uneven.subset(index).column("label").count("high") == 1  # a tenth of them, as of all


def test_windows_of_a_long_clip_belong_to_one_clip(
    backbone: Path, recordings: Path, tmp_path: Path
) -> None:
    clips(backbone, recordings, "x", out=tmp_path, settings=Clips(window_seconds=0.1), ui=Silent())
    windows = load_windows(tmp_path)
    counts = np.bincount(windows.clip)
    assert set(counts.tolist()) == {3}  # a quarter of a second in tenths; the last ends with it
    assert len(one_point_per_clip(windows, np.arange(len(windows.clip)), 10**6)) == len(counts)
