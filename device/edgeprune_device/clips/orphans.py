"""Clips without a row, and rows without a clip: what a crash or a deletion leaves apart.

A clip is on the disk before its row is, and is deleted before its row is. So a clip without a row
is whole, and tells by its tags what belongs there; a row without a clip can be marked as deleted,
unless the clips are on a disk that is not there at present.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from pathlib import Path

from edgeprune_device.clips.clip_files import CLIPS, find_clips, read_tags
from edgeprune_device.clips.clip_recorder import ClipInProgress
from edgeprune_device.clips.disk import MARKER


def unrecorded(folder: Path, recorded: Collection[str]) -> list[ClipInProgress]:
    """Return the clips whose paths are not among the recorded ones, from their own tags.

    Files that have no tags of ours are left out: nothing can be said of them.

    Parameters
    ----------
    folder : Path
        The journal's.
    recorded : collection of str
        Paths of the rows, relative to the folder.

    """
    known, found = set(recorded), []
    for file in find_clips(folder):
        if file.path in known:
            continue
        tags = read_tags(folder / file.path)
        try:
            utc = tags["utc"]
            found.append(ClipInProgress(
                str(tags["id"]), str(tags["label"]), file.path, int(tags["first_sample"]),
                int(tags["samples"]), (folder / file.path).stat().st_size,
                datetime.fromisoformat(utc) if utc else None, float(tags["score"]),
                tuple(map(str, tags["cut"])),
            ))  # fmt: skip
        except (KeyError, TypeError, ValueError, OSError):
            continue
    return found


def vanished(folder: Path, recorded: Collection[str]) -> list[str]:
    """Return the recorded paths that have no clip; none of them if the clips' disk is not there."""
    if not (folder / CLIPS / MARKER).is_file():
        return []
    there = {file.path for file in find_clips(folder)}
    return sorted(set(recorded) - there)
