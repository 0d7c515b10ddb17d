"""The stage export: float bundles that answer as torch does, in every format that was asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from said import Lines
from tiny_models import make_model
from tiny_windows import LABELS

from edgeprune.core.console import Silent
from edgeprune.core.deployment_settings import Export
from edgeprune.core.settings import Clips
from edgeprune.data.windows import load_windows
from edgeprune.export import export as module
from edgeprune.export.export import bundle_name, export
from edgeprune.export.onnx import Scorer
from edgeprune.models import loading
from edgeprune.pipeline.clips import clips
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.runtime import open_model


@pytest.fixture(scope="module")
def stages(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Give a model's folder and its clips."""
    folder = tmp_path_factory.mktemp("stages")
    model, heard = make_model(folder / "m", "edgeprune-student", LABELS), folder / "clips"
    heard.mkdir()
    clips(model, recordings, "x", out=heard, settings=Clips(), ui=Silent())
    return model, heard


def run(stages: tuple[Path, Path], out: Path, *formats: str) -> str:
    said = Lines()
    export(*stages, "tones", "CC0-1.0", 0.05, list(formats), out=out, settings=Export(opset=17),
           ui=said)  # fmt: skip
    return said.text


def check(stages: tuple[Path, Path], out: Path, form: str, said: str) -> None:
    model, heard = stages
    bundle, valid = read_bundle(out / bundle_name(form)), load_windows(heard).split("valid")
    scorer, open_ = Scorer(loading.load_model(str(model))), open_model(bundle)
    with torch.inference_mode():
        expected = scorer(torch.from_numpy(np.array(valid.samples))).numpy()
    found = np.array([open_(sample) for sample in valid.samples])
    worst = float(np.abs(found - expected).max())
    facts = json.loads((out / "export.json").read_text("utf-8"))[form]
    assert worst <= facts["worst_difference_to_torch"] * 1.5 + 1e-6  # of some of the windows
    assert facts["worst_difference_to_torch"] < 1e-4
    assert facts["bytes"] == pytest.approx(len(bundle.model_bytes), abs=2000)  # and its stamp
    assert (bundle.format, bundle.labels) == (form, LABELS)
    assert bundle.manifest["model"]["opset"] == (17 if form == "onnx" else None)
    assert bundle.hop_samples == round(0.05 * bundle.sample_rate)
    assert bundle.manifest["licence"] == "CC0-1.0"
    assert f"tones: {form}" in said


def test_an_onnx_bundle_answers_as_torch_and_its_record_says_how_nearly(
    stages: tuple[Path, Path], tmp_path: Path
) -> None:
    check(stages, tmp_path, "onnx", run(stages, tmp_path, "onnx"))
    assert sorted(x.name for x in tmp_path.iterdir()) == ["bundle", "export.json"]


@pytest.mark.slow
def test_both_formats_stand_side_by_side(stages: tuple[Path, Path], tmp_path: Path) -> None:
    said = run(stages, tmp_path, "onnx", "tflite")
    for form in ("onnx", "tflite"):
        check(stages, tmp_path, form, said)
    assert {x.name for x in tmp_path.iterdir()} == {"bundle", "bundle-tflite", "export.json"}


def test_a_file_that_answers_something_else_leaves_no_bundle(
    stages: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        module.RUNNERS, "onnx", lambda data: lambda samples: np.full((1, 3), 0.9, np.float32)
    )
    with pytest.raises(EdgepruneError, match="differs from torch"):
        run(stages, tmp_path, "onnx")
    assert not list(tmp_path.iterdir())
