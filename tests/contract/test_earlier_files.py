"""Run folders, bundles, journals and recipes that an earlier commit wrote still load, and mean the same."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import soundfile
from repository import ROOT
from tiny_models import make_model
from tiny_recordings import make_recordings

from edgeprune.core import stages
from edgeprune.core.console import Silent
from edgeprune.core.recipe import build_settings, read_recipe
from edgeprune.core.settings import Clips
from edgeprune.models.loading import load_model
from edgeprune.pipeline.clips import clips
from edgeprune.pipeline.compress import compress
from edgeprune.reports.score_report import read_scores
from edgeprune_calibration.event_matching import read_detections
from edgeprune_device.inference.predict import load_bundle
from edgeprune_device.journal.coverage_report import coverage
from edgeprune_device.journal.export import DetectionFilter, export

EARLIER = ROOT / "tests" / "fixtures" / "commit_a1d715b"
NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")


class Lines(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[Path, Path]:
    """Make the same model and clips again, at another place and time."""
    return make_model(tmp_path / "model", "wav2vec2"), make_recordings(tmp_path / "tones")


@pytest.fixture
def run(inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a copy of the run folder, for which model and clips count as those it was made from.

    A stage's key has the paths, sizes and times of source files; these are the recorded ones.
    """
    model, data = inputs
    folder = tmp_path / "run"
    shutil.copytree(EARLIER / "run", folder)
    recorded = json.loads((EARLIER / "inputs.json").read_text("utf-8"))
    identity = json.loads((folder / "run.json").read_text("utf-8"))
    (folder / "run.json").write_text(
        json.dumps(identity | {"model": str(model), "data": str(data)}), "utf-8"
    )
    again = tmp_path / "clips"
    again.mkdir()
    clips(model, data, "", out=again, settings=Clips(), ui=Silent())
    shutil.copy(again / "samples.npy", folder / "clips")
    known = {model: recorded["model_files"], data: recorded["data_files"],
             str(model): recorded["model"]}  # fmt: skip
    told = stages._identity

    def identity_of(item: Any) -> Any:
        return known[item] if isinstance(item, str | Path) and item in known else told(item)

    monkeypatch.setattr(stages, "_identity", identity_of)
    return folder


def test_a_finished_run_is_reused_stage_by_stage_and_reports_the_same_numbers(
    run: Path, inputs: tuple[Path, Path]
) -> None:
    ui = Lines()
    settings = build_settings(read_recipe(run / "recipe.toml"))
    done = compress(*inputs, run, settings, ui=ui)
    made = [line.split()[0] for line in ui.said if line.endswith("reused")]
    assert made == ["clips", "seed-0/teach", "seed-0/states", "untouched", "seed-0/score",
                    "seed-0/depth", "seed-0/distill", "seed-0/export-teacher", "seed-0/export",
                    "seed-0/quantize", "seed-0/verify", "deploy", "bench"]  # fmt: skip
    before = json.loads((EARLIER / "run" / "report.json").read_text("utf-8"))
    assert json.loads((run / "report.json").read_text("utf-8"))["summary"] == before["summary"]
    assert NUMBER.findall(done.headline) == NUMBER.findall(before["headline"])


def test_a_recipe_is_read_to_the_settings_that_the_run_recorded() -> None:
    settings = build_settings(read_recipe(EARLIER / "run" / "recipe.toml"))
    assert settings.max_drop == 0.9
    assert settings.score.neighbours == 3
    assert settings.teach.epochs == 2


def test_its_models_load() -> None:
    for stage in ("teach", "depth", "distill"):
        model = load_model(EARLIER / "run" / "seed-0" / stage / "model")
        assert set(model.config.id2label.values()) == {"low", "middle", "high"}


def test_its_bundle_is_opened_and_answers_as_it_did_then(tmp_path: Path) -> None:
    """Opening holds it to the golden outputs that the earlier commit stored."""
    model = load_bundle(EARLIER / "run" / "bundle")
    assert set(model.labels) == {"low", "middle", "high"}
    golden = model.bundle.golden[0]
    found = model.predict(golden.samples, model.sample_rate)
    assert abs(found.scores[0] - golden.scores).max() <= golden.tolerance


def test_its_scores_are_read() -> None:
    scores = read_scores(EARLIER / "score" / "scores.json")
    assert len(scores["curves"]["teacher"]["label"]) == scores["layers"] + 1


def test_a_journal_is_read_exported_and_added_up(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    shutil.copytree(EARLIER / "journal", journal)
    (found,) = read_detections(journal)
    assert found.label == "high"
    assert export(journal, tmp_path / "detections.csv", DetectionFilter()) == 1
    assert coverage(journal)["total"]["kinds"]["analysed"] == {"": 3.0}
    (clip,) = journal.glob("clips/**/*.flac")
    assert soundfile.info(clip).frames > 0
