"""How compress and score begin: what is wrong is said before anything is written or trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from said import Lines
from tiny_models import make_model
from tiny_recordings import TONES, make_recordings
from tones_run import settings

from edgeprune.core.console import Silent
from edgeprune.core.recipe import build_settings, read_recipe
from edgeprune.core.stages import Run
from edgeprune.pipeline.inputs import open_command
from edgeprune_device.errors import EdgepruneError

KNOWN = ("clips", "teach", "bench")


def begin(
    command: str, model: Path, data: Path, out: Path, *redo: str, ui: Any = None, **changes: Any
) -> tuple[Run, Any, Path]:
    asked = settings(**changes)
    return open_command(command, str(model), data, out, asked, ui or Silent(), redo, KNOWN)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_recordings(tmp_path_factory.mktemp("few"), speakers=4, each=3)


def test_a_run_remembers_what_it_is_of_and_the_recipe_it_was_asked(
    backbone: Path, few: Path, tmp_path: Path
) -> None:
    run, source, clips = begin("compress", backbone, few, tmp_path / "run", seeds=7)
    assert json.loads((tmp_path / "run/run.json").read_text("utf-8")) == {
        "command": "compress", "model": str(backbone.resolve()), "data": str(few.resolve()),
        "label": "label",
    }  # fmt: skip
    assert build_settings(read_recipe(tmp_path / "run/recipe.toml")) == settings(seeds=7)
    assert (source, clips) == (backbone.resolve(), run.folder / "clips")
    assert json.loads((clips / "clips.json").read_text("utf-8"))["labels"] == sorted(TONES)


def test_what_is_to_be_redone_is_forgotten_in_every_seed_and_nothing_else(
    backbone: Path, few: Path, tmp_path: Path
) -> None:
    run, *_ = begin("compress", backbone, few, tmp_path / "run")
    made = [f"seed-{seed}/{stage}" for seed in (0, 1) for stage in ("teach", "export")] + ["bench"]
    for name in made:
        (run.folder / name).mkdir(parents=True)
    said = Lines()
    begin("compress", backbone, few, tmp_path / "run", "teach", "bench", ui=said)
    left = {name for name in made if (run.folder / name).exists()}
    assert left == {"seed-0/export", "seed-1/export"}
    assert "clips            reused" in said.said


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"score": {"split": "all"}}, "would choose layers on the test clips"),
        ({"score": {"split": "test"}}, "would choose layers on the test clips"),
        (
            {"clips": {"context": "file"}},
            "is for edgeprune score only: segments cannot be trained on",
        ),
        ({"prune": {"layers": [0, 7]}}, "Layers 0, 7 cannot be kept"),
        ({"prune": {"keep": 9}}, r"keep = 9 is out of range \(allowed: 1 to 3\)"),
        ({"clips": {"label": "weather"}}, "has no column 'weather'"),
        ({"score": {"labelings": ["weather"]}}, "The column 'weather' cannot be scored"),
        (
            {"clips": {"window_seconds": 0.001}},
            "A window of 16 samples is too short for the model's encoder",
        ),
    ],
)
def test_what_cannot_work_leaves_nothing_behind(
    changes: dict[str, Any], sentence: str, backbone: Path, few: Path, tmp_path: Path
) -> None:
    with pytest.raises(EdgepruneError, match=sentence):
        begin("compress", backbone, few, tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("family", "steps", "sentence"),
    [
        (
            "audio-spectrogram-transformer",
            ["mimic", "frontend"],
            "take spectrograms: there is no waveform encoder",
        ),
        ("clap_audio_model", ["mimic"], "differ in width and resolution"),
        ("kwt", [], "have no frame-level output"),
    ],
)
def test_a_step_or_task_that_does_not_go_with_the_model_is_refused_before_anything_is_written(
    family: str, steps: list[str], sentence: str, few: Path, tmp_path: Path
) -> None:
    model = make_model(tmp_path / "model", family)
    changes = {"steps": steps} if steps else {"clips": {"task": "ctc"}}
    with pytest.raises(EdgepruneError, match=sentence):
        begin("compress", model, few, tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_what_follows_a_student_works_on_a_model_of_our_own(few: Path, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", "audio-spectrogram-transformer")
    run, *_ = begin("compress", model, few, tmp_path / "run", steps=["student", "frontend"])
    assert (run.folder / "clips").is_dir()


def test_an_unknown_stage_to_redo_is_named_with_the_known_ones(
    backbone: Path, few: Path, tmp_path: Path
) -> None:
    with pytest.raises(EdgepruneError, match="--redo 'benhc' is not a stage") as error:
        begin("compress", backbone, few, tmp_path / "run", "benhc")
    assert error.value.hint == "Known: clips, teach, bench."
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_another_run_is_left_alone(
    backbone: Path, few: Path, tmp_path: Path
) -> None:
    run, *_ = begin("compress", backbone, few, tmp_path / "run")
    other = make_recordings(tmp_path / "other", speakers=4, each=3)
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    with pytest.raises(EdgepruneError, match="holds another run: its data is"):
        begin("compress", backbone, other, tmp_path / "run")
    with pytest.raises(EdgepruneError, match="its command is compress, not score"):
        begin("score", backbone, few, tmp_path / "run")
    after = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    assert after == before


def test_a_run_that_took_work_is_not_abandoned_for_a_labelling_that_cannot_be_scored(
    backbone: Path, few: Path, tmp_path: Path
) -> None:
    run, *_ = begin("score", backbone, few, tmp_path / "run")
    (run.folder / "states").mkdir()
    with pytest.raises(EdgepruneError, match="'weather' cannot be scored"):
        begin("score", backbone, few, tmp_path / "run", score={"labelings": ["weather"]})
    assert (run.folder / "states").is_dir()
