"""Bundles installed on a recorder: kept side by side, swapped atomically, rolled back by command.

    STORE/birds-1a2b3c4d5e6f/        a complete bundle, by its name and digest
    STORE/current  -> birds-...      the bundle in use: edgeprune listen STORE/current
    STORE/previous -> birds-...      what edgeprune rollback STORE returns to

1. The bundle is read and checked, copied into the store, flushed to disk, and read again.
2. A child process opens its model and compares the golden outputs, so that a crash happens there.
3. Only then is it given its name, and ``current`` replaced by an atomic rename.

Interrupted at any moment, ``current`` points to a complete bundle: the old or the new one. A
recorder calls ``Installed.changed`` between windows and loads the new bundle when it is ready.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edgeprune_device.bundle.manifest import MANIFEST
from edgeprune_device.bundle.reader import Bundle, read_bundle
from edgeprune_device.errors import FAILED_CHECK, EdgepruneError
from edgeprune_device.inference.self_test import self_test_in_child
from edgeprune_device.system.files import slug, sync_folder

CURRENT, PREVIOUS, NEW, LOCK = "current", "previous", ".new-", ".lock"
NAMED = re.compile(r"[a-z0-9-]+-[0-9a-f]{12}")
BESIDE = ("bundle.json.sig",)
"""Files that a bundle may have besides those its manifest lists."""
DIGITS = 12
Read = Callable[[Path], Bundle]
Prove = Callable[[Path, str], float]


@dataclass(frozen=True)
class Swap:
    """Result of an installation or a rollback."""

    name: str
    """Folder of the current bundle in the store."""
    digest: str
    previous: str
    """Folder of the previous bundle in the store; empty if there is none."""
    changed: bool
    """False if it was already the current one."""
    golden_difference: float
    """Largest difference of a golden score on this machine."""


def install(
    bundle: Path, store: Path, *, read: Read = read_bundle, prove: Prove | None = None
) -> Swap:
    """Install a bundle and make it the current one.

    Parameters
    ----------
    bundle, store : Path
        A folder or a zip; folder of the store, created if missing.
    read : callable
        Reads a bundle and checks it completely, including its signature if one is required.
    prove : callable or None
        Opens the bundle with a given digest, compares its golden outputs and returns the largest
        difference; by default in a child process.

    Returns
    -------
    Swap

    Raises
    ------
    EdgepruneError
        The bundle is rejected, has different scores on this machine, or cannot be written; the
        current bundle stays.

    """
    source = read(bundle)
    name = f"{slug(source.name)}-{source.digest[:DIGITS]}"
    prove = prove or self_test_in_child
    with _locked(store):
        _tidy(store)
        before = _target(store, CURRENT)
        target = store / name
        if not _is_whole(target, source.digest, read):
            worst = _take_in(bundle, source, target, read, prove)
        else:
            worst = prove(target, source.digest)
        if before != name:
            if before:
                _point(store, PREVIOUS, before)
            _point(store, CURRENT, name)
        _tidy(store)
        return Swap(name, source.digest, _target(store, PREVIOUS), before != name, worst)


def rollback(store: Path, *, read: Read = read_bundle, prove: Prove | None = None) -> Swap:
    """Make the previous bundle the current one, and vice versa.

    Parameters
    ----------
    store : Path
        Folder of the store.
    read, prove : callable
        As for ``install``.

    Returns
    -------
    Swap

    Raises
    ------
    EdgepruneError
        There is no previous bundle, or it is rejected; the current bundle stays.

    """
    if not (store / CURRENT).is_symlink():
        raise EdgepruneError(f"{store} is not a bundle store.", "edgeprune install creates one.")
    with _locked(store):
        current, previous = _target(store, CURRENT), _target(store, PREVIOUS)
        if not previous or previous == current:
            raise EdgepruneError(f"There is no bundle before {current} in {store}.")
        digest = read(store / previous).digest
        worst = (prove or self_test_in_child)(store / previous, digest)
        _point(store, CURRENT, previous)
        _point(store, PREVIOUS, current)
        return Swap(previous, digest, current, True, worst)


def resolve(path: Path) -> Path:
    """Return the bundle that a path leads to: a bundle, the link ``current``, or a store.

    Read the bundle from the returned path, not through the link: a swap in between would mix two.

    Raises
    ------
    EdgepruneError
        The link points to a folder that does not exist.

    """
    link = _link(path)
    if link is None:
        return path
    found = link.parent / os.readlink(link)
    if not found.exists():
        raise EdgepruneError(
            f"{link} points to {found}, which does not exist.", "Install it again."
        )
    return found


class Installed:
    """Detects that another bundle was installed; each check costs one system call.

    Parameters
    ----------
    path : Path
        Argument of ``listen``; if it is not a link, nothing ever changes.

    Raises
    ------
    EdgepruneError
        As ``resolve``.

    """

    def __init__(self, path: Path) -> None:
        self.folder = resolve(path)
        """The bundle to load."""
        self._link = _link(path)
        self._seen = os.readlink(self._link) if self._link else ""

    def changed(self) -> Path | None:
        """Return the bundle that was installed since the last call; None if there was none.

        The caller loads it, and continues with the present bundle if that fails.
        """
        if self._link is None:
            return None
        with suppress(OSError):
            target = os.readlink(self._link)
            if target != self._seen:
                self._seen = target
                self.folder = self._link.parent / target
                return self.folder
        return None


def _take_in(bundle: Path, source: Bundle, target: Path, read: Read, prove: Prove) -> float:
    """Copy a bundle into the store, test it, and give it its name."""
    new = target.with_name(f"{NEW}{target.name}")
    try:
        for name, data in _contents(bundle, source):
            file = new / name
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as opened:
                opened.write(data)
                opened.flush()
                os.fsync(opened.fileno())
        for folder in {file.parent for file in new.rglob("*")} | {new}:
            sync_folder(folder)
        if read(new).digest != source.digest:
            raise EdgepruneError(f"The bundle {bundle} changed while it was copied.")
        worst = prove(new, source.digest)
        if target.exists():  # damaged
            shutil.rmtree(target)
        new.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        raise EdgepruneError(
            f"{source.name} could not be installed in {target.parent}: {error.strerror or error}.",
            "Is the disk full?", FAILED_CHECK,
        ) from error  # fmt: skip
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return worst


def _contents(bundle: Path, source: Bundle) -> Iterator[tuple[str, bytes]]:
    """Yield the current files of a bundle that was read and checked a moment ago."""
    sizes = {name: int(entry["bytes"]) for name, entry in source.manifest["files"].items()}
    if bundle.is_dir():
        for name in (MANIFEST, *sizes, *(b for b in BESIDE if (bundle / b).is_file())):
            yield name, (bundle / name).read_bytes()
        return
    with zipfile.ZipFile(bundle) as packed:
        held = set(packed.namelist())
        for name in (MANIFEST, *sizes, *(b for b in BESIDE if b in held)):
            with packed.open(name) as opened:
                yield name, opened.read(sizes.get(name, 4 << 20) + 1)


def _is_whole(folder: Path, digest: str, read: Read) -> bool:
    try:
        return folder.is_dir() and read(folder).digest == digest
    except EdgepruneError:
        return False


def _link(path: Path) -> Path | None:
    """Return the link that a path is, or that of a store; None if there is none."""
    if path.is_symlink():
        return path
    inside = path / CURRENT
    return inside if inside.is_symlink() and not (path / MANIFEST).exists() else None


def _target(store: Path, link: str) -> str:
    """Return the target of a link in the store; empty if there is no link or no target."""
    try:
        name = os.readlink(store / link)
    except OSError:
        return ""
    return name if (store / name).is_dir() else ""


def _point(store: Path, link: str, name: str) -> None:
    """Point a link to another bundle by an atomic rename."""
    new = store / f"{NEW}{link}"
    new.unlink(missing_ok=True)
    new.symlink_to(name)
    new.replace(store / link)
    sync_folder(store)


def _tidy(store: Path) -> None:
    """Remove older bundles and the remains of interrupted installations."""
    current = _target(store, CURRENT)
    kept = {current, _target(store, PREVIOUS)}
    for entry in list(store.iterdir()):
        if entry.name.startswith(NEW) and entry.is_symlink():
            entry.unlink()
        elif entry.name.startswith(NEW) or (
            current and NAMED.fullmatch(entry.name) and entry.name not in kept
        ):
            shutil.rmtree(entry, ignore_errors=True)


@contextmanager
def _locked(store: Path) -> Iterator[None]:
    """Lock the store against other commands; the folder must be a store or empty."""
    try:
        store.mkdir(parents=True, exist_ok=True)
        foreign = [
            entry.name for entry in store.iterdir()
            if entry.name not in (CURRENT, PREVIOUS, LOCK)
            and not entry.name.startswith(NEW) and not NAMED.fullmatch(entry.name)
        ]  # fmt: skip
        if foreign and not (store / CURRENT).is_symlink():
            raise EdgepruneError(
                f"{store} contains {foreign[0]} and is not a bundle store.", "Name another folder."
            )
        with (store / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
    except BlockingIOError:
        raise EdgepruneError(f"Another edgeprune process is using {store}.") from None
    except OSError as error:
        raise EdgepruneError(
            f"The store {store} cannot be written: {error.strerror or error}.",
            "Does it belong to another user?",
        ) from error
