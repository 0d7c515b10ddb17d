"""Students, mimics and light front ends for tags and transcripts, by the recipe a user would write."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from slow_cases import some_of
from tiny_recipes import TASKS_RECIPE

from edgeprune.core.console import Silent
from edgeprune.core.recipe import build_settings
from edgeprune.pipeline.compress import compress
from edgeprune_device.bundle.reader import read_bundle

TINY = {"width": 8, "layers": 1, "mels": 12, "stem_channels": 2}
STEPS: dict[str, dict[str, Any]] = {
    "student": {"student": {**TINY, "epochs": 1, "label_epochs": 1}},
    "mimic": {"mimic": {"width": 8, "epochs": 1, "label_epochs": 1}},
    "frontend": {"frontend": {**TINY, "epochs": 1, "whole_epochs": 1, "label_epochs": 1}},
}


def run(step: str, task: str, model: Path, data: Path, out: Path) -> None:
    quick = {"epochs": 0, "label_epochs": 0}
    clips = {"task": task, "tokens": "words"} if task == "ctc" else {"task": task}
    plan = build_settings(
        TASKS_RECIPE, STEPS[step],
        {"steps": [step], "clips": clips, "teach": {"epochs": 1, "batch_size": 8},
         "distill": quick | {"batch_size": 8}},
    )  # fmt: skip
    compress(str(model), data, out, plan, ui=Silent())


@pytest.mark.parametrize(
    ("step", "task"), some_of(product(STEPS, ("tags", "ctc")), ("mimic", "ctc"))
)
def test_every_step_goes_through_the_house_for_every_task(
    step: str, task: str, backbone: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    data = request.getfixturevalue("chords" if task == "tags" else "melodies")
    out = tmp_path / "run"
    run(step, task, backbone, data, out)
    facts = json.loads((out / "seed-0" / step / "step.json").read_text("utf-8"))
    assert facts["metric"] == ("mAP" if task == "tags" else "1 - TER")
    bundle = read_bundle(out / "bundle")
    assert bundle.activation == ("sigmoid" if task == "tags" else "ctc")
