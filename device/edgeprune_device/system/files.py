"""Files that are there whole or not at all, folders whose entries outlive a power cut, safe names.

write_whole    bytes or text: beside its place, then renamed
written_whole  the same for whatever writes to a path itself
sync_folder    a folder's new, renamed and removed names, to the disk
make_folders   a folder and those above it, each brought to the disk
slug           any label as a folder's name
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
"""Of ``st_blocks``, whatever the file system's own are."""


def write_whole(path: Path, data: bytes | str, *, sync: bool = False) -> None:
    """Write a file so that its name only ever holds the old content or all of the new.

    Parameters
    ----------
    path : Path
        In a folder that exists.
    data : bytes or str
        Text is written as UTF-8.
    sync : bool
        Whether the content is brought to the disk before the name is: it outlives a power cut.

    Raises
    ------
    OSError
        It could not be written; what was begun is gone and the old content still there.

    """
    with written_whole(path, sync=sync) as partial:
        partial.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)


@contextmanager
def written_whole(path: Path, partial: Path | None = None, *, sync: bool = False) -> Iterator[Path]:
    """Give a path to write to; it becomes ``path`` if the body ends well, and is gone otherwise.

    Parameters
    ----------
    path : Path
        Where the file is to be.
    partial : Path, optional
        Where it is until then, on the same file system (``path`` with ``.partial`` behind it).
    sync : bool
        As for ``write_whole``.

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
    """Bring a folder's entries to the disk: new, renamed and removed names."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def slug(label: str) -> str:
    """Return a label as a folder's name: at most 47 of a-z, 0-9 and hyphens, never empty.

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
    """Make a folder and those above it, each brought to the disk."""
    if folder.is_dir():
        return
    make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)
