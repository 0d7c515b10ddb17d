"""Folders whose entries outlive a power cut."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Bring a folder's entries to the disk: new, renamed and removed names."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


SLUG_LENGTH = 40
HASH_LENGTH = 6
BLOCK_BYTES = 512  # of st_blocks, whatever the file system's own are


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
