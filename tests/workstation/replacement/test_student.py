"""The step ``student``: another model, that learns what the teacher knows of these labels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_students import SMALL, one_window
from steps_fixture import CONTEXT
from tiny_models import make_model
from tiny_recordings import RATE, TONES

from edgeprune.core.console import Silent
from edgeprune.core.settings import Student
from edgeprune.models import loading
from edgeprune.replacement.student import build, make_student
from edgeprune_device.errors import EdgepruneError


def run(inputs: tuple[Path, Path], out: Path, settings: Student) -> dict[str, Any]:
    out.mkdir()
    teacher, clips = inputs
    make_student(teacher, teacher, clips, CONTEXT, out=out, settings=settings,
                 ui=Silent())  # fmt: skip
    facts: dict[str, Any] = json.loads((out / "step.json").read_text("utf-8"))
    return facts


@pytest.mark.parametrize(
    "settings",
    [
        replace(SMALL, intermediate=True, relation_weight=1.0),
        replace(SMALL, kind="transformer", front_end="mfcc", heads=2),
        replace(SMALL, kind="frame", front_end="waveform", pooling="attentive"),
        replace(SMALL, kind="cnn"),
    ],
    ids=["conv", "transformer", "frame", "cnn"],
)
def test_a_student_knows_the_datas_labels_and_no_others(
    inputs: tuple[Path, Path], tmp_path: Path, settings: Student
) -> None:
    facts = run(inputs, tmp_path / "out", settings)
    model = loading.load_model(str(tmp_path / "out" / "model"))
    assert loading.labels_of(model) == tuple(sorted(TONES))
    assert facts["step"] == "student"
    assert facts["parameters"] == loading.count_parameters(model)
    assert facts["macs"] > 0
    assert len(facts["curve"]) == 6
    assert not (tmp_path / "out" / "work").exists()
    assert not hasattr(model, "matching")


def test_labels_alone_teach_the_tones(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    settings = replace(SMALL, distil=False, epochs=0, label_epochs=40)
    assert run(inputs, tmp_path / "out", settings)["valid_score"] > 0.8


def test_a_teacher_without_the_labels_cannot_teach_them(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    make_model(tmp_path / "model", "wav2vec2", ("low", "middle"))
    with pytest.raises(EdgepruneError, match="does not know the label 'high'"):
        run((tmp_path, inputs[1]), tmp_path / "out", SMALL)


def test_labels_can_be_learnt_where_the_teacher_does_not_know_them(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    make_model(tmp_path / "model", "wav2vec2", ("low", "middle"))
    run((tmp_path, inputs[1]), tmp_path / "out", replace(SMALL, distil=False, epochs=0))
    assert (tmp_path / "out" / "model").is_dir()


def test_nothing_to_inherit_is_said(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(EdgepruneError, match="No weights of the teacher have the shape"):
        run(inputs, tmp_path / "out", replace(SMALL, init="teacher"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"kernel": 4},
        {"kind": "transformer", "heads": 5},
        {"mels": 200},
        {"frame_ms": 2000.0},
        {"hop_ms": 0.01},
    ],
)
def test_settings_that_are_no_student_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(EdgepruneError):
        build(replace(SMALL, **wrong), one_window(), RATE)
