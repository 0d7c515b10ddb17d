"""Splitting sounds into windows that are written one by one.

One sound is decoded at a time, so that memory is bounded by the longest sound, not by their number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from edgeprune.core.settings import Clips
from edgeprune_calibration.manifest import Clip
from edgeprune_device.audio.sound_files import pad_to_window, read_clip, seconds_of, windows_of
from edgeprune_device.errors import EdgepruneError

LONGEST_WINDOW_SECONDS = 10.0

Piece = tuple[Path, float | None, float | None]
"""What is decoded at once: a file, and its start and end in seconds."""
Cut = Iterator[tuple[NDArray[np.float32], list[tuple[int, int, int]]]]
"""Windows, each with the points in it: index of the clip, first sample, and end (exclusive)."""


def pieces_of(clips: Sequence[Clip], in_files: bool) -> list[tuple[Piece, list[int]]]:
    """Return what is decoded at once and the clips in it: one clip, or all clips of a file."""
    if not in_files:
        return [((c.path, c.start_seconds, c.end_seconds), [i]) for i, c in enumerate(clips)]
    files: dict[Piece, list[int]] = {}
    for index, clip in enumerate(clips):
        files.setdefault((clip.path, None, None), []).append(index)
    return list(files.items())


def window_samples(settings: Clips, own: int, rate: int, pieces: Sequence[Piece]) -> int:
    """Choose the window length in samples, from the settings, the model and the file headers."""
    wanted = round(settings.window_seconds * rate)
    if own and wanted not in (0, own):
        raise EdgepruneError(
            f"This model takes windows of {own / rate:g} s, not {settings.window_seconds:g} s.",
            "Leave --window out.",
        )
    if own or wanted:
        return own or wanted
    lengths = [math.floor(seconds_of(*piece) * rate + 0.5) for piece in pieces]  # as soxr rounds
    tenth = rate // 10
    if settings.task == "ctc":  # a transcript cannot be split
        return math.ceil(max(lengths) / tenth) * tenth
    usual = math.ceil(float(np.quantile(lengths, 0.95)) / tenth) * tenth
    return min(usual, round(LONGEST_WINDOW_SECONDS * rate))


def windows_of_clips(
    pieces: Iterable[tuple[Piece, list[int]]], _clips: Sequence[Clip], rate: int, window: int
) -> Cut:
    """Split each clip into adjacent windows; every window holds one point of the clip."""
    for (path, start, end), (clip,) in pieces:
        sound = read_clip(path, rate, start, end)
        if len(sound) <= window:
            samples, first = pad_to_window(sound, window)
            yield samples, [(clip, first, first + len(sound))]
        else:
            for samples in windows_of(sound, window, window):
                yield samples, [(clip, 0, window)]


def windows_of_files(
    pieces: Iterable[tuple[Piece, list[int]]], clips: Sequence[Clip], rate: int, window: int
) -> Cut:
    """Split each file into windows that overlap by half; windows without points are left out.

    A segment becomes a point of the window whose centre is nearest to its own (ties: the earlier).
    """
    for (path, start, end), members in pieces:
        sound = read_clip(path, rate, start, end)
        segments = np.array([_segment(clips[i], rate, len(sound), window) for i in members])
        if len(sound) < window:
            sound, shift = pad_to_window(sound, window)
            segments += shift
        last = len(sound) - window
        begins = np.array([*range(0, last, window // 2), last])
        borders = (begins[1:] + begins[:-1] + window) / 2  # midpoints between the centres
        home = np.searchsorted(borders, segments.mean(axis=1))
        for number in np.unique(home):
            begin, here = begins[number], np.flatnonzero(home == number)
            inside = np.clip(segments[here] - begin, 0, window).tolist()
            points = [(members[i], *ends) for i, ends in zip(here, inside, strict=True)]
            yield sound[begin : begin + window], points


def _segment(clip: Clip, rate: int, length: int, window: int) -> tuple[int, int]:
    """Return a segment's first sample in its file and its end (exclusive), at least one sample."""
    if clip.start_seconds is None and clip.end_seconds is None and length > window:
        raise EdgepruneError(
            f"A row of {clip.path} has no start and end, and the file ({length / rate:g} s) is "
            f"longer than a window ({window / rate:g} s).",
            "Give start and end, or set clips.context to 'clip' (without --frames).",
        )
    first = min(round((clip.start_seconds or 0.0) * rate), length - 1)
    last = length if clip.end_seconds is None else round(clip.end_seconds * rate)
    return first, max(first + 1, min(last, length))


def write_windows(path: Path, window: int, cut: Cut) -> list[tuple[int, int, int, int]]:
    """Write windows one by one, in the format of ``np.save`` for all of them.

    Parameters
    ----------
    path : Path
        Output file (``.npy``).
    window : int
        Samples per window.
    cut : iterator
        Windows with their points.

    Returns
    -------
    list of tuple
        The points, sorted: clip, first sample, end (exclusive), window.

    """
    points: list[tuple[int, int, int, int]] = []
    count = 0
    with path.open("wb") as file:
        _write_header(file, 0, window)
        for samples, found in cut:
            file.write(samples.tobytes())
            points.extend((*point, count) for point in found)
            count += 1
        file.seek(0)
        _write_header(file, count, window)  # as long as the first one: numpy pads headers
    return sorted(points)


def _write_header(file: BinaryIO, count: int, window: int) -> None:
    described = {
        "descr": np.dtype(np.float32).str,
        "fortran_order": False,
        "shape": (count, window),
    }
    np.lib.format.write_array_header_1_0(file, described)
