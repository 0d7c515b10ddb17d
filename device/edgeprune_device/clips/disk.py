"""The disk of a journal: whether it is still the same one, its free space, and a reserve file."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from edgeprune_device.clips.clip_files import CLIPS
from edgeprune_device.system.files import BLOCK_BYTES

MARKER, BALLAST = ".store", "ballast"
GIVE_UP, MAKE_AGAIN = 0.25, 3.0
"""Free space, in units of the ballast, below which it is deleted and above which it is created."""


def free_bytes(folder: Path) -> int:
    """Return the free bytes of a folder's disk for programs without privileges.

    Raises
    ------
    OSError
        The folder does not exist.

    """
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


class Ballast:
    """A file that reserves space, which can be freed at once when the disk is full.

    Deleting it needs no database and hardly any writing. Its blocks are really allocated.
    """

    def __init__(self, folder: Path, megabytes: float) -> None:
        self.path = folder / BALLAST
        self.size = round(megabytes * 1e6)

    @property
    def there(self) -> bool:
        """Whether the file exists with all its blocks allocated."""
        try:
            return self.path.lstat().st_blocks * BLOCK_BYTES >= self.size > 0
        except OSError:
            return False

    def trim(self, free: int) -> str:
        """Delete or create the file by the free bytes; return ``given up``, ``made`` or nothing."""
        if self.there:
            if free >= GIVE_UP * self.size:
                return ""
            with suppress(OSError):
                self.path.unlink()
                return "given up"
        elif self.size and free >= MAKE_AGAIN * self.size:
            return "made" if self._make() else ""
        return ""

    def _make(self) -> bool:
        """Allocate the file, or leave nothing behind."""
        try:
            with self.path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self.size)
        except OSError:
            with suppress(OSError):
                self.path.unlink()
        return self.there


class Disk:
    """Detects whether a folder is still on the same disk, as a USB stick may be pulled out.

    A marker file in ``clips/`` decides, since device numbers change; if it cannot be written (a
    full disk), the device number decides.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._marker = folder / CLIPS / MARKER
        self._place = self._where()
        self._token = self._read()
        if not self._token:
            self._mark(secrets.token_hex(8))

    def same(self) -> bool:
        """Return whether the disk is the same; a deleted marker is created again."""
        if self._token and (found := self._read()):
            return found == self._token
        if (where := self._where()) is None or where != self._place:
            return False
        if self._token:
            self._mark(self._token)
        return True

    def _mark(self, token: str) -> None:
        with suppress(OSError):
            self._marker.parent.mkdir(exist_ok=True)
            self._marker.write_text(token, "ascii")
        self._token = self._read()

    def _read(self) -> str:
        try:
            return self._marker.read_text("ascii", "replace")
        except OSError:
            return ""

    def _where(self) -> tuple[int, int] | None:
        try:
            found = self.folder.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino
