"""Names, writes, tags, locks, finds and deletes the files of clips.

    JOURNAL/clips/2026-05-01/tawny-owl-3f9a1c/213005_5d41402abc4b2a76.flac       a clip, recorded live
    JOURNAL/clips/stream/...                                                    a clip of a sound file
    JOURNAL/clips/.../213005_5d41402abc4b2a76.flac.lock                         never deleted for space
    JOURNAL/clips/NAME.flac.part                                                being written
    JOURNAL/clips/.store                                                        identifies the disk

Day and time are UTC (for a sound file: its stream time). A label is not safe as a folder name: it
is converted to a slug; one that differs from its slug gets six digits of its hash, so that labels
never share a folder. A lock is an empty file beside the clip: it needs no free block and no
database, so that it can be set on a full disk.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.system.files import (
    BLOCK_BYTES,
    make_folders,
    slug,
    sync_folder,
    written_whole,
)

CLIPS, SUFFIX, PART, LOCK = "clips", ".flac", ".part", ".lock"
STREAM = "stream"  # instead of the day
FULL_SCALE = 32_768.0
MOST_FLAC_RATE = 655_350  # Hz, limit of the format
NAMED = re.compile(r"(\d{6,})_([A-Za-z0-9-]+)\.flac")


@dataclass(frozen=True, slots=True)
class ClipFile:
    """A clip as listed in its folder, without reading the file."""

    path: str
    """Relative to the journal's folder."""
    label: str
    """Slug of its label."""
    seconds: float
    """Unix time of the event; for a clip of a sound file, when it was written."""
    bytes: int
    """Disk space it uses in bytes."""
    locked: bool

    @property
    def id(self) -> str:
        """Id of its detection."""
        named = NAMED.fullmatch(self.path.rpartition("/")[2])
        return named[2] if named else ""


def clip_path(label: str, name: str, utc: datetime | None, stream_seconds: float) -> str:
    """Return the path of a clip, relative to the journal's folder.

    Parameters
    ----------
    label, name : str
        Label and id of the detection.
    utc : datetime or None
        Time of the event; None for a sound file, which is named by ``stream_seconds``.
    stream_seconds : float
        Stream time of the event in seconds.

    """
    if utc is None:
        minutes, seconds = divmod(int(stream_seconds), 60)
        day, moment = STREAM, f"{minutes // 60:02d}{minutes % 60:02d}{seconds:02d}"
    else:
        there = utc.astimezone(UTC)
        day, moment = there.strftime("%Y-%m-%d"), there.strftime("%H%M%S")
    safe = name if re.fullmatch(r"[A-Za-z0-9-]{1,64}", name) else slug(name)
    return f"{CLIPS}/{day}/{slug(label)}/{moment}_{safe}{SUFFIX}"


def to_pcm16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """Round samples (n,) in [-1, 1] to 16 bits; 1.0 becomes the largest value, 32767/32768.

    16 bits and not 24: audio of a 16-bit microphone or file is kept exactly, the rounding of
    resampled audio (-98 dBFS) is below the noise of a recorder's microphone, and FLAC cannot
    compress the eight bits of noise that 24 would add, which double the size of a clip.
    """
    scaled = np.rint(np.nan_to_num(samples, posinf=1.0, neginf=-1.0) * FULL_SCALE)
    return np.asarray(np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1), dtype=np.int16)


def to_flac(samples: NDArray[np.int16], rate: int, tags: Mapping[str, Any]) -> bytes:
    """Return a 16-bit FLAC file with the tags as JSON in its comment and the label as its title."""
    import soundfile

    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate, 1, "PCM_16", format="FLAC") as file:
        file.comment = json.dumps(tags)  # ASCII, with NUL and surrogates escaped
        if title := "".join(c for c in str(tags.get("label", "")) if c.isprintable()):
            file.title = title
        file.write(samples)
    return buffer.getvalue()


def read_tags(path: Path) -> dict[str, Any]:
    """Return a clip's tags; empty if there are none or the file is not an edgeprune clip."""
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            tags = json.loads(file.comment)
    except (OSError, ValueError, soundfile.LibsndfileError):
        return {}
    return tags if isinstance(tags, dict) else {}


def write_clip(folder: Path, path: str, data: bytes) -> None:
    """Write a clip atomically and flush it to disk.

    Parameters
    ----------
    folder : Path
        Folder of the journal.
    path : str
        As returned by ``clip_path``.
    data : bytes
        Content of the file.

    Raises
    ------
    OSError
        It could not be written; the partial file is removed.

    """
    target = folder / path
    make_folders(target.parent)
    with written_whole(target, folder / CLIPS / (target.name + PART), sync=True) as part:
        part.write_bytes(data)
    sync_folder(target.parent)


def remove_parts(folder: Path, before: float = float("inf")) -> int:
    """Remove partial files of a crash older than ``before`` (Unix time); return how many."""
    removed = 0
    with suppress(OSError):
        for part in list((folder / CLIPS).glob(f"*{SUFFIX}{PART}")):
            if part.lstat().st_mtime < before:
                part.unlink()
                removed += 1
    return removed


def delete_clip(folder: Path, path: str) -> None:
    """Delete a clip, its lock, and folders that become empty; a missing clip is not an error.

    A copy-on-write file system (btrfs) may have no space for a deletion: there the file is
    truncated first.

    Raises
    ------
    OSError
        The clip could not be deleted.

    """
    target = folder / path
    try:
        target.unlink(missing_ok=True)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        os.truncate(target, 0)
        target.unlink(missing_ok=True)
    with suppress(OSError):
        target.with_name(target.name + LOCK).unlink(missing_ok=True)
    with suppress(OSError):  # not empty
        target.parent.rmdir()
        target.parent.parent.rmdir()


def set_lock(folder: Path, path: str, locked: bool) -> None:
    """Lock or unlock a clip."""
    lock = folder / (path + LOCK)
    if locked:
        lock.touch()
    else:
        lock.unlink(missing_ok=True)
    sync_folder(lock.parent)


def find_clips(folder: Path) -> Iterator[ClipFile]:
    """Yield the clips, day by day; links are not followed, other files are ignored.

    A folder that disappears meanwhile is skipped.
    """
    for day in _folders(folder / CLIPS):
        midnight = None
        with suppress(ValueError):
            midnight = datetime.fromisoformat(day.name).replace(tzinfo=UTC).timestamp()
        for label in _folders(Path(day.path)):
            with suppress(FileNotFoundError):
                entries = {entry.name: entry for entry in os.scandir(label.path)}
                for name in sorted(entries):
                    if clip := _clip_file(label.path, midnight, entries[name], entries):
                        yield clip


def _clip_file(
    place: str, midnight: float | None, entry: os.DirEntry[str], beside: Mapping[str, Any]
) -> ClipFile | None:
    named = NAMED.fullmatch(entry.name)
    if named is None or not entry.is_file(follow_symlinks=False):
        return None
    try:
        found = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    _, day, label = place.rsplit("/", 2)
    moment = int(named[1])
    into_day = moment // 10_000 * 3600 + moment // 100 % 100 * 60 + moment % 100
    return ClipFile(
        f"{CLIPS}/{day}/{label}/{entry.name}", label,
        found.st_mtime if midnight is None else midnight + into_day,
        found.st_blocks * BLOCK_BYTES, entry.name + LOCK in beside,
    )  # fmt: skip


def _folders(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    return sorted(found, key=lambda entry: entry.name)
