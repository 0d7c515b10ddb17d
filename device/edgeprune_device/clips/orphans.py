"""Finds clips without a row and rows without a clip, after a crash or a deletion.

A clip is on disk before its row is, and is deleted before its row is. So a clip without a row is
complete, and its tags have what belongs in the row; a row without a clip can be marked as deleted,
unless the disk of the clips is not mounted.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from pathlib import Path

from edgeprune_device.clips.clip_files import CLIPS, find_clips, read_tags
from edgeprune_device.clips.clip_recorder import ClipInProgress
from edgeprune_device.clips.disk import MARKER


def unrecorded(folder: Path, recorded: Collection[str]) -> list[ClipInProgress]:
    """Return the clips whose paths are not among the recorded ones, from their tags.

    Files without edgeprune tags are left out.

    Parameters
    ----------
    folder : Path
        Folder of the journal.
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
    """Return the recorded paths without a clip; none if the disk of the clips is not mounted."""
    if not (folder / CLIPS / MARKER).is_file():
        return []
    there = {file.path for file in find_clips(folder)}
    return sorted(set(recorded) - there)
