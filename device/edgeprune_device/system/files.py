"""Atomic file writes, durable folders and safe folder names.

write_whole    writes bytes or text to a temporary file, then renames it
written_whole  the same as a context manager, for code that writes to a path itself
sync_folder    flushes a folder's new, renamed and removed entries to disk
make_folders   creates a folder and its parents, each flushed to disk
slug           turns any label into a folder name
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PARTIAL = ".partial"
SLUG_LENGTH = 40
HASH_LENGTH = 6
BLOCK_BYTES = 512
"""Unit of ``st_blocks``, whatever the file system's block size."""


def write_whole(path: Path, data: bytes | str, *, sync: bool = False) -> None:
    """Write a file atomically: it holds either the old or the complete new content.

    Parameters
    ----------
    path : Path
        File in an existing folder.
    data : bytes or str
        Text is written as UTF-8.
    sync : bool
        Whether to flush the content to disk before renaming, so that it survives a power cut.

    Raises
    ------
    OSError
        The file could not be written; the old content is kept and the partial file removed.

    """
    with written_whole(path, sync=sync) as partial:
        partial.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)


@contextmanager
def written_whole(path: Path, partial: Path | None = None, *, sync: bool = False) -> Iterator[Path]:
    """Yield a path to write to; it is renamed to ``path`` on success and removed otherwise.

    Parameters
    ----------
    path : Path
        Final path.
    partial : Path, optional
        Temporary path on the same file system; by default ``path`` with ``.partial`` appended.
    sync : bool
        As in ``write_whole``.

    """
    partial = partial or path.with_name(path.name + PARTIAL)
    try:
        yield partial
        if sync:
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Flush a folder's new, renamed and removed entries to disk."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def slug(label: str) -> str:
    """Return a folder name for a label: at most 47 of a-z, 0-9 and hyphens, never empty.

    >>> slug("owl"), slug("../Größe")
    ('owl', 'grosse-f6d077')
    """
    plain = unicodedata.normalize("NFKD", label.casefold()).encode("ascii", "ignore").decode()
    short = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:SLUG_LENGTH].strip("-")
    if short and short == label:
        return short
    digits = hashlib.sha256(label.encode("utf-8", "surrogatepass")).hexdigest()[:HASH_LENGTH]
    return f"{short or 'label'}-{digits}"


def make_folders(folder: Path) -> None:
    """Create a folder and its parents, each flushed to disk."""
    if folder.is_dir():
        return
    make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)
