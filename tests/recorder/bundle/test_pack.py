"""Packing: a bundle as one sealed zip, and a signature put into it, whole or not at all."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from bundle_edits import trusted
from typer.testing import CliRunner

from edgeprune.cli.app import app
from edgeprune_device.bundle.pack import pack_bundle, sign_bundle
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.errors import EdgepruneError


def test_a_zip_is_signed_in_place_and_stays_one_sealed_zip(
    folder: Path, tmp_path: Path, keys: tuple[Path, Path, str]
) -> None:
    private, public, identity = keys
    pack_bundle(folder, tmp_path / "b.zip")
    sign_bundle(tmp_path / "b.zip", private)
    assert read_bundle(tmp_path / "b.zip", trusted(public)).signed_by == identity
    assert b"edgeprune sha256 " in (tmp_path / "b.zip").read_bytes()[-81:]
    assert sorted(p.name for p in tmp_path.glob("b.zip*")) == ["b.zip"]


def test_a_bundle_that_is_not_whole_is_not_signed(
    folder: Path, keys: tuple[Path, Path, str]
) -> None:
    (folder / "model.onnx").write_bytes(b"evil")
    with pytest.raises(EdgepruneError, match="SHA-256 differs"):
        sign_bundle(folder, keys[0])
    assert not (folder / "bundle.json.sig").exists()


def test_the_commands_make_keys_sign_and_pack(folder: Path, tmp_path: Path) -> None:
    def done(*arguments: str) -> dict[str, object]:
        result = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        read: dict[str, object] = json.loads(result.stdout)
        return read

    made = done("keys", "-o", str(tmp_path / "k"))
    signed = done("sign", str(folder), "--key", str(made["private"]))
    packed = done("pack", str(folder), "-o", str(tmp_path / "b.zip"))
    read = read_bundle(tmp_path / "b.zip", trusted(Path(str(made["public"]))))
    assert read.signed_by == made["identity"] == signed["identity"]
    assert read.digest == packed["digest"]


def test_a_packed_bundle_is_the_same_bundle_however_often_it_is_packed(
    folder: Path, tmp_path: Path
) -> None:
    size, digest = pack_bundle(folder, tmp_path / "a.zip")
    assert size == (tmp_path / "a.zip").stat().st_size
    assert digest == read_bundle(folder).digest == read_bundle(tmp_path / "a.zip").digest
    assert pack_bundle(tmp_path / "a.zip", tmp_path / "b.zip") == (size, digest)
    assert (tmp_path / "b.zip").read_bytes() == (tmp_path / "a.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:  # by another's reader
        assert archive.testzip() is None
        assert archive.read("model.onnx") == (folder / "model.onnx").read_bytes()


def test_a_bundle_that_is_not_whole_is_not_packed_and_the_last_zip_stays(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "b.zip").write_bytes(b"precious")
    (folder / "model.onnx").write_bytes(b"evil")
    with pytest.raises(EdgepruneError, match="SHA-256 differs"):
        pack_bundle(folder, tmp_path / "b.zip")
    assert (tmp_path / "b.zip").read_bytes() == b"precious"
    with pytest.raises(EdgepruneError, match="exists and is not a file"):
        pack_bundle(folder, tmp_path)


def test_a_place_that_cannot_be_written_is_one_sentence_and_nothing_is_left(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: tuple[Path, Path, str]
) -> None:
    def full(path: Path, data: bytes) -> int:
        assert not path.is_relative_to(folder)  # half a file in a bundle would spoil it
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(EdgepruneError, match=r"b\.zip cannot be written: No space left on device"):
        pack_bundle(folder, tmp_path / "b.zip")
    with pytest.raises(EdgepruneError, match=r"bundle\.json\.sig cannot be written"):
        sign_bundle(folder, keys[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "keys"]
    assert read_bundle(folder).name == "tiny"
