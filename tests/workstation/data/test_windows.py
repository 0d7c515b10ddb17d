"""Clips as windows: streamed to disk, cut alone or heard in their place in the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ramp_recordings import (
    cut,
    heard,
    random_stretches,
    write_ramps,
)


def test_points_taken_bring_the_windows_they_need_and_no_others(
    backbone: Path, tmp_path: Path
) -> None:
    windows = cut(backbone, write_ramps(tmp_path, random_stretches(700)), tmp_path / "out")
    index = np.array([70, 3, 9, 3])
    few = windows.take(index)
    assert len(few.samples) == len({windows.window[i] for i in index})
    assert few.column("first") == [windows.column("first")[i] for i in index]
    for place, point in enumerate(index):
        np.testing.assert_array_equal(heard(few, place), heard(windows, point))
    assert set(few.window) == set(range(len(few.samples)))
