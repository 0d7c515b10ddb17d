"""Writing a bundle: whole or not at all, an earlier one replaced, anything else left alone."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from bundle_edits import contents, pair
from tiny_bundle import make_bundle

from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.bundle.writer import golden_files, with_alternative, write_bundle
from edgeprune_device.errors import EdgepruneError


def test_writing_replaces_a_bundle_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    read = read_bundle(folder)
    manifest = {k: v for k, v in read.manifest.items() if k != "files"} | {"name": "new"}
    files = {name: (folder / name).read_bytes() for name in read.manifest["files"]}
    write_bundle(folder, manifest, files)
    assert read_bundle(folder).name == "new"
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"precious")
    with pytest.raises(EdgepruneError, match="exists and is not a bundle"):
        write_bundle(tmp_path / "photos", manifest, files)
    assert (tmp_path / "photos" / "cat.jpg").exists()


def test_a_bundle_that_would_be_refused_is_not_written(folder: Path, tmp_path: Path) -> None:
    read = read_bundle(folder)
    manifest = {k: v for k, v in read.manifest.items() if k != "files"} | {"labels": ["one"]}
    files = {name: (folder / name).read_bytes() for name in read.manifest["files"]}
    with pytest.raises(EdgepruneError, match="it has 1 labels"):
        write_bundle(tmp_path / "bad", manifest, files)
    assert not list(tmp_path.glob("bad*"))


def test_nothing_is_left_where_writing_fails(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = read_bundle(folder)
    manifest = {k: v for k, v in read.manifest.items() if k != "files"}
    files = {name: (folder / name).read_bytes() for name in read.manifest["files"]}
    with pytest.raises(EdgepruneError, match="evil' is not allowed"):
        write_bundle(tmp_path / "bad", manifest, {**files, "../evil": b"x"})
    with pytest.raises(TypeError):
        write_bundle(tmp_path / "bad", {**manifest, "extra": np.float32(1)}, files)

    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        write_bundle(tmp_path / "bad", manifest, files)
    assert not list(tmp_path.glob("*evil*"))
    assert not list(tmp_path.glob("bad*"))
    assert read_bundle(folder).name == read.name


def test_golden_files_are_numbered_and_hold_what_they_were_given() -> None:
    inputs = [np.arange(3, dtype=np.float32), np.ones(3, np.float32)]
    outputs = [np.array([0.25, 0.75], np.float32), np.array([1, 0], np.float32)]
    files, entries = golden_files(inputs, outputs, 1e-3)
    assert entries[1] == {"input": "golden/1.input.npy", "output": "golden/1.output.npy",
                          "tolerance": 1e-3}  # fmt: skip
    for entry, samples, scores in zip(entries, inputs, outputs, strict=True):
        np.testing.assert_array_equal(np.load(io.BytesIO(files[entry["input"]])), samples)
        np.testing.assert_array_equal(np.load(io.BytesIO(files[entry["output"]])), scores)
    with pytest.raises(ValueError, match="zip"):
        golden_files(inputs, outputs[:1], 1e-3)


def renamed(folder: Path, name: str) -> Path:
    """Give a bundle's model another file name."""
    manifest, files = contents(folder)
    files[name] = files.pop("model.onnx")
    manifest["model"]["file"] = name
    write_bundle(folder, manifest, files)
    return folder


def test_two_bundles_of_one_model_become_one_with_an_alternative(
    folder: Path, tmp_path: Path
) -> None:
    other = read_bundle(renamed(make_bundle(tmp_path / "other", seed=2), "second.onnx"))
    both = read_bundle(pair(tmp_path / "both", folder, other))
    assert both.alternative is not None
    assert (both.file, both.alternative.file) == ("model.onnx", "second.onnx")
    assert both.alternative.model_bytes == other.model_bytes
    assert both.manifest["decision"] == read_bundle(folder).manifest["decision"]
    for mine, theirs in zip(both.alternative.golden, other.golden, strict=True):
        np.testing.assert_array_equal(mine.samples, theirs.samples)
        np.testing.assert_array_equal(mine.scores, theirs.scores)
    inputs = [entry["input"] for entry in both.manifest["alternative_golden"]]
    assert inputs == [entry["input"] for entry in both.manifest["golden"]]  # stored once


def test_two_models_of_one_file_name_are_no_pair(folder: Path) -> None:
    manifest, files = contents(folder)
    with pytest.raises(
        EdgepruneError, match=r"Both models of bundle tiny have the file name model\.onnx"
    ):
        with_alternative(manifest, files, read_bundle(folder))


def test_what_an_earlier_interruption_left_is_no_hindrance(folder: Path) -> None:
    manifest, files = contents(folder)
    for ending in (".partial", ".old"):
        folder.with_name(folder.name + ending).mkdir()
        (folder.with_name(folder.name + ending) / "half").write_bytes(b"x")
    write_bundle(folder, manifest, files)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
