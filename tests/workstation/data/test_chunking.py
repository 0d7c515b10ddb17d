"""Sounds cut into windows: alone or in their place in the file, streamed to the disk."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ramp_recordings import (
    FILE_STEP,
    FILES,
    WINDOW,
    cut,
    heard,
    random_stretches,
    wanted,
    write_ramps,
)
from tiny_recordings import RATE, make_recordings

from edgeprune.data import chunking
from edgeprune_calibration import dataset
from edgeprune_device.audio.sound_files import read_clip
from edgeprune_device.errors import EdgepruneError


def test_a_segment_of_up_to_half_a_window_is_heard_whole_in_its_place(
    backbone: Path, tmp_path: Path
) -> None:
    stretches = random_stretches(WINDOW // 2)
    windows = cut(backbone, write_ramps(tmp_path, stretches), tmp_path / "out")
    assert windows.clip.tolist() == list(range(len(stretches)))
    for point in windows.clip:
        number, first, last = wanted(windows, point)
        expected = np.arange(first + 1, last + 1) + number * FILE_STEP
        np.testing.assert_array_equal(heard(windows, point), expected)


def test_a_segment_belongs_to_the_nearest_of_the_windows_that_overlap_by_half(
    backbone: Path, tmp_path: Path
) -> None:
    data = write_ramps(tmp_path, random_stretches(3 * WINDOW))
    windows = cut(backbone, data, tmp_path / "out")
    for point in windows.clip:
        number, first, last = wanted(windows, point)
        length = FILES[number]
        begins = [b for b in range(0, length, WINDOW // 2) if b + WINDOW < length]
        begins.append(length - WINDOW)  # the last ends with the file
        if length < WINDOW:
            begins = [-((WINDOW - length) // 2)]  # in the middle of zeros
        best = min(begins, key=lambda b: abs((b + WINDOW / 2) - (first + last) / 2))
        expected = np.arange(max(first, best) + 1, min(last, best + WINDOW) + 1)
        np.testing.assert_array_equal(heard(windows, point), expected + number * FILE_STEP)
        assert windows.sound[point, 0] == max(first, best) - best


def test_a_file_no_longer_than_the_window_stands_in_the_middle_of_zeros(
    backbone: Path, tmp_path: Path
) -> None:
    windows = cut(backbone, write_ramps(tmp_path, [(0, 0, 10), (0, 900, 1000)] * 8), tmp_path / "o")
    assert windows.samples.shape == (1, WINDOW)
    assert windows.samples[0].tolist() == [0.0] * 300 + list(range(1, 1001)) + [0.0] * 300
    assert sorted({tuple(s) for s in windows.sound.tolist()}) == [(300, 310), (1200, 1300)]


def test_only_windows_with_a_segment_in_them_are_kept(backbone: Path, tmp_path: Path) -> None:
    windows = cut(backbone, write_ramps(tmp_path, [(5, 0, 10), (5, 16000, 16001)] * 8),
                  tmp_path / "out")  # fmt: skip
    assert windows.samples[:, [0, -1]].tolist() == [[500001, 501600], [514402, 516001]]


def test_a_row_without_times_is_its_whole_file_if_one_window_holds_it(
    backbone: Path, tmp_path: Path
) -> None:
    stretches = [(0, "", ""), (1, "", ""), (4, 0, 10), (4, 5, 15)] * 6
    windows = cut(backbone, write_ramps(tmp_path, stretches), tmp_path / "out")
    for point in windows.clip:
        if not windows.rows[windows.clip[point]]["columns"]["first"]:
            assert len(heard(windows, point)) in FILES[:2]
    (tmp_path / "long").mkdir()
    data = write_ramps(tmp_path / "long", [*stretches, (2, "", "")])
    with pytest.raises(EdgepruneError, match=r"2\.wav has no start and end, .* is longer than"):
        cut(backbone, data, tmp_path / "out2")


def test_clips_heard_alone_are_cut_out_and_have_each_a_window(
    backbone: Path, tmp_path: Path
) -> None:
    stretches = random_stretches(WINDOW)
    windows = cut(backbone, write_ramps(tmp_path, stretches), tmp_path / "out", context="clip")
    assert windows.window.tolist() == list(range(len(stretches)))
    for point in windows.clip:
        number, first, last = wanted(windows, point)
        begin = (WINDOW - (last - first)) // 2
        expected = np.zeros(WINDOW)
        expected[begin : begin + last - first] = np.arange(first + 1, last + 1) + number * FILE_STEP
        np.testing.assert_array_equal(windows.samples[windows.window[point]], expected)
    index = np.array([7, 2, 2])
    np.testing.assert_array_equal(windows.take(index).samples, windows.samples[index])


@pytest.mark.parametrize("context", ["clip", "file"])
def test_what_is_written_window_by_window_is_what_numpy_would_write_at_once(
    context: str, backbone: Path, tmp_path: Path
) -> None:
    data = write_ramps(tmp_path, random_stretches(900))
    windows = cut(backbone, data, tmp_path / "out", context=context)
    np.save(tmp_path / "whole.npy", np.array(windows.samples))
    assert (tmp_path / "whole.npy").read_bytes() == (tmp_path / "out/samples.npy").read_bytes()


@pytest.mark.parametrize(("context", "seconds"), [("clip", 0.1), ("file", 0.9)])
def test_without_a_wish_the_window_holds_nearly_all_clips_or_nearly_all_files(
    context: str, seconds: float, backbone: Path, tmp_path: Path
) -> None:
    # Stretches last 0.05 s at most. Of six files, 95 % lie three quarters of the way from the
    # fifth (5,000 samples) to the longest (16,001): 0.83 s, so nine tenths.
    data = write_ramps(tmp_path, random_stretches(800))
    windows = cut(backbone, data, tmp_path / "out", context=context, window_seconds=0.0)
    assert windows.window_samples == round(seconds * RATE)


def test_each_file_is_decoded_once_to_check_it_and_once_to_cut_it(
    backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, decoded = write_ramps(tmp_path, random_stretches(500)), []

    def counted(path: Path, *where: Any) -> Any:
        decoded.append(path.name)
        return read_clip(path, *where)

    monkeypatch.setattr(chunking, "read_clip", counted)
    monkeypatch.setattr(dataset, "read_clip", counted)
    cut(backbone, data, tmp_path / "out")
    assert sorted(decoded) == sorted(2 * [f"{number}.wav" for number in range(len(FILES))])


def test_memory_does_not_grow_with_the_number_of_clips(backbone: Path, tmp_path: Path) -> None:
    data = make_recordings(tmp_path / "data", speakers=10, each=10, seconds=1.0)
    cut(backbone, data, tmp_path / "warm", context="clip", window_seconds=1.0)  # imports
    tracemalloc.start()
    try:
        windows = cut(backbone, data, tmp_path / "out", context="clip", window_seconds=1.0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(windows.samples) == 300
    assert peak < 25 * windows.samples[0].nbytes  # the rows' text weighs more than the sound
