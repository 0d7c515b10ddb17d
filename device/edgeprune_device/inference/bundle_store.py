"""Bundles on a recorder: installed side by side, swapped at once, taken back by a command.

    STORE/birds-1a2b3c4d5e6f/        a bundle, whole, by its name and digest
    STORE/current  -> birds-...      what runs: edgeprune listen STORE/current
    STORE/previous -> birds-...      what edgeprune rollback STORE goes back to

1. The bundle is read and checked, copied beside the others, brought to the disk, read again.
2. A child process opens its model and compares the golden outputs: what crashes, crashes there.
3. Only then is it named, and ``current`` replaced by a rename, which is all or nothing.

Interrupted at any instant, ``current`` leads to a whole bundle: the old one or the new one. A
listener asks ``Installed.changed`` between windows, and loads what is new when it likes.
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
from edgeprune_device.inference.self_test import prove_in_child
from edgeprune_device.system.files import slug, sync_folder

CURRENT, PREVIOUS, NEW, LOCK = "current", "previous", ".new-", ".lock"
NAMED = re.compile(r"[a-z0-9-]+-[0-9a-f]{12}")
BESIDE = ("bundle.json.sig",)
"""What a bundle may hold beside the files its manifest lists."""
DIGITS = 12
Read = Callable[[Path], Bundle]
Prove = Callable[[Path, str], float]


@dataclass(frozen=True)
class Swap:
    """What a command left behind."""

    name: str
    """Folder of the current bundle in the store."""
    digest: str
    previous: str
    """Folder of the one before; empty if there is none."""
    changed: bool
    """False if it was the current one already."""
    golden_difference: float
    """Largest difference of a golden score here."""


def install(
    bundle: Path, store: Path, *, read: Read = read_bundle, prove: Prove | None = None
) -> Swap:
    """Install a bundle and make it the current one.

    Parameters
    ----------
    bundle, store : Path
        A folder or a zip; the store is made if missing.
    read : callable
        Reads a bundle and checks all of it, its signature where one is required.
    prove : callable or None
        Opens a bundle of this digest, compares its golden outputs and returns the largest
        difference; by default in a child process.

    Raises
    ------
    EdgepruneError
        The bundle is refused, answers differently here, or cannot be written; the current one
        stays.

    """
    source = read(bundle)
    name = f"{slug(source.name)}-{source.digest[:DIGITS]}"
    prove = prove or prove_in_child
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
    """Make the previous bundle the current one, and the other way round.

    Raises
    ------
    EdgepruneError
        There is none, or it is refused; the current one stays.

    """
    if not (store / CURRENT).is_symlink():
        raise EdgepruneError(f"{store} is no store of bundles.", "edgeprune install makes one.")
    with _locked(store):
        current, previous = _target(store, CURRENT), _target(store, PREVIOUS)
        if not previous or previous == current:
            raise EdgepruneError(f"There is no bundle before {current} in {store}.")
        digest = read(store / previous).digest
        worst = (prove or prove_in_child)(store / previous, digest)
        _point(store, CURRENT, previous)
        _point(store, PREVIOUS, current)
        return Swap(previous, digest, current, True, worst)


def resolve(path: Path) -> Path:
    """Return the bundle that a path leads to: through ``current``, of a store as well.

    Read through what this returns, and not through the link: a swap in the middle would mix two.

    Raises
    ------
    EdgepruneError
        The link leads nowhere.

    """
    link = _link(path)
    if link is None:
        return path
    found = link.parent / os.readlink(link)
    if not found.exists():
        raise EdgepruneError(f"{link} leads to {found}, which is not there.", "Install it again.")
    return found


class Installed:
    """Tells a listener that another bundle was installed; costs one system call a question.

    Parameters
    ----------
    path : Path
        What ``listen`` was given; where it is no link, nothing ever changes.

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
        """Return the bundle that was installed since the last question, once; None if none was.

        The caller loads it, and goes on with what it has where that fails.
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
    """Copy a bundle into the store, prove it, and give it its name."""
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
    """Yield the files of a bundle that was read and checked a moment ago, as they are now."""
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
    """Return the link behind a path, or a store's; None where there is none."""
    if path.is_symlink():
        return path
    inside = path / CURRENT
    return inside if inside.is_symlink() and not (path / MANIFEST).exists() else None


def _target(store: Path, link: str) -> str:
    """Return what a link of the store leads to; empty if there is none or it leads nowhere."""
    try:
        name = os.readlink(store / link)
    except OSError:
        return ""
    return name if (store / name).is_dir() else ""


def _point(store: Path, link: str, name: str) -> None:
    """Let a link lead to another bundle: by a rename, which is all or nothing."""
    new = store / f"{NEW}{link}"
    new.unlink(missing_ok=True)
    new.symlink_to(name)
    new.replace(store / link)
    sync_folder(store)


def _tidy(store: Path) -> None:
    """Remove what neither link leads to: older bundles, and what was interrupted."""
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
    """Keep other commands out of the store, which must be one or empty."""
    try:
        store.mkdir(parents=True, exist_ok=True)
        foreign = [
            entry.name for entry in store.iterdir()
            if entry.name not in (CURRENT, PREVIOUS, LOCK)
            and not entry.name.startswith(NEW) and not NAMED.fullmatch(entry.name)
        ]  # fmt: skip
        if foreign and not (store / CURRENT).is_symlink():
            raise EdgepruneError(
                f"{store} holds {foreign[0]} and is no store of bundles.", "Name another folder."
            )
        with (store / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
    except BlockingIOError:
        raise EdgepruneError(f"Another edgeprune is at work in {store}.") from None
    except OSError as error:
        raise EdgepruneError(
            f"The store {store} cannot be written: {error.strerror or error}.",
            "Is it another user's?",
        ) from error
