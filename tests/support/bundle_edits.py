"""Ways to change a bundle on the disk: its manifest, a file of it, a folder into a zip; whom to trust."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeprune_device.bundle.manifest import sealed
from edgeprune_device.bundle.reader import Bundle, read_bundle
from edgeprune_device.bundle.writer import with_alternative, write_bundle
from edgeprune_device.settings import Security


def zipped(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(path, path.relative_to(folder).as_posix())
    return target


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "bundle.json"
    manifest = json.loads(path.read_text("utf-8"))
    change(manifest)
    path.write_bytes(sealed(manifest))


def replace_file(folder: Path, name: str, data: bytes) -> None:
    """Put other content in place and make the manifest agree with it."""
    (folder / name).write_bytes(data)
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    edit(folder, lambda m: m["files"].__setitem__(name, entry))


def contents(folder: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    manifest = dict(read_bundle(folder).manifest)
    return manifest, {name: (folder / name).read_bytes() for name in manifest.pop("files")}


def pair(folder: Path, first: Path, other: Bundle) -> Path:
    """Write a bundle with another's model as the alternative."""
    write_bundle(folder, *with_alternative(*contents(first), other))
    return folder


def trusted(*public: Path, require: bool = True) -> Security:
    """Return settings that trust these public keys."""
    return Security(require, tuple(str(path) for path in public))
