"""Signatures: who made a bundle, and what happens where nobody says."""

from __future__ import annotations

import base64
import json
import stat
import sys
from pathlib import Path

import pytest
from bundle_edits import trusted
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)

from edgeprune_device.bundle.pack import pack_bundle, sign_bundle
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.bundle.signature import make_keys, read_private, read_public
from edgeprune_device.errors import NOT_INSTALLED, EdgepruneError


def test_a_signed_bundle_is_read_by_whom_trusts_its_maker(
    folder: Path, tmp_path: Path, keys: tuple[Path, Path, str]
) -> None:
    private, public, identity = keys
    before = read_bundle(folder)
    assert sign_bundle(folder, private) == identity
    for bundle in (folder, tmp_path / "b.zip"):
        if bundle.suffix:
            pack_bundle(folder, bundle)
        read = read_bundle(bundle, trusted(public))
        assert (read.digest, read.signed_by) == (before.digest, identity)
        assert read_bundle(bundle).signed_by == ""  # nobody asked


def test_the_signature_is_ed25519_over_a_sentence_and_the_manifest(
    folder: Path, keys: tuple[Path, Path, str]
) -> None:
    """Checked without our code: the library's key, the bytes as the docstring says."""
    private, public, identity = keys
    sign_bundle(folder, private)
    word, version, key, signed = (folder / "bundle.json.sig").read_text("ascii").split()
    assert (word, version, key) == ("edgeprune-ed25519", "1", identity)
    loaded = load_pem_public_key(public.read_bytes())
    assert isinstance(loaded, ed25519.Ed25519PublicKey)
    message = b"edgeprune bundle manifest, signature version 1\x00"
    loaded.verify(base64.b64decode(signed), message + (folder / "bundle.json").read_bytes())


def test_what_is_not_signed_by_a_trusted_key_is_refused(
    folder: Path, tmp_path: Path, keys: tuple[Path, Path, str]
) -> None:
    private, public, _ = keys
    _, other, _ = make_keys(tmp_path / "other")
    with pytest.raises(EdgepruneError, match="is not signed"):
        read_bundle(folder, trusted(public))
    assert read_bundle(folder, trusted(public, require=False)).signed_by == ""
    with pytest.raises(EdgepruneError, match="no key is trusted"):
        read_bundle(folder, trusted())
    sign_bundle(folder, private)
    for require in (True, False):
        with pytest.raises(EdgepruneError, match="which is not a trusted key"):
            read_bundle(folder, trusted(other, require=require))
    assert read_bundle(folder, trusted(other, public)).signed_by


def test_a_signature_of_another_bundle_or_another_purpose_is_invalid(
    folder: Path, tmp_path: Path, keys: tuple[Path, Path, str]
) -> None:
    private, public, identity = keys
    sign_bundle(folder, private)
    good = (folder / "bundle.json.sig").read_bytes()
    raw = (folder / "bundle.json").read_bytes()
    bare = base64.b64encode(read_private(private).sign(raw)).decode()  # without our sentence
    false = f"edgeprune-ed25519 1 {identity} {bare}\n".encode()
    other = "is not an edgeprune signature"
    for signature, words in (
        (false, "is invalid"), (b"", other), (good + b"\n", other),
        (good.replace(b" 1 ", b" 2 "), other), (good * 2, other),
        (bytes(10_000), other),
    ):  # fmt: skip
        (folder / "bundle.json.sig").write_bytes(signature)
        with pytest.raises(EdgepruneError, match=words):
            read_bundle(folder, trusted(public))
    (folder / "bundle.json.sig").write_bytes(good)
    manifest = json.loads(raw)
    manifest["name"] = "another"
    (folder / "bundle.json").write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(EdgepruneError, match="is invalid"):  # said before it is parsed
        read_bundle(folder, trusted(public, require=False))


def test_keys_are_private_and_never_replaced(keys: tuple[Path, Path, str], tmp_path: Path) -> None:
    private, public, _ = keys
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    before = (private.read_bytes(), public.read_bytes())
    with pytest.raises(EdgepruneError, match=r"edgeprune\.key exists"):
        make_keys(tmp_path / "keys")
    private.unlink()
    with pytest.raises(EdgepruneError, match=r"edgeprune\.pub exists"):
        make_keys(tmp_path / "keys")
    private.symlink_to(tmp_path / "nowhere")
    public.unlink()
    with pytest.raises(EdgepruneError, match=r"edgeprune\.key exists"):
        make_keys(tmp_path / "keys")
    assert before[0] != before[1]
    assert not (tmp_path / "nowhere").exists()


def test_a_file_that_is_no_such_key_is_named(tmp_path: Path, keys: tuple[Path, Path, str]) -> None:
    private, public, _ = keys
    other = rsa.generate_private_key(65537, 2048)
    (tmp_path / "rsa").write_bytes(
        other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    (tmp_path / "rsa.pub").write_bytes(
        other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    (tmp_path / "locked").write_bytes(
        ed25519.Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
        )
    )
    (tmp_path / "text").write_text("hello", "utf-8")
    for name in ("rsa", "locked", "text", public):
        with pytest.raises(EdgepruneError, match="is not a private Ed25519 key"):
            read_private(tmp_path / name)
    for name in ("rsa.pub", "text", private):
        with pytest.raises(EdgepruneError, match="is not a public Ed25519 key"):
            read_public(tmp_path / name)
    with pytest.raises(EdgepruneError, match="cannot be read"):
        read_public(tmp_path / "nothing")


def test_without_cryptography_signatures_are_refused_and_the_rest_works(
    folder: Path, keys: tuple[Path, Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public, _ = keys
    sign_bundle(folder, private)
    for name in [m for m in sys.modules if m.startswith("cryptography")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    assert read_bundle(folder).name
    with pytest.raises(EdgepruneError, match="cryptography, which is not installed") as error:
        read_bundle(folder, trusted(public))
    assert error.value.status == NOT_INSTALLED
    assert error.value.hint == "pip install 'edgeprune[sign]'"
