"""``--recipe quick`` through the whole house: no gradient step, and a bundle that listens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_models import make_model
from tiny_recordings import TONES, make_recordings

from edgeprune.core.console import Silent
from edgeprune.core.recipe import load_recipe
from edgeprune.pipeline.compress import compress
from edgeprune.training import loop
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.inference.predict import load_bundle

CHEAP: dict[str, Any] = {
    "max_drop": 0.2, "score": {"neighbours": 3, "permutations": 5},
    "bench": {"seconds": 0.05, "threads": [1], "rounds": 3},
}  # fmt: skip


def untrained(*_: Any, **__: Any) -> None:
    raise AssertionError("a gradient step was taken")


def quick(model: Path, data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    """Compress with every training forbidden; returns the report."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "fit", untrained)
        done = compress(model, data, out, load_recipe("quick", **CHEAP, **changes), ui=Silent())
    return dict(done.report)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("quick")
    data = make_recordings(folder / "data", speakers=4, each=4)
    model = make_model(folder / "model", "whisper", ("x", "y"))
    reconstruct = {"of": "parameters"}
    return folder, quick(model, data, folder / "run", reconstruct=reconstruct)


def test_a_model_that_knows_no_label_becomes_a_bundle_that_tells_tones_apart(
    run: tuple[Path, dict[str, Any]],
) -> None:
    folder, report = run
    before, after = report["summary"]["teacher"], report["summary"]["bundle"]
    assert before["score"] > 0.6  # three tones
    assert after["score"] >= before["score"] - 0.25
    assert after["parameters"] < before["parameters"]
    assert [s["step"] for s in report["seeds"][0]["steps"]] == ["teach", "depth", "reconstruct"]
    assert set(load_bundle(folder / "run" / "bundle").labels) == set(TONES)


def test_the_report_lists_what_was_tried(run: tuple[Path, dict[str, Any]]) -> None:
    folder, report = run
    page = (folder / "run" / "report.html").read_text("utf-8")
    assert "What goes without training" in page
    assert "given a head in closed form" in page
    assert "<h2>Training</h2>" not in page
    listed = (folder / "run" / "report.md").read_text("utf-8")
    for one in report["seeds"][0]["steps"][-1]["tried"]:
        assert f"| {100 * one['ratio']:.0f} % of parameters | " in listed


@pytest.mark.slow
def test_tags_are_compressed_without_training_in_both_formats(chords: Path, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", "wav2vec2", ("x", "y"))
    report = quick(model, chords, tmp_path / "run", clips={"task": "tags"},
                   reconstruct={"ratio": 0.1, "of": "parameters"},
                   export={"formats": ["onnx", "tflite"]})  # fmt: skip
    formats = {report["summary"][row]["format"] for row in ("bundle", "other")}
    assert formats == {"onnx", "tflite"}
    assert read_bundle(tmp_path / "run" / "bundle").activation == "sigmoid"
    json.dumps(report)
