"""The bundle: what is read is what was written, and anything else is refused before a parser."""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from bundle_edits import edit, replace_file, zipped
from tiny_recordings import TONES

from edgeprune_device.bundle.manifest import SCHEMA_VERSION
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.errors import EdgepruneError


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def flip(folder: Path) -> None:
    data = bytearray((folder / "model.onnx").read_bytes())
    data[100] ^= 1
    (folder / "model.onnx").write_bytes(bytes(data))


def longer(folder: Path) -> None:
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes() + b"x")


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, np.zeros(1600, np.float32))
    return buffer.getvalue()


def header(shape: str) -> bytes:
    """Start an array file that claims a shape and holds nothing."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


SPOILED: list[tuple[str, Callable[[Path], object], str]] = [
    ("a flipped bit", flip, "SHA-256 differs"),
    ("a longer file", longer, "SHA-256 differs"),
    ("a missing file", lambda f: (f / "golden/0.input.npy").unlink(), "it has no file golden/0"),
    ("a file too many", lambda f: (f / "run.py").write_text("evil"), "'run.py', which bundle.json does"),
    ("no manifest", lambda f: (f / "bundle.json").unlink(), "it has no file bundle.json"),
    ("no JSON", lambda f: (f / "bundle.json").write_text("hello"), "is not a bundle's manifest"),
    ("deep JSON", lambda f: (f / "bundle.json").write_text("[" * 10**5), "is not a bundle's manifest"),
    ("a path upwards", lambda f: edit(f, lambda m: m["files"].update({"../x": {}})), "'../x' is not allowed"),
    ("a label too many", lambda f: edit(f, lambda m: m["labels"].append("owl")), "it has 4 labels"),
    ("labels twice", lambda f: edit(f, lambda m: m.update(labels=["low"] * 3)), "distinct names"),
    ("no threshold", lambda f: edit(f, lambda m: m["decision"]["thresholds"].pop("low")), "do not cover"),
    ("another window", lambda f: edit(f, lambda m: m["audio"].update(window_seconds=2)),
     "its window of 2 s does not match"),
    ("no rate", lambda f: edit(f, lambda m: m["audio"].pop("sample_rate")),
     "is missing or has the wrong type"),
    ("another format", lambda f: edit(f, lambda m: m["model"].update(format="pickle")), "format 'pickle'"),
    ("no golden outputs", lambda f: edit(f, lambda m: m.update(golden=[])),
     "has no reference inputs (golden)"),
    ("no tolerance", lambda f: edit(f, lambda m: m["golden"][0].pop("tolerance")),
     "is missing or has the wrong type"),
    ("a tolerance of everything",
     lambda f: edit(f, lambda m: m["golden"][0].update(tolerance=float("inf"))), "golden tolerance"),
    ("a size in words",
     lambda f: edit(f, lambda m: m["files"]["model.onnx"].update(bytes="9")), "no valid SHA-256 or size"),
    ("an endless rate",
     lambda f: edit(f, lambda m: m["audio"].update(sample_rate=float("inf"))),
     "is missing or has the wrong type"),
    ("a window that is no number",
     lambda f: edit(f, lambda m: m["audio"].update(window_seconds=float("nan"))),
     "its window of nan s does not match"),
    ("labels in one word", lambda f: edit(f, lambda m: m.update(labels="abc")), "distinct names"),
    ("no smoothing",
     lambda f: edit(f, lambda m: m["decision"].update(smoothing_windows=0)), "decision rule"),
    ("a temperature of nothing",
     lambda f: edit(f, lambda m: m["decision"].update(temperature=0)), "its temperature 0"),
    ("a temperature that is no number",
     lambda f: edit(f, lambda m: m["decision"].update(temperature=float("nan"))), "temperature nan"),
    ("no requirements", lambda f: edit(f, lambda m: m.update(requirements=None)), "requirements"),
    ("a zip for a golden file", lambda f: replace_file(f, "golden/0.input.npy", npz()), "is not an array"),
    ("a golden file of a petabyte",
     lambda f: replace_file(f, "golden/0.input.npy", header("(1000000000000000,)")),
     "is not an array"),
    ("a golden file whose header never ends",
     lambda f: replace_file(f, "golden/0.input.npy", header("((((")), "is not an array"),
    ("a listed file no one uses", lambda f: replace_file(f, "extra.bin", b"x"), "listed but not used"),
    ("a pickled golden file",
     lambda f: replace_file(f, "golden/0.input.npy", npy(np.array([{}], dtype=object))), "is not an array"),
    ("a golden file of nothing",
     lambda f: replace_file(f, "golden/0.output.npy", npy(np.full(3, np.nan, np.float32))), "not finite"),
    ("a golden file of another shape",
     lambda f: replace_file(f, "golden/0.output.npy", npy(np.ones(5, np.float32))),
     "does not have the shape of the model"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "words"), [s[1:] for s in SPOILED], ids=[s[0] for s in SPOILED])
@pytest.mark.parametrize("form", ["folder", "zip"])
def test_a_spoiled_bundle_is_refused_and_its_model_never_parsed(
    spoil: Callable[[Path], object], words: str, form: str, folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def parse(*_: object, **__: object) -> None:
        raise AssertionError("a parser saw it")

    monkeypatch.setattr(onnxruntime, "InferenceSession", parse)
    spoil(folder)
    if form == "zip":
        folder = zipped(folder, tmp_path / "b.zip")
    with pytest.raises(EdgepruneError) as error:
        read_bundle(folder)
    assert words in str(error.value)
    assert error.value.status == 2


def test_a_zip_is_the_same_bundle_as_its_folder(folder: Path, tmp_path: Path) -> None:
    one, other = read_bundle(folder), read_bundle(zipped(folder, tmp_path / "b.zip"))
    assert (one.digest, one.model_bytes) == (other.digest, other.model_bytes)
    assert one.digest == hashlib.sha256((folder / "bundle.json").read_bytes()).hexdigest()
    assert one.labels == tuple(TONES)
    assert (one.sample_rate, one.window_samples, one.hop_samples) == (16000, 1600, 800)


def test_there_is_no_bundle_is_said_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(EdgepruneError, match="There is no bundle at"):
        read_bundle(tmp_path / "nothing")
    assert SCHEMA_VERSION == 2


def test_the_bundle_in_the_folder_of_a_run_is_named(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "run" / "bundle")
    with pytest.raises(EdgepruneError, match="run is not a bundle, but contains one") as error:
        read_bundle(tmp_path / "run")
    assert error.value.hint == f"Use {tmp_path / 'run' / 'bundle'}"


def test_a_bundle_without_a_temperature_has_the_one_that_changes_nothing(folder: Path) -> None:
    assert read_bundle(folder).temperature == 1.0
    edit(folder, lambda m: m["decision"].update(temperature=1.7))
    assert read_bundle(folder).temperature == 1.7
