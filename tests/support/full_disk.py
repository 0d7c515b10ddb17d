"""Small real disks that a test can fill: a tmpfs, or an ext4 in a file; with a reason where not."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

KINDS = ("tmpfs", "ext4")


@contextmanager
def small_disk(folder: Path, kind: str, megabytes: int) -> Iterator[Path]:
    """Mount a disk of so many MiB; unmounted in the end."""
    place = folder / f"disk-{kind}"
    place.mkdir()
    if kind == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(place)]
    else:
        if shutil.which("mkfs.ext4") is None:
            pytest.skip("there is no mkfs.ext4 (apt install e2fsprogs)")
        image = folder / "disk.img"
        with image.open("wb") as file:
            file.truncate(megabytes << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
        command = ["mount", "-o", "loop", str(image), str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(folder: Path, name: str = "another-program", leave: int = 0) -> Path:
    """Fill a disk to the last block but ``leave`` bytes, as another program's file."""
    path = folder / name
    with path.open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 16, 1 << 12) if leave else (1 << 20, 1 << 12, 1):
            with suppress(OSError):
                while free(folder) - leave >= size or not leave:
                    file.write(b"\0" * size)
    return path


def free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
