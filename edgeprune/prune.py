"""Choose the layers to keep: convexity proposes, measurement decides.

The first candidate is the cut after the first layer whose convexity is within ``tolerance`` of
the curve's peak (arXiv 2408.11858 keeps layers 0..L and fine-tunes). The curve is that of the
model as it came: fine-tuning makes the last layers convex for any labels. Each cut is recovered for a
few epochs and judged by its validation accuracy:

- if it holds (within ``max_drop`` of the teacher), shallower cuts follow in the order of their
  convexity, each taken from the recovered one before it; none is tried that is shallower than one
  that failed;
- if it does not, deeper cuts follow one by one until one holds.

The shallowest cut that held is kept; ``prune.json`` lists every candidate tried.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune import models, train
from edgeprune.audio import Windows, load_windows
from edgeprune.console import Ui, points
from edgeprune.convexity import first_within
from edgeprune.distill import train_student
from edgeprune.families import family_of, keep_layers
from edgeprune.settings import Distill, Prune
from edgeprune_device.errors import EdgepruneError

RECOVERY_SPEED = 2.0  # of teaching's learning rate: a model that was just cut has further to go


@dataclass(frozen=True)
class Judge:
    """What is needed to try a cut."""

    teacher: Path
    windows: Windows
    distill: Distill
    epochs: int
    seed: int
    accelerator: str


def prune(
    teacher: Path, scores: Path, clips: Path, recovery: dict[str, Any], *, out: Path,
    settings: Prune, ui: Ui,
) -> None:  # fmt: skip
    """Write the recovered cut: a model folder ``model/``, and ``prune.json``.

    Parameters
    ----------
    teacher, scores, clips : Path
        Folders of the earlier stages.
    recovery : dict
        ``distill`` (that stage's settings), ``seed``, ``accelerator``, ``max_drop``.

    """
    facts = json.loads((scores / "scores.json").read_text("utf-8"))
    curves = facts["curves"]  # a model that was not taught has one curve
    curve = [
        x["mean_of_classes"] for x in curves.get(settings.curve, curves["teacher"])[facts["task"]]
    ]
    floor = _teacher_accuracy(teacher) - recovery["max_drop"]
    judge = Judge(teacher, load_windows(clips), Distill(**recovery["distill"]),
                  settings.recovery_epochs, recovery["seed"], recovery["accelerator"])  # fmt: skip
    layers = len(curve) - 1
    tried: list[dict[str, Any]] = []

    start = teacher / "model"

    def holds(keep: Sequence[int]) -> bool:
        nonlocal start
        accuracy = try_cut(judge, start, keep, _folder(out, keep), ui)
        held, depth = bool(accuracy >= floor), keep[-1] + 1
        tried.append({"keep": list(keep), "layers": len(keep), "valid_accuracy": accuracy,
                      "convexity": curve[depth], "held": held})  # fmt: skip
        ui.say(f"  keep {len(keep):>2} of {layers} layers: convexity {100 * curve[depth]:.1f} %, valid "
               f"{points(accuracy)} ({'holds' if held else 'under'} {points(floor)})")  # fmt: skip
        start = _folder(out, keep) / "model" if held else start
        return held

    family = family_of(models.read_config(str(teacher / "model")).model_type)
    keep = fixed_layers(settings, layers)
    if keep is None:
        keep = search(curve, settings.tolerance, max(family.keep, default=0) + 1, holds)
    elif len(keep) < layers:
        holds(keep)
    best = _folder(out, keep) / "model" if len(keep) < layers else teacher / "model"
    shutil.copytree(best, out / "model", dirs_exist_ok=True)
    for candidate in tried:
        shutil.rmtree(_folder(out, candidate["keep"]))
    result = {
        "kept": list(keep), "layers": layers, "floor": floor, "tried": tried,
        "rule": "given" if fixed_layers(settings, layers) else "convexity, checked by measurement",
        "first_candidate": first_within(curve, settings.tolerance),
    }  # fmt: skip
    (out / "prune.json").write_text(json.dumps(result, indent=1), "utf-8")


def _teacher_accuracy(teacher: Path) -> float:
    accuracy: float = json.loads((teacher / "teach.json").read_text("utf-8"))["valid_accuracy"]
    return accuracy


def _folder(out: Path, keep: Sequence[int]) -> Path:
    return out / ("layers-" + "-".join(map(str, keep)))


def fixed_layers(settings: Prune, layers: int) -> list[int] | None:
    """Return the layers the user named; None where the rule decides.

    Raises
    ------
    EdgepruneError
        Both ways of naming them were used, or layers that are not there.

    """
    if settings.keep and settings.layers:
        raise EdgepruneError("Both --keep and --layers were given.", "Use one of them.")
    if settings.keep > layers:
        raise EdgepruneError(f"The model has {layers} layers; {settings.keep} cannot be kept.")
    keep = list(range(settings.keep)) if settings.keep else list(settings.layers)
    if keep and (keep != sorted(set(keep)) or keep[0] < 0 or keep[-1] >= layers):
        raise EdgepruneError(
            f"Layers {', '.join(map(str, keep))} cannot be kept of a model with {layers} layers.",
            f"Name them in ascending order, from 0 to {layers - 1}.",
        )
    return keep or None


def try_cut(judge: Judge, start: Path, keep: Sequence[int], folder: Path, ui: Ui) -> float:
    """Cut a model, recover it for a few epochs, save it, and return its validation accuracy.

    A cut that was tried before an interruption is read, not trained again.
    """
    record = folder / "accuracy.json"
    if record.exists():
        accuracy: float = json.loads(record.read_text("utf-8"))
        return accuracy
    student, teacher = (models.load_classifier(str(f)) for f in (start, judge.teacher / "model"))
    keep_layers(student, keep)
    if judge.epochs:
        train_student(
            student, teacher, judge.windows, judge.distill, (judge.epochs, 0), judge.seed,
            work=folder / "work", accelerator=judge.accelerator, ui=ui,
            title=f"recover {len(keep)} layers", speed=RECOVERY_SPEED,
        )  # fmt: skip
    valid, labels = judge.windows.split("valid"), models.labels_of(student)
    device = models.choose_device(judge.accelerator)
    accuracy = train.evaluate(student, valid, labels, device)
    models.save(student.to("cpu"), folder / "model")
    record.write_text(json.dumps(accuracy), "utf-8")
    shutil.rmtree(folder / "work", ignore_errors=True)
    return accuracy


def search(
    curve: Sequence[float], tolerance: float, minimum: int, holds: Callable[[Sequence[int]], bool]
) -> list[int]:
    """Find the cut by the default rule.

    Parameters
    ----------
    curve : sequence of float
        Convexity at the first block's input and after every block.
    tolerance : float
        See ``Prune.tolerance``.
    minimum : int
        The shallowest cut the family allows, in layers.
    holds : callable
        Tries the layers it is given; True if the accuracy stays over the floor.

    Returns
    -------
    list of int
        The layers to keep: the shallowest tried cut that held, or all layers if none did.

    """
    layers = len(curve) - 1
    depth = max(first_within(curve, tolerance), minimum)
    if depth < layers and not holds(range(depth)):
        deeper = (d for d in range(depth + 1, layers) if holds(range(d)))
        return list(range(next(deeper, layers)))
    best, failed = depth, minimum - 1
    for candidate in sorted(range(minimum, depth), key=lambda d: (-curve[d], d)):
        if failed < candidate < best:
            if holds(range(candidate)):
                best = candidate
            else:
                failed = candidate
    return list(range(best))
