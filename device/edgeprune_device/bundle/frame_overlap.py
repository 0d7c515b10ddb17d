"""Which frames of a window are known from the window before, and which chunks give the rest.

Pure. A front end makes ``frames`` of a window, ``step`` samples apart; the same front end, exported
for a shorter stretch, makes ``chunk`` frames of ``chunk_samples``. A chunk may begin at any frame::

    window   |0 1 2 3 4 5 6 7 8 9|          frames = 10
    chunk                |0 1 2 3|          chunk = 4, begun at frame 6

Where a front end pads (reflects) its input, the first ``left`` and the last ``right`` frames of
whatever it is given are the edge's: they are taken from a chunk only where its edge is the
window's, and are never kept for another window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NAMES = ("front", "back")
"""The two files of an incremental model: a chunk of samples to frames, a window's frames to scores."""
MOST_FRAMES = 1 << 20


@dataclass(frozen=True)
class FrameOverlap:
    """How a front end's frames lie in a window."""

    frames: int
    """Of a window."""
    chunk: int
    """Frames of a chunk."""
    step: int
    """Samples from one frame to the next."""
    window_samples: int
    left: int = 0
    """First frames of a window or chunk that hang on where it begins."""
    right: int = 0
    """Last frames that hang on where it ends."""

    @property
    def chunk_samples(self) -> int:
        """Samples of a chunk: the window's without those of the frames that it has fewer."""
        return self.window_samples - (self.frames - self.chunk) * self.step

    @property
    def new(self) -> int:
        """Frames that one chunk adds to a window's: the longest hop at which it gives all of them."""
        return self.chunk - self.left - self.right

    def kept(self, shift: int) -> range:
        """Return the frames of a window that another, begun ``shift`` frames before, had too."""
        return range(self.left, max(self.left, self.frames - self.right - max(0, shift)))

    def chunks(self, kept: range) -> list[tuple[int, int, int]]:
        """Return what is to be computed of a window.

        Parameters
        ----------
        kept : range
            Frames that are known.

        Returns
        -------
        list of tuple of int
            Frame of the window at which a chunk begins; then the first of the window's frames to
            take from it, and the one behind the last.

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
        """What is wrong with it; empty if nothing is."""
        if not all(0 < size < MOST_FRAMES for size in (self.frames, self.chunk, self.step)):
            return f"its incremental model has {self.frames} frames, {self.step} samples apart"
        if min(self.left, self.right) < 0 or not self.left + self.right < self.chunk < self.frames:
            return (f"a chunk of its incremental model has {self.chunk} of {self.frames} frames, "
                    f"{self.left} and {self.right} of them at the edges")  # fmt: skip
        if self.chunk_samples < 1:
            return "a chunk of its incremental model has no samples"
        return ""


def overlap_of(model: Mapping[str, Any]) -> FrameOverlap:
    """Return the plan of a manifest's ``model`` that has the entry ``incremental``."""
    entry = model["incremental"]
    axis = int(entry["axis"])
    return FrameOverlap(
        frames=int(entry["back"]["input"]["shape"][axis]),
        chunk=int(entry["front"]["output"]["shape"][axis]),
        step=int(entry["step"]), window_samples=int(model["input"]["shape"][1]),
        left=int(entry["left"]), right=int(entry["right"]),
    )  # fmt: skip


def problem_of_incremental(model: Mapping[str, Any]) -> str:
    """Return what is wrong with what a manifest's ``model`` says of its incremental files, if any.

    Raises
    ------
    KeyError, TypeError, ValueError, IndexError
        An entry is missing or of another type.

    """
    if not isinstance(model.get("not_incremental", ""), str):
        return "why it is not incremental is no sentence"
    if "incremental" not in model:
        return ""
    entry, plan = model["incremental"], overlap_of(model)
    if not all(isinstance(entry[name]["file"], str) for name in NAMES):
        return "a file of its incremental model has no name"
    if model["format"] != "onnx" or entry["axis"] not in (1, 2):
        return "its incremental model is of another format, or its frames lie along another axis"
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
        return f"the halves of its incremental model do not fit: {made} and {read}"
    return ""


def files_of(model: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of a manifest's model's incremental files; none if it has none."""
    if "incremental" not in model:
        return ()
    return tuple(str(model["incremental"][name]["file"]) for name in NAMES)
