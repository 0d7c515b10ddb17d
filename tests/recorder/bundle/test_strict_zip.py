"""Damaged and hostile zips: refused in a sentence, and nothing is written anywhere."""

from __future__ import annotations

import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from bundle_edits import zipped

from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.errors import EdgepruneError


@pytest.mark.parametrize("seed", range(40))
def test_a_zip_with_damaged_bytes_is_refused_in_a_sentence(
    seed: int, tiny_bundle: Path, tmp_path: Path
) -> None:
    """Damage inside the packed model: deflate, checksum and hash each see some of it."""
    path = zipped(tiny_bundle, tmp_path / "b.zip")
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("model.onnx")
    data, generator = bytearray(path.read_bytes()), np.random.default_rng(seed)
    start = info.header_offset + 30 + len(info.filename)
    place = start + int(generator.integers(0, info.compress_size - 4))
    data[place : place + 4] = bytes(byte ^ 0xFF for byte in data[place : place + 4])
    path.write_bytes(bytes(data))
    with pytest.raises(EdgepruneError, match=r"model\.onnx"):
        read_bundle(path)


def test_a_zip_is_stored_or_deflated(tiny_bundle: Path, tmp_path: Path) -> None:
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(tmp_path / "b.zip", "w", method) as archive:
            archive.write(tiny_bundle / "bundle.json", "bundle.json")
        with pytest.raises(EdgepruneError, match="neither stored nor deflated"):
            read_bundle(tmp_path / "b.zip")


@pytest.mark.parametrize("name", ["../evil.py", "/evil.py", "a/../../evil.py", "C:evil.py"])
def test_a_zip_with_a_name_that_leaves_the_bundle_is_refused(
    name: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    path = zipped(tiny_bundle, tmp_path / "b.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"evil")
    with pytest.raises(EdgepruneError, match="does not list"):
        read_bundle(path)
    assert not list(tmp_path.rglob("evil.py"))


def test_a_zip_that_names_a_file_twice_or_is_none_is_refused(folder: Path, tmp_path: Path) -> None:
    path = zipped(folder, tmp_path / "b.zip")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("model.onnx", b"evil")
    with pytest.raises(EdgepruneError, match=r"the zip contains 'model\.onnx' twice"):
        read_bundle(path)
    path.write_bytes(b"no zip")
    with pytest.raises(EdgepruneError, match="neither a folder nor a complete zip"):
        read_bundle(path)


def test_no_more_bytes_are_unpacked_than_the_manifest_names(folder: Path, tmp_path: Path) -> None:
    (folder / "model.onnx").write_bytes(bytes(50_000_000))  # deflates to next to nothing
    path = zipped(folder, tmp_path / "bomb.zip")
    tracemalloc.start()
    try:
        with pytest.raises(EdgepruneError, match=r"claimed size of model\.onnx is over 200 times"):
            read_bundle(path)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
