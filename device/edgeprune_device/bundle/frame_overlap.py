"""Computes which frames of a window are known from the previous one, and chunks for the rest.

Pure functions. A front end turns a window into ``frames`` frames, ``step`` samples apart; the same
front end, exported for a shorter input, turns ``chunk_samples`` samples into ``chunk`` frames. A
chunk may begin at any frame::

    window   |0 1 2 3 4 5 6 7 8 9|          frames = 10
    chunk                |0 1 2 3|          chunk = 4, begins at frame 6

If the front end pads (reflects) its input, the first ``left`` and the last ``right`` frames of any
input depend on the padding at its edges: they are taken from a chunk only if its edge is the
window's edge, and are never reused for another window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NAMES = ("front", "back")
"""The two files of an incremental model: chunk's samples -> frames, window's frames -> scores."""
MOST_FRAMES = 1 << 20


@dataclass(frozen=True)
class FrameOverlap:
    """Geometry of a front end's frames in a window and in a chunk."""

    frames: int
    """Number of frames of a window."""
    chunk: int
    """Number of frames of a chunk."""
    step: int
    """Samples from one frame to the next."""
    window_samples: int
    left: int = 0
    """Number of first frames of a window or chunk that depend on padding at its start."""
    right: int = 0
    """Number of last frames that depend on padding at its end."""

    @property
    def chunk_samples(self) -> int:
        """Number of samples of a chunk: the window's, less ``step`` per missing frame."""
        return self.window_samples - (self.frames - self.chunk) * self.step

    @property
    def new(self) -> int:
        """Number of frames one chunk adds: the longest hop, in frames, one chunk can cover."""
        return self.chunk - self.left - self.right

    def kept(self, shift: int) -> range:
        """Return the frames that a window shares with one that began ``shift`` frames earlier."""
        return range(self.left, max(self.left, self.frames - self.right - max(0, shift)))

    def chunks(self, kept: range) -> list[tuple[int, int, int]]:
        """Return the chunks that must be computed for a window.

        Parameters
        ----------
        kept : range
            Frames that are already known.

        Returns
        -------
        list of tuple of int
            For each chunk: the frame of the window at which it begins, then the first frame of the
            window to take from it, and the one after the last.

        """
        last, frame = self.frames - self.chunk, 0
        found: list[tuple[int, int, int]] = []
        while True:
            frame = kept.stop if frame in kept else frame
            if frame >= self.frames:
                return found
            begin = min(max(0, frame - self.left), last)
            end = begin + self.chunk - (self.right if begin < last else 0)
            found.append((begin, frame, end))
            frame = end

    @property
    def problem(self) -> str:
        """First problem of the values; empty if there is none."""
        if not all(0 < size < MOST_FRAMES for size in (self.frames, self.chunk, self.step)):
            return f"its incremental model has {self.frames} frames, {self.step} samples apart"
        if min(self.left, self.right) < 0 or not self.left + self.right < self.chunk < self.frames:
            return (f"a chunk of its incremental model has {self.chunk} of {self.frames} frames, "
                    f"with {self.left} and {self.right} edge frames")  # fmt: skip
        if self.chunk_samples < 1:
            return "a chunk of its incremental model has no samples"
        return ""


def overlap_of(model: Mapping[str, Any]) -> FrameOverlap:
    """Return the geometry of a manifest's ``model`` that has the entry ``incremental``."""
    entry = model["incremental"]
    axis = int(entry["axis"])
    return FrameOverlap(
        frames=int(entry["back"]["input"]["shape"][axis]),
        chunk=int(entry["front"]["output"]["shape"][axis]),
        step=int(entry["step"]), window_samples=int(model["input"]["shape"][1]),
        left=int(entry["left"]), right=int(entry["right"]),
    )  # fmt: skip


def problem_of_incremental(model: Mapping[str, Any]) -> str:
    """Return the first problem of the entry ``incremental`` of a manifest's ``model``.

    Empty if there is no problem, or no such entry.

    Raises
    ------
    KeyError, TypeError, ValueError, IndexError
        An entry is missing or has the wrong type.

    """
    if not isinstance(model.get("not_incremental", ""), str):
        return "its entry not_incremental is not a text"
    if "incremental" not in model:
        return ""
    entry, plan = model["incremental"], overlap_of(model)
    if not all(isinstance(entry[name]["file"], str) for name in NAMES):
        return "a file of its incremental model has no name"
    if model["format"] != "onnx" or entry["axis"] not in (1, 2):
        return "its incremental model is not ONNX, or its frame axis is not 1 or 2"
    if plan.problem:
        return plan.problem
    taken, made, read = (
        list(entry[part][side]["shape"])
        for part, side in (("front", "input"), ("front", "output"), ("back", "input"))
    )
    if taken != [1, plan.chunk_samples]:
        return f"a chunk of its incremental model has the shape {taken}"
    if len(made) != 3 or len(read) != 3 or any(
        a != b for axis, (a, b) in enumerate(zip(made, read, strict=True)) if axis != entry["axis"]
    ):  # fmt: skip
        return (
            f"the two files of its incremental model have different frame shapes: {made} and {read}"
        )
    return ""


def files_of(model: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the incremental files of a manifest's ``model``; empty if it has none."""
    if "incremental" not in model:
        return ()
    return tuple(str(model["incremental"][name]["file"]) for name in NAMES)
