"""Wrapped files whose bundle.json lies about them, or has anything for an entry: refused in a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults_table import Tally
from spoiled import strange_manifests

from edgeprune.deployment.wrap import Wrap, wrap
from edgeprune_device.bundle.manifest import sealed
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.bundle.writer import write_bundle
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.runtime import check_golden, open_model

Shared = Callable[[str], Path]


def test_a_manifest_that_lies_about_a_foreign_file_is_refused(
    models: Shared, tmp_path: Path
) -> None:
    path = models("mlperf_tiny/kws_ref_model.tflite")
    wrap(path, tmp_path / "kws", Wrap(kind="mlperf-keywords"))
    read = read_bundle(tmp_path / "kws")
    files = {name: (tmp_path / "kws" / name).read_bytes() for name in read.manifest["files"]}
    lies: list[Callable[[dict[str, Any]], object]] = [
        lambda a: a["input"].update(scale=0.5), lambda a: a["input"].update(zero_point=0),
        lambda a: a["output"].update(dtype="uint8"), lambda a: a["input"].update(name="other"),
        lambda a: a["input"].update(shape=[1, 490]), lambda a: a["output"].update(name="other"),
        lambda a: a["input"].update(dtype="float32"),
        lambda a: a.update(constants=[{"name": "sr", "dtype": "int64", "shape": [], "value": 1}]),
        lambda a: a["frontend"].update(step=160), lambda a: a["frontend"].update(fft=1024),
        lambda a: a["frontend"].update(window="model.tflite"), lambda a: a["frontend"].update(add=0.0),
        lambda a: a["frontend"].pop("cosines"), lambda a: a["frontend"].update(sharpen=1),
        lambda a: a["frontend"].update(gain=float("nan")), lambda a: a.update(then="tanh"),
        lambda a: a.update(frames={"samples": 512, "context": 0, "run_in": 0}),
    ]  # fmt: skip
    for number, lie in enumerate(lies):
        manifest = json.loads(json.dumps(dict(read.manifest)))
        lie(manifest["model"]["adapter"])
        with pytest.raises(EdgepruneError) as error:
            written_and_opened(tmp_path / f"b{number}", manifest, files)
        assert error.value.status == 2, number


@pytest.mark.fault("F15")
def test_every_entry_of_an_adapter_may_be_anything_and_none_makes_a_traceback(
    models: Shared, tmp_path: Path, tally: Tally
) -> None:
    """Of a front end and whole numbers (keywords), and of frames, state and constants (silero): each
    entry in turn is taken out, or is one of 14 strange values; refused, or it answers as it did."""
    wrap(models("mlperf_tiny/kws_ref_model.tflite"), tmp_path / "a", Wrap(kind="mlperf-keywords"))
    wrap(models("silero_vad/silero_vad_16k_op15.onnx"), tmp_path / "b", Wrap(kind="silero-vad"))
    tried = refused = 0
    for path in (tmp_path / "a", tmp_path / "b"):
        manifest = json.loads((path / "bundle.json").read_text("utf-8"))
        for changed in strange_manifests(manifest, ("model", "adapter")):
            (path / "bundle.json").write_bytes(sealed(changed))
            tried += 1
            try:
                bundle = read_bundle(path)
                check_golden(bundle, open_model(bundle))
            except EdgepruneError:
                refused += 1
    assert refused > 0.8 * tried
    tally(tried, 0, f"any entry of an adapter anything: {refused:,} refused, the others as before")


def written_and_opened(path: Path, manifest: dict[str, Any], files: dict[str, bytes]) -> None:
    write_bundle(path, manifest, files)
    open_model(read_bundle(path))
