"""The step ``depth``: choose the layers to keep; a rule proposes, measurement decides.

``convexity-plateau``, the default: the first candidate keeps the layers up to the first one whose
convexity is within ``tolerance`` of the curve's peak (arXiv 2408.11858 keeps layers 0..L and
fine-tunes). The curve is that of the model before fine-tuning, because fine-tuning makes the last
layers convex for any labels. Each candidate is distilled for a few epochs and judged by its
validation score:

- if it is accepted (within ``max_drop`` of the teacher), smaller depths follow in the order of
  their convexity, each starting from the recovered one before it; depths below a rejected one are
  not tried;
- if it is rejected, larger depths follow one by one until one is accepted.

Any other rule of ``selection_rules`` orders the layers, measured removal included, and the smallest
accepted depth is found by bisection. ``step.json`` lists all candidates.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from edgeprune.core import distributed
from edgeprune.core.console import Ui, format_percent
from edgeprune.core.files import read_json, write_json
from edgeprune.core.settings import Prune
from edgeprune.data.clip_subsets import balanced_subset
from edgeprune.data.windows import Windows, load_windows
from edgeprune.depth_pruning.ablation import greedy_removal, measure_subsets
from edgeprune.depth_pruning.depth_search import bisect, search
from edgeprune.depth_pruning.evaluator import Evaluator
from edgeprune.depth_pruning.fit_bridges import fit_bridges, used_bridges
from edgeprune.depth_pruning.layer_stack import Bridges, Stack
from edgeprune.depth_pruning.selection_rules import (
    RULES,
    Evidence,
    SelectionRule,
    evidence_of,
    to_evidence,
)
from edgeprune.models import checkpoints, loading
from edgeprune.models.bridges import attach
from edgeprune.models.families import fixed_layers_of, keep_layers, layers_of
from edgeprune.training import loop
from edgeprune.training.closed_form_head import refit_head
from edgeprune.training.distill import train_student
from edgeprune.training.loop import RECOVERY_SPEED
from edgeprune.training.step_records import StepContext, read_step, write_step
from edgeprune_device.errors import EdgepruneError

MEASURED_CLIPS = (
    500  # validation clips that measured removal chooses on, training clips for bridges
)


@dataclass(frozen=True)
class TrialContext:
    """Everything that is needed to try a layer subset."""

    teacher: Path
    whole: Path
    """Model from which layers are removed."""
    windows: Windows
    context: StepContext
    epochs: int
    bridges: Bridges | None = None
    """Bridges of the whole model; None: gaps are left empty."""


def prune(
    teacher: Path, student: Path, clips: Path, context: StepContext, scores: Path,
    max_drop: float, *, out: Path, settings: Prune, ui: Ui,
) -> None:  # fmt: skip
    """Write the recovered layer subset: the step ``depth``, see ``training.step_records``.

    Parameters
    ----------
    teacher, student, clips, scores : Path
        Folders of the earlier stages; the scores are those of the teacher.
    context : StepContext
        Context of the step.
    max_drop : float
        Largest allowed difference to the teacher's validation score, as a share.

    Raises
    ------
    EdgepruneError
        The student does not have the layers that were scored.

    """
    facts = read_json(scores / "layers.json")
    known = to_evidence(evidence_of(facts, settings.tolerance, settings.curve))
    rule, layers = RULES[settings.pick], known.layers
    if rule.depth and not known.convexity:  # transcripts have no classes
        settings = replace(settings, pick="backward")
        rule = RULES[settings.pick]
        ui.say("  no classes, so no convexity: using the rule backward (last layers removed first)")
    _check_depth(student, layers)
    floor = _teacher_accuracy(teacher) - max_drop
    trial = TrialContext(
        teacher, student / "model", load_windows(clips), context, settings.recovery_epochs
    )
    fixed = fixed_layers(settings, layers)
    stay = checkpoints.read_checkpoint(str(teacher / "model")).fixed_layers
    if fixed is None and len(stay) == layers:  # there is nothing to choose
        fixed = list(stay)
    bridge = settings.bridge or (rule.measured == "bridged" and fixed is None)
    if bridge or (rule.measured and fixed is None):
        trial, known = measure_first(trial, known, rule, bridge, fixed is None, out, ui)
    tried: list[dict[str, Any]] = []
    start = trial.whole

    def holds(keep: Sequence[int]) -> bool:
        nonlocal start
        nested = rule.depth is not None and not bridge and fixed is None
        folder = _folder(out, keep)
        accuracy = try_subset(trial, start if nested else trial.whole, keep, folder, ui)
        held, first = bool(accuracy >= floor), list(keep) == list(range(len(keep)))
        tried.append({"keep": list(keep), "layers": len(keep), "valid_score": accuracy,
                      "convexity": known.convexity[len(keep)] if first and known.convexity else None,
                      "held": held})  # fmt: skip
        ui.say(f"  keep {len(keep):>2} of {layers} layers: valid {format_percent(accuracy)} "
               f"({'accepted' if held else 'rejected'}, minimum {format_percent(floor)})")  # fmt: skip
        start = folder / "model" if held else start
        return held

    least = max(stay, default=0) + 1
    if fixed is not None:
        keep = fixed
        if len(keep) < layers:
            holds(keep)
    elif rule.depth:
        keep = search(known.convexity, rule.depth(known), least, holds)
    else:
        keep = bisect(lambda depth: rule.keep(known, depth), least, layers, holds)
    best = _folder(out, keep) / "model" if len(keep) < layers else trial.whole
    shutil.copytree(best, out / "model", dirs_exist_ok=True)
    for candidate in tried:
        shutil.rmtree(_folder(out, candidate["keep"]))
    before = read_step(student)
    reached = [c["valid_score"] for c in tried if c["keep"] == list(keep)]
    write_step(
        out, loading.load_model(str(out / "model")), trial.windows.window_samples,
        step="depth", valid_score=reached[0] if reached else before["valid_score"], curve=[],
        unchanged=len(keep) == layers and before["unchanged"],
        kept=list(keep), of_layers=layers, floor=floor, tried=tried,
        rule="given" if fixed is not None else settings.pick, bridged=bridge,
        first_candidate=rule.depth(known) if rule.depth else None,
    )  # fmt: skip


def _check_depth(student: Path, layers: int) -> None:
    """Raise if a student's layers are not those that were scored."""
    found = len(layers_of(loading.load_model(str(student / "model"))))
    if found != layers:
        raise EdgepruneError(
            f"The step depth has scores of {layers} layers, but the model has {found}.",
            "Put depth before mimic and student in the recipe's steps.",
        )


def measure_first(
    trial: TrialContext,
    known: Evidence,
    rule: SelectionRule,
    bridge: bool,
    search: bool,
    out: Path,
    ui: Ui,
) -> tuple[TrialContext, Evidence]:
    """Fit the bridges, and measure the removal order if the rule needs it."""
    device = distributed.choose_device(trial.context.accelerator)
    model = loading.load_model(str(trial.whole)).to(device)
    stack, labels = Stack(model), loading.labels_of(model)
    if bridge and not stack.family.bridges:
        raise EdgepruneError(
            f"Linear bridges cannot replace layers of a {model.config.model_type} model: its "
            "hidden states differ in width.",
            "Choose another rule with --pick, or leave out --bridge.",
        )
    if bridge:
        train_clips = balanced_subset(trial.windows, "train", MEASURED_CLIPS)
        trial = replace(trial, bridges=fit_bridges(stack, train_clips, device, ui))
    if rule.measured and search:
        given = trial.bridges if rule.measured == "bridged" else None
        record = out / "removal.json"
        if not record.exists():
            clips = balanced_subset(trial.windows, "valid", MEASURED_CLIPS)
            bench = Evaluator(stack, clips, labels, device, ui)
            measure = partial(measure_subsets, bench, bridges=given, title="greedy removal")
            always = fixed_layers_of(model.config)
            stay = (0,) if bridge else always  # a bridge needs a layer before it
            write_json(record, greedy_removal(measure, known.layers, stay))
        known = replace(known, removal=read_json(record))
    return trial, known


def _teacher_accuracy(teacher: Path) -> float:
    accuracy: float = read_json(teacher / "teach.json")["valid_score"]
    return accuracy


def _folder(out: Path, keep: Sequence[int]) -> Path:
    return out / ("layers-" + "-".join(map(str, keep)))


def fixed_layers(settings: Prune, layers: int) -> list[int] | None:
    """Return the layers the user requested; None if the rule decides.

    Raises
    ------
    EdgepruneError
        Both options were used, or the layers do not exist.

    """
    if settings.keep and settings.layers:
        raise EdgepruneError("Both --keep and --layers were given.", "Use one of them.")
    if settings.keep > layers:
        raise EdgepruneError(f"keep = {settings.keep} is out of range (allowed: 1 to {layers}).")
    keep = list(range(settings.keep)) if settings.keep else list(settings.layers)
    if keep and (keep != sorted(set(keep)) or keep[0] < 0 or keep[-1] >= layers):
        raise EdgepruneError(
            f"Layers {', '.join(map(str, keep))} cannot be kept: the model has {layers} layers.",
            f"Give them in ascending order, from 0 to {layers - 1}.",
        )
    return keep or None


def try_subset(
    trial: TrialContext, start: Path, keep: Sequence[int], folder: Path, ui: Ui
) -> float:
    """Remove layers, distill for a few epochs, save the model, and return its validation score.

    A layer subset that was tried before an interruption is read, not trained again.
    """
    record = folder / "accuracy.json"
    if record.exists():
        accuracy: float = read_json(record)
        return accuracy
    student, teacher = (loading.load_model(str(f)) for f in (start, trial.teacher / "model"))
    depth = len(layers_of(student))
    keep_layers(student, keep)
    if trial.bridges is not None:
        attach(student, used_bridges(trial.bridges, tuple(keep), depth))
    device = distributed.choose_device(trial.context.accelerator)
    labels = loading.labels_of(student)
    refit_head(student, trial.windows, labels, device, ui)
    if trial.epochs:
        session = loop.TrainingSession(folder / "work", device, ui, f"recover {len(keep)} layers")
        train_student(
            student, teacher, trial.windows, replace(trial.context.distill, nothing_share=0.0),
            (trial.epochs, 0), trial.context, session, RECOVERY_SPEED,
        )  # fmt: skip
    accuracy = loop.evaluate(student, trial.windows.split("valid"), labels, device)
    loading.save(student.to("cpu"), folder / "model")
    write_json(record, accuracy)
    shutil.rmtree(folder / "work", ignore_errors=True)
    return accuracy
