"""Packs a bundle into one sealed zip and signs bundles; files are written atomically."""

from __future__ import annotations

from pathlib import Path

from edgeprune_device.bundle.files import MOST_TOTAL_BYTES, opened
from edgeprune_device.bundle.manifest import MANIFEST, SIGNATURE
from edgeprune_device.bundle.reader import MOST_MANIFEST_BYTES, read_bundle
from edgeprune_device.bundle.signature import read_private, signature_of
from edgeprune_device.bundle.strict_zip import pack
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.system.files import written_whole


def pack_bundle(bundle: Path, out: Path) -> tuple[int, str]:
    """Write a bundle (folder or zip) as one sealed zip, including its signature.

    Parameters
    ----------
    bundle : Path
        Folder or zip of the bundle.
    out : Path
        Zip to write; an existing file is replaced.

    Returns
    -------
    size : int
        Size of the zip in bytes.
    digest : str
        Digest of the bundle.

    Raises
    ------
    EdgepruneError
        The bundle cannot be trusted, or ``out`` exists and is not a file.

    """
    if out.exists() and not out.is_file():
        raise EdgepruneError(f"{out} exists and is not a file.", "Name a .zip file.")
    data = pack(_files_of(bundle))
    _replace(out, data)
    return len(data), read_bundle(out).digest


def sign_bundle(bundle: Path, key: Path) -> str:
    """Sign a bundle after reading it completely; a zip is rewritten, sealed.

    Parameters
    ----------
    bundle : Path
        Folder or zip of the bundle.
    key : Path
        PEM file of the private key.

    Returns
    -------
    str
        Identity of the key, 32 hex digits.

    Raises
    ------
    EdgepruneError
        The bundle cannot be trusted, the key cannot be read, cryptography is not installed.

    """
    private = read_private(key)
    files = _files_of(bundle)
    signature = signature_of(files[MANIFEST], private)
    if bundle.is_file():
        _replace(bundle, pack({**files, SIGNATURE: signature}))
    else:
        _replace(bundle / SIGNATURE, signature, bundle.with_name(bundle.name + ".sig.partial"))
    return signature.split()[2].decode()


def _files_of(bundle: Path) -> dict[str, bytes]:
    """Return all files of a bundle by name, after it was checked."""
    read = read_bundle(bundle)
    with opened(bundle) as held:
        names = [name for name in held.names() if name not in read.manifest["files"]]
        files = {name: held.read(name, MOST_MANIFEST_BYTES) for name in names}
        for name in read.manifest["files"]:
            files[name] = held.read(name, MOST_TOTAL_BYTES)
    return files


def _replace(path: Path, data: bytes, partial: Path | None = None) -> None:
    """Write a file under a temporary name and rename it."""
    try:
        with written_whole(path, partial, sync=True) as place:
            place.write_bytes(data)
    except OSError as error:
        raise EdgepruneError(f"{path} cannot be written: {error.strerror}.") from None
