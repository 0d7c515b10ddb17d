"""Mimic layers: in place of any span, in every family, and trained to what stood there."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from steps_fixture import CONTEXT, make_inputs
from tiny_models import load_tiny, make_model
from tiny_recordings import RATE, TONES

from edgeprune.core.console import Silent
from edgeprune.core.settings import Mimic as Settings
from edgeprune.data.windows import load_windows
from edgeprune.models import loading
from edgeprune.models.families import family_of, keep_layers, layers_of
from edgeprune.nn.mimic import Mimic
from edgeprune.replacement.mimic import RecordedStates, mimic, source_of
from edgeprune.replacement.mimic_placement import (
    put_mimic,
)
from edgeprune.training import loop

QUICK = Settings(width=8, epochs=2, label_epochs=1)


def test_a_cut_student_learns_the_teachers_states_only_where_they_are_its_own(
    tmp_path: Path,
) -> None:
    master, cut = (load_tiny(tmp_path / "m", "wav2vec2") for _ in range(2))
    keep_layers(cut, [0, 1])
    loading.save(cut, tmp_path / "student" / "model")
    folder = tmp_path / "student"
    assert source_of(master, cut, (0, 2), folder) == (master, 0, 2)  # the whole stack
    assert source_of(master, cut, (1, 2), folder) == (master, 1, 2)
    source, begin, layer = source_of(master, cut, (0, 1), folder)
    assert (len(layers_of(source)), begin, layer) == (2, 0, 0)


def test_of_two_layers_the_first_learns_the_middle_of_the_span_in_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A teacher of twelve layers, of which the student has the first three: 5 is half-way, not 10."""
    folder, clips = make_inputs(tmp_path)
    shutil.rmtree(folder / "model")
    make_model(folder / "model", "wav2vec2", (*TONES, "another"), layers=12)
    cut = loading.load_model(str(folder / "model"))
    keep_layers(cut, [0, 1, 2])
    loading.save(cut, tmp_path / "student" / "model")
    seen: list[RecordedStates] = []
    learn = RecordedStates.loss

    def watch(self: RecordedStates, *given: Any) -> torch.Tensor:
        seen.append(self)
        return learn(self, *given)

    monkeypatch.setattr(RecordedStates, "loss", watch)
    (tmp_path / "out").mkdir()
    mimic(folder, tmp_path / "student", clips, CONTEXT, out=tmp_path / "out", ui=Silent(),
          settings=replace(QUICK, layers=2, epochs=1, label_epochs=0))  # fmt: skip
    assert (seen[0].target, seen[0].middle) == (11, 5)


def run(inputs: tuple[Path, Path], out: Path, settings: Settings) -> dict[str, Any]:
    out.mkdir()
    teacher, clips = inputs
    mimic(teacher, teacher, clips, CONTEXT, out=out, settings=settings, ui=Silent())
    facts: dict[str, Any] = json.loads((out / "step.json").read_text("utf-8"))
    return facts


@pytest.mark.parametrize(
    "settings",
    [
        QUICK, replace(QUICK, layers=2, loss="l1-cosine", freeze=True), replace(QUICK, kind="none"),
        replace(QUICK, distil=False), replace(QUICK, span=(1, 3), kind="conv", positions=True),
    ],
    ids=["one", "two", "none", "control", "span"],
)  # fmt: skip
def test_the_step_leaves_a_smaller_model_and_says_what_it_did(
    inputs: tuple[Path, Path], tmp_path: Path, settings: Settings
) -> None:
    facts = run(inputs, tmp_path / "out", settings)
    model = loading.load_model(str(tmp_path / "out" / "model"))
    whole = loading.load_model(str(inputs[0] / "model"))
    assert loading.count_parameters(model) < loading.count_parameters(whole)
    assert facts["span"] == ([1, 3] if settings.span else [0, 3])
    assert facts["positions"] is bool(settings.span)
    assert any(isinstance(block, Mimic) for block in layers_of(model))
    assert len(facts["curve"]) == (1 if settings.kind == "none" else 3)
    assert not (tmp_path / "out" / "work").exists()


def test_a_mimic_comes_near_the_states_it_stands_for(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    def distance(model: Any) -> float:
        sound = torch.from_numpy(np.array(load_windows(inputs[1]).samples[:16]))
        with torch.inference_mode():
            wanted = loading.logits_and_states(master, sound)[1][-1]
            return float((loading.logits_and_states(model, sound)[1][-1] - wanted).square().mean())

    master = loading.load_model(str(inputs[0] / "model"))
    run(inputs, tmp_path / "out", replace(QUICK, epochs=25, label_epochs=0, width=32))
    trained = loading.load_model(str(tmp_path / "out" / "model"))
    fresh = loading.load_model(str(inputs[0] / "model"))
    put_mimic(fresh, 0, 3, torch.zeros(1, RATE), kind="frame", hidden=32)
    assert family_of("wav2vec2").positions
    assert distance(trained) < 0.5 * distance(fresh.eval())


def test_a_frozen_mimic_is_left_as_it_learnt_the_states(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    states = replace(QUICK, label_epochs=0)
    run(inputs, tmp_path / "states", states)
    run(inputs, tmp_path / "frozen", replace(states, label_epochs=2, freeze=True))
    before, after = (
        dict(loading.load_model(str(tmp_path / name / "model")).named_parameters())
        for name in ("states", "frozen")
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith(("projector", "classifier")) for name in changed)


def test_a_regression_keeps_its_last_epoch_and_labels_the_best(
    inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the task's score, the best epoch of a regression would be any: the head is not trained."""
    plans: list[loop.TrainingPlan] = []
    train_a_while = loop.fit

    def watch(*given: Any, **named: Any) -> Any:
        plans.append(given[5])
        return train_a_while(*given, **named)

    monkeypatch.setattr(loop, "fit", watch)
    (tmp_path / "out").mkdir()
    mimic(inputs[0], inputs[0], inputs[1], CONTEXT, out=tmp_path / "out", ui=Silent(),
          settings=replace(QUICK, epochs=3, label_epochs=4))  # fmt: skip
    assert [(p.epochs, p.patience, p.keep_last) for p in plans] == [(3, 3, True), (4, 4, False)]
