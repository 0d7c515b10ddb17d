"""What tests of several wings of the recorder share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from bundle_edits import pair
from memory_folders import memory_folder
from tiny_replacements import make_student_model
from tiny_windows import windows_for

from edgeprune.export.bundle_writer import describe, golden_inputs, write
from edgeprune.export.onnx import to_onnx
from edgeprune.export.tflite import to_tflite
from edgeprune_device.bundle.reader import read_bundle


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """Give pytest's folder a place in memory."""
    with memory_folder(tmp_path) as folder:
        yield folder


@pytest.fixture(scope="session")
def new_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Path]]:
    """Return a function that makes a folder: each example of a property has one of its own."""
    numbers = count()
    with memory_folder(tmp_path_factory.mktemp("examples")) as home:

        def make() -> Path:
            (folder := home / f"{next(numbers)}").mkdir()
            return folder

        yield make


@pytest.fixture(scope="session")
def formats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a bundle of one network in both formats, each file's golden outputs its own; for reading."""
    folder = tmp_path_factory.mktemp("formats")
    network = make_student_model("plain stem")
    windows = windows_for(network)
    length = windows.samples.shape[1]
    files = {"onnx": to_onnx(network, length, 18), "tflite": to_tflite(network, length)}
    for format, data in files.items():
        manifest = describe(
            "tones", network, windows, quantization="none", opset=None, licence="test",
            hop_seconds=0.0, format=format,
        )  # fmt: skip
        write(folder / format, manifest, data, golden_inputs(windows))
    return pair(folder / "both", folder / "onnx", read_bundle(folder / "tflite"))
