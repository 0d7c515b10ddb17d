"""Subsets of a split's clips: balanced over classes or order, and one point per clip."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeprune.data.windows import Windows
from edgeprune.metrics.statistics import LEAST_GROUPS
from edgeprune_calibration.labels import tags_of


def balanced_subset(windows: Windows, split: str, most: int) -> Windows:
    """Return all windows of at most ``most`` clips of a split, balanced over the classes.

    No samples are read.
    """
    chosen = windows.clip[one_point_per_clip(windows, windows.where(split), most)]
    return windows.subset(np.flatnonzero(np.isin(windows.clip, chosen)))


def spread(windows: Windows, most: int) -> Windows:
    """Return all windows of at most ``most`` clips, evenly spaced in the order of the clips."""
    clips = np.unique(windows.clip)
    chosen = clips[np.unique(np.linspace(0, len(clips) - 1, min(most, len(clips))).astype(int))]
    return windows.take(np.flatnonzero(np.isin(windows.clip, chosen)))


def groups_of_clips(windows: Windows) -> list[str] | None:
    """Return the group of every clip of some windows, in the order of the clips.

    None without groups or with too few for resampling; then single clips are resampled.
    """
    _, first = np.unique(windows.clip, return_index=True)
    groups = windows.column("group")
    found = [groups[i] for i in first]
    return found if all(found) and len(set(found)) >= LEAST_GROUPS else None


def scored_classes(windows: Windows) -> NDArray[np.str_]:
    """Return the class by which each point is scored; empty for a point without one.

    Tags: only clips with exactly one tag have a class. Transcripts have none.
    """
    cells = windows.column("label")
    if windows.task == "tags":
        cells = [tags[0] if len(tags := tags_of(cell)) == 1 else "" for cell in cells]
    return np.asarray([""] * len(cells) if windows.task == "ctc" else cells)


def one_point_per_clip(windows: Windows, among: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return the first point of each clip, at most ``most``, balanced over the classes."""
    _, first = np.unique(windows.clip[among], return_index=True)
    first = among[first]
    if len(first) <= most:
        return np.sort(first)
    labels = scored_classes(windows)[first]
    rank = np.zeros(len(first))
    generator = np.random.default_rng(0)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rank[generator.permutation(members)] = (np.arange(len(members)) + 0.5) / len(members)
    return np.sort(first[np.argsort(rank, kind="stable")[:most]])
