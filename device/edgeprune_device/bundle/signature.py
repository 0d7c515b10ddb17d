"""Signs a bundle and checks its signature: Ed25519 (RFC 8032) over the bytes of ``bundle.json``.

``bundle.json`` holds the SHA-256 of every other file, so that its signature covers the complete
bundle. The signature is in ``bundle.json.sig`` beside it, one line:

    edgeprune-ed25519 1 KEY SIGNATURE

KEY is the first half of the SHA-256 of the public key, in hex, and identifies the key; SIGNATURE is
in base64. The signed message is a fixed context string followed by the manifest, so that signatures
of other programs are not valid here, nor edgeprune's there. Without trusted keys a signature is not
checked.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from pathlib import Path
from typing import Any

from edgeprune_device.errors import NOT_INSTALLED, EdgepruneError
from edgeprune_device.settings import Security

CONTEXT = b"edgeprune bundle manifest, signature version 1\x00"
LINE = re.compile(rb"edgeprune-ed25519 1 ([0-9a-f]{32}) ([A-Za-z0-9+/]{86}==)\n")
MOST_SIGNATURE_BYTES = 256
MOST_KEY_BYTES = 64 << 10
PRIVATE, PUBLIC = "edgeprune.key", "edgeprune.pub"
ASK = "Ask its author to sign it with a key you trust, or copy it again."


def check_signature(path: Path, raw: bytes, signature: bytes | None, security: Security) -> str:
    """Check a manifest's signature against the trusted keys.

    Parameters
    ----------
    path : Path
        Path of the bundle, for error messages.
    raw : bytes
        Content of ``bundle.json``.
    signature : bytes or None
        Content of ``bundle.json.sig``, if there is one.
    security : Security
        Files of trusted public keys, and whether a signature by one of them is required.

    Returns
    -------
    str
        Identity of the key that signed; empty if no key is trusted, or if there is no signature and
        none is required.

    Raises
    ------
    EdgepruneError
        A signature is required and missing, or is invalid, or is not by a trusted key; a key file
        cannot be read; cryptography is not installed (status 3).

    """
    if not security.trusted_keys:
        if security.require_signature:
            raise EdgepruneError(
                "A signature is required, but no key is trusted.", "Name one with --trusted-key."
            )
        return ""
    trusted = {identity_of(key): key for key in map(read_public, security.trusted_keys)}
    if signature is None:
        if security.require_signature:
            raise EdgepruneError(f"The bundle {path} is not signed.", ASK)
        return ""
    found = LINE.fullmatch(signature)
    if not found:
        raise EdgepruneError(f"The signature of bundle {path} is not an edgeprune signature.", ASK)
    identity = found[1].decode()
    if identity not in trusted:
        raise EdgepruneError(
            f"The bundle {path} is signed by {identity}, which is not a trusted key.", ASK
        )
    from cryptography.exceptions import InvalidSignature

    signed = base64.b64decode(found[2])
    try:
        if base64.b64encode(signed) != found[2]:  # the last digit has unused bits
            raise InvalidSignature
        trusted[identity].verify(signed, CONTEXT + raw)
    except InvalidSignature:
        raise EdgepruneError(
            f"The signature of bundle {path} is invalid: {identity} did not sign this content.", ASK
        ) from None
    return identity


def signature_of(raw: bytes, private: Any) -> bytes:
    """Return the content of ``bundle.json.sig`` for the bytes of ``bundle.json``."""
    signed = base64.b64encode(private.sign(CONTEXT + raw)).decode()
    return f"edgeprune-ed25519 1 {identity_of(private.public_key())} {signed}\n".encode()


def identity_of(public: Any) -> str:
    """Return a public key's identity: 32 hex digits."""
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:32]


def make_keys(folder: Path) -> tuple[Path, Path, str]:
    """Create a key pair; an existing file is never replaced.

    Parameters
    ----------
    folder : Path
        Folder for the two files; created if necessary.

    Returns
    -------
    private, public : Path
        PEM files (PKCS #8, without a password, readable by their owner alone; and X.509
        SubjectPublicKeyInfo).
    identity : str
        Identity of the key, 32 hex digits.

    Raises
    ------
    EdgepruneError
        A key file exists already; cryptography is not installed (status 3).

    """
    serialization, ed25519 = _cryptography()
    private, public = folder / PRIVATE, folder / PUBLIC
    for path in (private, public):
        if path.exists() or path.is_symlink():
            raise EdgepruneError(
                f"{path} exists already.", "Keys are never replaced: name another folder."
            )
    key = ed25519.Ed25519PrivateKey.generate()
    pem = serialization.Encoding.PEM
    texts = (
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo),
    )
    folder.mkdir(parents=True, exist_ok=True)
    for path, mode, text in zip((private, public), (0o600, 0o644), texts, strict=True):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(handle, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(handle)
    return private, public, identity_of(key.public_key())


def read_public(path: str | Path) -> Any:
    """Read an Ed25519 public key from a PEM file; raises EdgepruneError."""
    serialization, ed25519 = _cryptography()
    return _key(path, serialization.load_pem_public_key, ed25519.Ed25519PublicKey, "public")


def read_private(path: str | Path) -> Any:
    """Read an Ed25519 private key without password from a PEM file; raises EdgepruneError."""
    serialization, ed25519 = _cryptography()

    def load(data: bytes) -> Any:
        return serialization.load_pem_private_key(data, None)

    return _key(path, load, ed25519.Ed25519PrivateKey, "private")


def _key(path: str | Path, load: Any, kind: Any, word: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        with Path(path).open("rb") as file:
            data = file.read(MOST_KEY_BYTES)
        key = load(data)
    except OSError as error:
        raise EdgepruneError(f"The key {path} cannot be read: {error.strerror}.") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it has a password
        key = None
    if not isinstance(key, kind):
        raise EdgepruneError(
            f"{path} is not a {word} Ed25519 key without a password.",
            "edgeprune keys creates a key pair.",
        )
    return key


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise EdgepruneError(
            "Signatures need cryptography, which is not installed.",
            "pip install 'edgeprune[sign]'", NOT_INSTALLED,
        ) from None  # fmt: skip
    return serialization, ed25519
