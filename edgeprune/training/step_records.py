"""Steps, which make a student smaller, and the record that each of them leaves.

    def step(teacher, student, clips, context, *, out, settings, ui)

reads the model folders ``teacher/model`` and ``student/model`` and writes ``out/model`` and
``out/step.json``: what the step did, and size and score of the model after it. A recipe can use the
steps in any order.
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
"""Settings of the stage ``distill`` that the training in every step uses."""


@dataclass(frozen=True)
class StepContext:
    """Common input of all steps, beside models and clips."""

    distill: Distill
    """Distillation settings; those of the recipe are the fields in ``RECOVERY``."""
    seed: int
    accelerator: str
    """``auto``, ``cpu``, ``cuda`` or ``mps``."""
    ignore: tuple[str, ...] = ()
    """Background labels; if the data have one, no background windows are made."""
    augment: Augment = field(default_factory=Augment)
    """Augmentation of the training clips."""

    def as_input(self) -> dict[str, Any]:
        """Return the values that decide whether a step is reused, see ``stages.stage_key``."""
        distill = {name: getattr(self.distill, name) for name in RECOVERY}
        return {"distill": distill, "seed": self.seed, "accelerator": self.accelerator,
                "ignore": list(self.ignore), "augment": asdict(self.augment)}  # fmt: skip


def context_of(settings: Settings, seed: int) -> StepContext:
    """Return the context of a recipe's steps for one seed."""
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
        The resulting model.
    window_samples : int
        Length of a window in samples.
    facts
        At least ``step``, ``valid_score`` and ``curve`` (its learning curve), and further results;
        ``unchanged`` if the model still equals the teacher.

    """
    size = {"layers": len(layers_of(model)), "parameters": loading.count_parameters(model),
            "macs": count_macs(model, window_samples)}  # fmt: skip
    write_json(out / RECORD, {"unchanged": False, **facts, **size})


def read_step(folder: Path) -> dict[str, Any]:
    """Read the record of a step."""
    facts: dict[str, Any] = read_json(folder / RECORD)
    return facts


def step_folders(steps: Sequence[str]) -> list[str]:
    """Return each step's folder name: the step, with a number from its second use on."""
    times = [steps[: place + 1].count(step) for place, step in enumerate(steps)]
    return [f"{step}-{n}" if n > 1 else step for step, n in zip(steps, times, strict=True)]


def count_macs(model: Any, window_samples: int) -> int:
    """Count the multiply-accumulates of one window, see ``models.macs``."""
    return int(macs_by_module(model, window_samples)[""])
