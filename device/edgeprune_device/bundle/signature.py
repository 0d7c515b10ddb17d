"""Sign a bundle, and check who signed it: Ed25519 (RFC 8032) over the bytes of ``bundle.json``.

``bundle.json`` holds the SHA-256 of every other file, so that a signature of it is one of the whole
bundle. It stands beside it as ``bundle.json.sig``, one line:

    edgeprune-ed25519 1 KEY SIGNATURE

KEY is the first half of the SHA-256 of the public key, in hex, and says which key to try;
SIGNATURE is in base64. What is signed is a sentence of our own followed by the manifest, so that no
other program's signature counts here, nor ours there. Without trusted keys a signature is not
looked into.
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
ASK = "Ask its maker for a signature by a key you trust, or copy it again."


def check_signature(path: Path, raw: bytes, signature: bytes | None, security: Security) -> str:
    """Check a manifest's signature against the trusted keys.

    Parameters
    ----------
    path : Path
        The bundle's, for the sentences.
    raw : bytes
        ``bundle.json``.
    signature : bytes or None
        ``bundle.json.sig``, if there is one.
    security : Security
        Files of trusted public keys, and whether one of them must have signed.

    Returns
    -------
    str
        Identity of the key that signed; empty where none is trusted, or there is no signature and
        none is needed.

    Raises
    ------
    EdgepruneError
        A signature is needed and missing, or is false, or is by no trusted key; a key file cannot
        be read; cryptography is not installed (status 3).

    """
    if not security.trusted_keys:
        if security.require_signature:
            raise EdgepruneError(
                "A signature is required and no key is trusted.", "Name one with --trusted-key."
            )
        return ""
    trusted = {identity_of(key): key for key in map(read_public, security.trusted_keys)}
    if signature is None:
        if security.require_signature:
            raise EdgepruneError(f"The bundle {path} is not signed.", ASK)
        return ""
    found = LINE.fullmatch(signature)
    if not found:
        raise EdgepruneError(f"The signature of bundle {path} is no signature of edgeprune.", ASK)
    identity = found[1].decode()
    if identity not in trusted:
        raise EdgepruneError(f"The bundle {path} is signed by {identity}, no trusted key.", ASK)
    from cryptography.exceptions import InvalidSignature

    signed = base64.b64decode(found[2])
    try:
        if base64.b64encode(signed) != found[2]:  # the last digit has bits that count for nothing
            raise InvalidSignature
        trusted[identity].verify(signed, CONTEXT + raw)
    except InvalidSignature:
        raise EdgepruneError(
            f"The signature of bundle {path} is false: {identity} did not sign this.", ASK
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
    """Make a pair of keys; a file that is there is never replaced.

    Returns
    -------
    private, public : Path
        PEM files (PKCS #8, without a password, readable by their owner alone; and X.509's
        SubjectPublicKeyInfo).
    identity : str

    Raises
    ------
    EdgepruneError
        There are keys already; cryptography is not installed (status 3).

    """
    serialization, ed25519 = _cryptography()
    private, public = folder / PRIVATE, folder / PUBLIC
    for path in (private, public):
        if path.exists() or path.is_symlink():
            raise EdgepruneError(f"{path} exists.", "Keys are never replaced: name another folder.")
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
    """Read an Ed25519 public key of a PEM file; raises EdgepruneError."""
    serialization, ed25519 = _cryptography()
    return _key(path, serialization.load_pem_public_key, ed25519.Ed25519PublicKey, "public")


def read_private(path: str | Path) -> Any:
    """Read an Ed25519 private key, without a password, of a PEM file; raises EdgepruneError."""
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
            f"{path} holds no {word} Ed25519 key without a password.",
            "edgeprune keys makes a pair.",
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
