"""Reads the files of a bundle as bytes, from a folder or a zip, without following links.

    with opened(path) as files:
        files.names()            names of all files
        files.read(name, most)   content, never more than ``most`` + 1 bytes

A folder is held open from the first file to the last, so that a folder swapped for another in
between is still read as one. A change in between does no harm: the bytes that are hashed are the
bytes that are used. For the same reason a hard link is treated like any other file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from edgeprune_device.bundle.strict_zip import MOST_ENTRIES, BadZipError, members_of, unpack
from edgeprune_device.errors import EdgepruneError

LONGEST = 400  # characters of a problem in an error message: a hostile bundle may make it long
MOST_TOTAL_BYTES = 2 << 30  # of a zip, and of all listed files: largest size of a model file
PLAIN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe must not block


class Files(Protocol):
    """Common interface of a folder and a zip."""

    def names(self) -> set[str]:
        """Return every file's name, with ``/`` between parts; links and special files included."""

    def folders(self) -> set[str]:
        """Return every folder's name."""

    def read(self, name: str, most: int) -> bytes:
        """Return a file's content, or its first ``most`` + 1 bytes if it is longer."""


@contextmanager
def opened(path: Path) -> Iterator[Files]:
    """Open the files of a bundle.

    Parameters
    ----------
    path : Path
        A folder or a zip.

    Yields
    ------
    Files

    Raises
    ------
    EdgepruneError
        There is no bundle, or it is not one; also raised while it is read.

    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # ValueError: a NUL in the name
        raise EdgepruneError(
            f"There is no bundle at {path}.", "edgeprune compress or edgeprune wrap creates one."
        ) from None
    try:
        if not stat.S_ISDIR(mode):
            yield Zip(path, mode)
            return
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield Folder(path, handle)
        finally:
            os.close(handle)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise EdgepruneError(f"The bundle {path} cannot be read: {reason}.") from None


def bad(path: Path, what: str) -> EdgepruneError:
    """Return the error for an invalid bundle."""
    return EdgepruneError(
        f"The bundle {path} cannot be trusted: {what[:LONGEST]}.",
        "Copy it again from the workstation.",
    )


class Folder:
    """Reads a folder's files without following links out of it."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path, self.handle = path, handle
        self._listed: tuple[set[str], set[str]] | None = None

    def names(self) -> set[str]:
        """See ``Files``."""
        return self._list()[0]

    def folders(self) -> set[str]:
        """See ``Files``."""
        return self._list()[1]

    def read(self, name: str, most: int) -> bytes:
        """See ``Files``."""
        *parents, last = name.split("/")
        held: list[int] = []
        try:
            for parent in parents:
                above = held[-1] if held else self.handle
                held.append(os.open(parent, PLAIN | os.O_DIRECTORY, dir_fd=above))
            file = os.open(last, PLAIN, dir_fd=held[-1] if held else self.handle)
            held.append(file)
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                raise bad(self.path, f"{name} in it is not a regular file")
            with os.fdopen(file, "rb", closefd=False) as stream:
                return stream.read(
                    min(most, status.st_size) + 1
                )  # this much memory is reserved first
        except (FileNotFoundError, NotADirectoryError):
            raise bad(self.path, f"it has no file {name}") from None
        except OSError as error:  # a link: ELOOP; a socket: ENXIO
            raise bad(self.path, f"its file {name} cannot be read ({error.strerror})") from None
        finally:
            for each in held:
                os.close(each)

    def _list(self) -> tuple[set[str], set[str]]:
        if self._listed is None:
            names: set[str] = set()
            folders: set[str] = set()
            self._walk(self.handle, "", names, folders)
            self._listed = (names, folders)
        return self._listed

    def _walk(self, handle: int, prefix: str, names: set[str], folders: set[str]) -> None:
        with os.scandir(handle) as entries:
            for entry in entries:
                name = prefix + entry.name
                if not entry.is_dir(follow_symlinks=False):
                    names.add(name)
                elif prefix:
                    raise bad(self.path, f"{name!r} is a folder inside a folder")
                else:
                    folders.add(name)
                if len(names) + len(folders) > MOST_ENTRIES:
                    raise bad(self.path, f"it has over {MOST_ENTRIES} files")
        if not prefix:
            for name in sorted(folders):
                inner = os.open(name, PLAIN | os.O_DIRECTORY, dir_fd=self.handle)
                try:
                    self._walk(inner, f"{name}/", names, folders)
                finally:
                    os.close(inner)


class Zip:
    """Reads a zip's members from memory."""

    def __init__(self, path: Path, mode: int) -> None:
        self.path = path
        if not stat.S_ISREG(mode):
            raise bad(path, "it is a device, a pipe or a socket (allowed: a folder or a zip)")
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > MOST_TOTAL_BYTES:
                raise bad(path, f"the zip is larger than {MOST_TOTAL_BYTES >> 30} GiB")
            data = stream.read(size + 1)
        try:
            self.members, self._folders = members_of(data)
        except BadZipError as error:
            raise bad(path, str(error)) from None

    def names(self) -> set[str]:
        """See ``Files``."""
        return set(self.members)

    def folders(self) -> set[str]:
        """See ``Files``."""
        return self._folders

    def read(self, name: str, most: int) -> bytes:
        """See ``Files``."""
        if name not in self.members:
            raise bad(self.path, f"it has no file {name}")
        try:
            return unpack(self.members[name], most)
        except BadZipError as error:
            raise bad(self.path, str(error)) from None
