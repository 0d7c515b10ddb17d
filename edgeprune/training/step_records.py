"""Steps: what makes a student smaller, one stage each, in any order a recipe names.

    def step(teacher, student, clips, context, *, out, settings, ui)

reads the model folders ``teacher/model`` and ``student/model``, and leaves ``out/model`` and
``out/step.json``: what the step did, and what the model then has and does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgeprune.core.files import read_json, write_json
from edgeprune.core.settings import Augment, Distill, Settings
from edgeprune.models import loading
from edgeprune.models.families import layers_of
from edgeprune.models.macs import macs_by_module

RECORD = "step.json"
RECOVERY = ("batch_size", "learning_rate", "temperature", "hidden_weight", "label_share",
            "nothing_share", "views")  # fmt: skip
"""What every step's training takes from the stage ``distill``."""


@dataclass(frozen=True)
class StepContext:
    """What every step is given beside models and clips."""

    distill: Distill
    """How a student is trained against its teacher; of a recipe's, the fields in ``RECOVERY``."""
    seed: int
    accelerator: str
    """``auto``, ``cpu``, ``cuda`` or ``mps``."""
    ignore: tuple[str, ...] = ()
    """Labels that mean "nothing": where the data have one, it teaches silence itself."""
    augment: Augment = field(default_factory=Augment)
    """How training clips are changed."""

    def as_input(self) -> dict[str, Any]:
        """Return what decides whether a step's result is reused, see ``stages.stage_key``."""
        distill = {name: getattr(self.distill, name) for name in RECOVERY}
        return {"distill": distill, "seed": self.seed, "accelerator": self.accelerator,
                "ignore": list(self.ignore), "augment": asdict(self.augment)}  # fmt: skip


def context_of(settings: Settings, seed: int) -> StepContext:
    """Return what the steps of a recipe are given for one seed."""
    taken = {name: getattr(settings.distill, name) for name in RECOVERY}
    return StepContext(Distill(**taken), seed, settings.accelerator,
                       tuple(settings.quantize.ignore), settings.augment)  # fmt: skip


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
