"""``compress --together``: one bundle that holds both formats, from a run on tiny recordings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_recipes import CLASSES_RECIPE
from tiny_recordings import make_recordings
from typer.testing import CliRunner

from edgeprune.cli.app import app
from edgeprune.core.console import Silent
from edgeprune.core.recipe import build_settings
from edgeprune.pipeline.compress import compress
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.inference.choose_variant import choose_variant


@pytest.mark.slow
def test_both_formats_go_into_one_bundle(backbone: Path, tmp_path: Path) -> None:
    data = make_recordings(tmp_path / "data", speakers=4, each=3)
    export = {"formats": ("onnx", "tflite"), "together": True}
    settings = build_settings(
        CLASSES_RECIPE, {"seeds": 1, "prune": {"keep": 1, "recovery_epochs": 1}, "export": export}
    )
    done = compress(str(backbone), data, tmp_path / "run", settings, ui=Silent())
    assert not (tmp_path / "run" / "bundle-tflite").exists()
    bundle = read_bundle(tmp_path / "run" / "bundle")
    first, other = bundle.variants
    assert {first.format, other.format} == {"onnx", "tflite"}
    for variant, name in ((first, "bundle"), (other, "other")):
        row = done.report["summary"][name]
        alone = "bundle" if variant.format == "onnx" else "bundle-tflite"
        made = read_bundle(tmp_path / "run" / "seed-0" / "quantize" / alone)
        assert variant.model_bytes == made.model_bytes
        assert (row["format"], row["bytes"]) == (variant.format, len(variant.model_bytes))
        assert row["quantization"] == variant.manifest["model"]["quantization"]
        measured = bundle.manifest["provenance"]["metrics"][name]
        assert measured["digest"] == made.digest
    own = read_bundle(
        tmp_path / "run" / "seed-0" / "quantize"
        / ("bundle" if first.format == "onnx" else "bundle-tflite")
    )  # fmt: skip
    assert bundle.manifest["decision"] == own.manifest["decision"]
    assert choose_variant(bundle).bundle.format in ("onnx", "tflite")
    rows = json.loads((tmp_path / "run" / "bench" / "bench.json").read_text("utf-8"))["variants"]
    assert [row["name"] for row in rows] == ["teacher", "student", "bundle", "other"]


def test_the_help_names_both_options() -> None:
    for command, option in (("compress", "--together"), ("bench", "--profile")):
        assert option in CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
