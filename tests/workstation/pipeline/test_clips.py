"""The clips stage: what it writes, what it says, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from labelled_noise import write_noises
from ramp_recordings import (
    cut,
    random_stretches,
    write_ramps,
)
from said import Lines

from edgeprune.core.console import Silent
from edgeprune.core.settings import Clips
from edgeprune.data.tasks import TASKS
from edgeprune.data.windows import Windows, load_windows
from edgeprune.pipeline.clips import clips
from edgeprune_device.errors import EdgepruneError


def test_the_summary_counts_segments_and_files(backbone: Path, tmp_path: Path) -> None:
    data, lines = write_ramps(tmp_path, random_stretches(500, each=10)), Lines()
    clips(backbone, data, "x", out=tmp_path, settings=Clips(context="file"), ui=lines)
    assert "60 segments of 6 files, 2 labels, windows of" in lines.said[-1]


def test_segments_are_all_scored_and_a_label_may_have_one(backbone: Path, tmp_path: Path) -> None:
    """Nothing is trained on them: no split is made, and a rare phone stands in no way."""
    rows = [(0, 0, 10), (4, 5, 15), (5, 20, 40)]  # labels a, b, a
    windows = cut(backbone, write_ramps(tmp_path, rows), tmp_path / "out")
    assert set(windows.column("split")) == {"valid"}
    assert len(windows.clip) == len(rows)


def backbone_windows(model: Path, data: Path, out: Path, settings: Clips) -> Windows:
    out.mkdir()
    clips(model, data, "digest", out=out, settings=settings, ui=Silent())
    return load_windows(out)


def test_the_window_holds_the_longest_transcribed_clip(backbone: Path, tmp_path: Path) -> None:
    rows = [f"{i}_{0.3 + 0.01 * i:.2f},{'ab'[i % 2]}{'cd'[i // 2 % 2]},s{i % 7}" for i in range(28)]
    data = write_noises(tmp_path, rows)
    windows = backbone_windows(backbone, data, tmp_path / "out", Clips(task="ctc"))
    assert windows.window_samples == 9600  # 0.57 s, up to the next tenth, at 16 kHz
    assert len(windows.clip) == 28
    assert windows.labels == ("<pad>", "a", "b", "c", "d")
    assert TASKS["ctc"].targets(windows, windows.labels).shape == (28, 2)


def test_transcribed_clips_over_a_given_window_are_left_out_one_in_a_hundred(
    backbone: Path, tmp_path: Path
) -> None:
    rows = [f"{i}_0.10,ab,s{i % 40}" for i in range(199)]
    data = write_noises(tmp_path, [*rows, "long_0.30,ab,s0"])
    settings = Clips(task="ctc", window_seconds=0.2)
    windows = backbone_windows(backbone, data, tmp_path / "out", settings)
    assert len(windows.clip) == 199
    more = write_noises(tmp_path, [*rows, *[f"long{i}_0.30,ab,s{i}" for i in range(3)]])
    with pytest.raises(
        EdgepruneError, match="3 of 202 transcribed clips are longer than the window"
    ):
        backbone_windows(backbone, more, tmp_path / "other", settings)
