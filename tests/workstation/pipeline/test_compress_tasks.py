"""Tags and transcripts through the whole house: tiny recordings in, a bundle that listens out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from slow_cases import some_of
from tiny_recipes import TASKS_RECIPE
from tiny_recordings import TONES

from edgeprune.core.console import Silent
from edgeprune.core.recipe import build_settings
from edgeprune.core.settings import Settings
from edgeprune.deployment.verify import verify
from edgeprune.models import heads
from edgeprune.pipeline.compress import compress
from edgeprune_calibration.dataset import untracked
from edgeprune_device.bundle.manifest import SCHEMA_VERSION
from edgeprune_device.bundle.reader import read_bundle


def settings(**changes: Any) -> Settings:
    return build_settings(TASKS_RECIPE, changes)


@pytest.fixture(scope="module")
def tagged(backbone: Path, chords: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "chords"
    plan = settings(
        clips={"task": "tags"},
        teach={"epochs": 25, "batch_size": 8, "learning_rate": 3e-3, "label_smoothing": 0.0,
               "head": "mlp"},
        distill={"epochs": 4, "label_epochs": 4, "batch_size": 8, "learning_rate": 3e-3},
    )  # fmt: skip
    compress(str(backbone), chords, out, plan, ui=Silent())
    return out


@pytest.fixture(scope="module")
def recognised(backbone: Path, melodies: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "melodies"
    plan = settings(
        clips={"task": "ctc", "tokens": "words"},
        teach={"epochs": 2, "batch_size": 8, "learning_rate": 4e-3, "head": "bilstm"},
        distill={"epochs": 1, "label_epochs": 1, "batch_size": 8, "learning_rate": 2e-3},
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heads, "LSTM_UNITS", 8)
        compress(str(backbone), melodies, out, plan, ui=Silent())
    return out


def report_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "report.json").read_text("utf-8"))
    return found


def test_several_tones_at_a_time_are_learnt_and_survive_compression(tagged: Path) -> None:
    r = report_of(tagged)
    assert r["summary"]["teacher"]["metric"] == "mAP"
    assert r["summary"]["teacher"]["score"] > 0.7
    assert r["summary"]["bundle"]["score"] > 0.65
    for name in ("teacher", "student", "bundle"):
        found = r["summary"][name]
        assert found["interval"][0] <= found["score"] <= found["interval"][1]
    assert set(r["delivered"]["bundle"]["per_label"]) == set(TONES)
    assert "mAP" in (tagged / "report.md").read_text("utf-8")


def test_a_tagging_bundle_has_a_sigmoid_and_a_threshold_a_tag(tagged: Path) -> None:
    manifest = read_bundle(tagged / "bundle").manifest
    assert manifest["activation"] == "sigmoid"
    assert set(manifest["decision"]["thresholds"]) == set(TONES)
    assert manifest["schema_version"] == SCHEMA_VERSION


@pytest.mark.slow
def test_a_recognition_run_reports_error_rates(recognised: Path) -> None:
    """Two epochs teach nothing: what a recogniser hears is tested in test_task_bundles.py."""
    r = report_of(recognised)
    assert r["summary"]["teacher"]["metric"] == "1 - TER"
    error = r["summary"]["bundle"]["metrics"]["token error rate"]
    assert max(0.0, 1 - error["value"]) == pytest.approx(r["summary"]["bundle"]["score"])
    assert error["interval"][0] <= error["value"] <= error["interval"][1]
    assert "word error rate" not in r["summary"]["bundle"]["metrics"]
    assert "token error rate" in (recognised / "report.md").read_text("utf-8")
    assert r["seeds"][0]["steps"][1]["kept"] == [0, 1]
    assert r["scores"][0]["curves"] == {"teacher": {}, "untouched": {}}


@pytest.mark.slow
def test_a_recognising_bundle_answers_frame_by_frame(recognised: Path) -> None:
    bundle = read_bundle(recognised / "bundle")
    assert (bundle.activation, bundle.tokens) == ("ctc", "words")
    assert bundle.labels == ("<pad>", *sorted(TONES))
    assert len(bundle.output_shape) == 2
    assert bundle.hop_samples == bundle.window_samples
    assert bundle.manifest["decision"]["thresholds"] == {}


@pytest.mark.parametrize("name", some_of(("tagged", "recognised"), "tagged"))
def test_the_bundle_is_verified_on_the_split_it_was_made_with(
    name: str, request: pytest.FixtureRequest
) -> None:
    out = request.getfixturevalue(name)
    data = request.getfixturevalue("chords" if name == "tagged" else "melodies")
    done = verify(out / "bundle", data, max_drop=0.9, track=untracked)
    r = report_of(out)
    assert done["bundle"]["score"] == r["delivered"]["bundle"]["score"]
    assert done["baseline"] == r["delivered"]["teacher"]["score"]
    assert r["summary"]["teacher"]["metric"] in done["text"]
