"""Light front ends in place of a model's own: the same frames, the features it is used to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from steps_fixture import CONTEXT
from tiny_models import FAMILY_NAMES
from tiny_recordings import RATE

from edgeprune.core.console import Silent
from edgeprune.core.settings import FrontEnd
from edgeprune.data.windows import load_windows
from edgeprune.models import loading
from edgeprune.models.families import family_of
from edgeprune.replacement.frontend import features_of, frontend
from edgeprune.replacement.frontend_placement import (
    insert_light_frontend,
    path_of,
)

QUICK = FrontEnd(width=8, layers=1, mels=12, stem_channels=2, epochs=2, whole_epochs=1,
                 label_epochs=1)  # fmt: skip
HEAR_SAMPLES = [name for name in FAMILY_NAMES if family_of(name).frozen or name == "kwt"]


def run(inputs: tuple[Path, Path], out: Path, settings: FrontEnd) -> dict[str, Any]:
    out.mkdir()
    teacher, clips = inputs
    frontend(teacher, teacher, clips, CONTEXT, out=out, settings=settings, ui=Silent())
    facts: dict[str, Any] = json.loads((out / "step.json").read_text("utf-8"))
    return facts


@pytest.mark.parametrize("distil", [True, False])
def test_the_step_leaves_a_model_that_costs_less(
    inputs: tuple[Path, Path], tmp_path: Path, distil: bool
) -> None:
    facts = run(inputs, tmp_path / "out", replace(QUICK, distil=distil))
    model = loading.load_model(str(tmp_path / "out" / "model"))
    assert "light-features" in json.dumps(model.config.edgeprune_parts)
    assert len(facts["curve"]) == 4
    assert facts["step"] == "frontend"
    assert facts["layers"] == 3
    assert not (tmp_path / "out" / "work").exists()


def test_its_features_come_near_the_teachers(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    def distance(model: Any) -> float:
        found = features_of(model, path, heard)
        return float((found - wanted).abs().mean())

    master = loading.load_model(str(inputs[0] / "model"))
    path = path_of(master.config)
    heard = torch.from_numpy(np.array(load_windows(inputs[1]).samples[:16]))
    wanted = features_of(master, path, heard)
    facts = run(inputs, tmp_path / "out",
                replace(QUICK, epochs=15, whole_epochs=0, label_epochs=0, learning_rate=1e-2))  # fmt: skip
    fresh = loading.load_model(str(inputs[0] / "model"))
    insert_light_frontend(fresh, wanted, RATE, QUICK)
    trained = loading.load_model(str(tmp_path / "out" / "model"))
    assert distance(trained) < distance(fresh.eval())
    assert facts["curve"][-1]["loss"] < 0.7 * facts["curve"][0]["loss"]
