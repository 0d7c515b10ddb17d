"""Steps: what makes a student smaller, one stage each, in any order a recipe names.

    def step(teacher, student, clips, shared, *, out, settings, ui)

reads the model folders ``teacher/model`` and ``student/model``, and leaves ``out/model`` and
``out/step.json``: what the step did, and what the model then has and does.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeprune.core.files import read_json, write_json
from edgeprune.models import loading
from edgeprune.models.families import layers_of
from edgeprune.models.macs import macs_by_module

RECORD = "step.json"


def write_step(out: Path, model: Any, window_samples: int, **facts: Any) -> None:
    """Write ``step.json``.

    Parameters
    ----------
    out : Path
        The step's folder.
    model : transformers.PreTrainedModel
        What the step made.
    window_samples : int
        Length of a window.
    facts
        At least ``step``, ``valid_score`` and ``curve`` (of its training), and what else it found;
        ``unchanged`` where the model is still the teacher.

    """
    size = {"layers": len(layers_of(model)), "parameters": loading.count_parameters(model),
            "macs": count_macs(model, window_samples)}  # fmt: skip
    write_json(out / RECORD, {"unchanged": False, **facts, **size})


def read_step(folder: Path) -> dict[str, Any]:
    """Read what a step wrote."""
    facts: dict[str, Any] = read_json(folder / RECORD)
    return facts


def step_folders(steps: Sequence[str]) -> list[str]:
    """Name each step's folder: the step, and a number from its second time on."""
    times = [steps[: place + 1].count(step) for place, step in enumerate(steps)]
    return [f"{step}-{n}" if n > 1 else step for step, n in zip(steps, times, strict=True)]


def count_macs(model: Any, window_samples: int) -> int:
    """Count the multiply-accumulates of one window: see ``macs``."""
    return int(macs_by_module(model, window_samples)[""])
