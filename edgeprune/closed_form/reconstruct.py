"""The step ``reconstruct``: remove heads and feed-forward columns without training.

1. How much the logits depend on each projection's outputs is measured (``logit_sensitivity``).
2. In every group the units are ordered by what their removal adds to the projection's error, when
   its other weights make up for it (``least_squares``, after ZipLM, arXiv 2302.04089).
3. Over all groups, what adds least per cost saved goes first, until the requested share is gone.
4. The projections are refitted in the order they run, each on the inputs it gets from the layers
   changed before it, to what the original gave (sequential calibration), and the head after them.

With ``ratio = 0`` the largest share is searched, in steps of five percentage points, whose loss
against the teacher on the validation clips, plus one standard error, is within ``max_drop``: of
many candidates the best looks better than it is, so the point alone would promise too much.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgeprune.closed_form.frame_moments import own_moments, paired_moments
from edgeprune.closed_form.least_squares import regression, removal_order, solve
from edgeprune.closed_form.logit_sensitivity import LogitSensitivity, sensitivities
from edgeprune.closed_form.removable_units import Removable, removable_units, scores_of_units
from edgeprune.closed_form.residuals import residual_sources
from edgeprune.core import distributed
from edgeprune.core.closed_form_settings import Reconstruct
from edgeprune.core.console import Ui, format_percent
from edgeprune.core.files import read_json, write_json
from edgeprune.data.clip_subsets import balanced_subset, groups_of_clips
from edgeprune.data.tasks import task_of
from edgeprune.data.windows import Windows, load_windows
from edgeprune.depth_pruning.layer_stack import batches
from edgeprune.metrics.paired_loss import paired_loss
from edgeprune.models import loading
from edgeprune.training import loop
from edgeprune.training.closed_form_head import refit_head
from edgeprune.training.step_records import StepContext, count_macs, read_step, write_step
from edgeprune.width_pruning import cost_model
from edgeprune.width_pruning.budget import cost_terms
from edgeprune.width_pruning.importance import choose_units, least_cost
from edgeprune.width_pruning.removal import trim_to
from edgeprune.width_pruning.units import make_trimmable
from edgeprune_device.errors import EdgepruneError

SENSITIVITY_CLIPS = 64
STREAM_CLIPS = 2
LEAST_CLIPS = 64
ENOUGH_FRAMES = 25_600
"""Calibration clips are left out beyond this many frames, but not below ``LEAST_CLIPS``."""
ROUNDING = 1e-9
STEP = 0.05
"""Step of the search for the largest share that can be removed."""


@dataclass(frozen=True)
class Plan:
    """The model before the step, and what its calibration found."""

    model: Any
    windows: Windows
    clips: Windows
    """Calibration clips: training clips, so that they are in no measurement."""
    found: Mapping[str, Removable]
    """Groups in the order their projections run."""
    sensitivity: Mapping[str, LogitSensitivity]
    streams: Mapping[str, str]
    """Group -> module whose input is the stream that its projection's output is added to."""
    scores: Mapping[str, Tensor]
    """Group -> score of each unit; the lowest are removed first."""
    terms: Sequence[cost_model.Term]
    device: torch.device
    ui: Ui

    @cached_property
    def valid(self) -> Windows:
        """The validation clips, read once."""
        return self.windows.split("valid")

    def batches(self) -> Iterator[Tensor]:
        """Yield the windows of the calibration clips."""
        return batches(self.clips, self.device, self.ui, "calibration clips")


def reconstruct(
    teacher: Path, student: Path, clips: Path, context: StepContext, max_drop: float, *,
    out: Path, settings: Reconstruct, ui: Ui,
) -> None:  # fmt: skip
    """Write the smaller student: ``model/`` and ``step.json``.

    Parameters
    ----------
    teacher, student, clips : Path
        Folders of the earlier stages.
    context : StepContext
        Context of the step.
    max_drop : float
        Largest allowed difference to the teacher's validation score, as a share.

    Raises
    ------
    EdgepruneError
        The model has no units that can be removed this way, too few calibration clips, or lower
        cost in its units than is to be removed.

    """
    plan = calibrate(student, clips, context, settings, ui)
    _, reference = judged(loading.load_model(str(teacher / "model")), plan)
    groups = groups_of_clips(plan.valid)
    table = cost_model.collect_terms(plan.terms)
    whole = float(cost_model.total(table, {}))
    most = 1 - least_cost(table, plan.scores) / whole
    if settings.ratio > most:
        raise EdgepruneError(
            f"{100 * settings.ratio:.0f} % of the {settings.of} cannot be removed: with one unit "
            f"kept per group, {100 * most:.0f} % can.",
            "Lower reconstruct.ratio, or use 0 to search for the largest share.",
        )
    tried: list[dict[str, Any]] = []

    def holds(ratio: float) -> bool:
        score, values = try_ratio(plan, ratio, whole, out / "work", settings)
        lost = paired_loss(reference, values, groups)
        held = lost.upper <= max_drop + ROUNDING
        tried.append({"ratio": ratio, "valid_score": score, "loss": lost.loss,
                      "standard_error": lost.error, "held": held})  # fmt: skip
        ui.say(f"  {100 * ratio:.0f} % of the {settings.of} removed: valid {format_percent(score)}, "
               f"{100 * lost.loss:+z.2f} ± {100 * lost.error:.2f} percentage points lost "
               f"({'accepted' if held else 'rejected'}, at most {100 * max_drop:g})")  # fmt: skip
        return held

    ratio = settings.ratio
    if ratio:
        holds(ratio)
    else:
        ratio = largest([round(STEP * n, 2) for n in range(1, int(most / STEP) + 1)], holds)
    _write(out, plan, ratio, tried, settings, read_step(student), student)


def largest(ratios: Sequence[float], holds: Callable[[float], bool]) -> float:
    """Return the largest of ascending ratios that holds, found by bisection; 0 if none does."""
    low, high = -1, len(ratios)
    while high - low > 1:
        middle = (low + high) // 2
        if holds(ratios[middle]):
            low = middle
        else:
            high = middle
    return ratios[low] if low >= 0 else 0.0


def calibrate(
    student: Path, clips: Path, context: StepContext, settings: Reconstruct, ui: Ui
) -> Plan:
    """Measure sensitivities and moments, and order the units of every group."""
    device = distributed.choose_device(context.accelerator)
    windows = load_windows(clips)
    model = loading.load_model(str(student / "model")).to(device)
    make_trimmable(model)
    found = removable_units(model, settings.what)
    if not found:
        raise EdgepruneError(
            f"A {model.config.model_type} model has no heads or feed-forward columns whose removal "
            "could be made up for.",
            "Use the step trim.",
        )
    modules = {name: one.projection(model) for name, one in found.items()}
    subset = balanced_subset(windows, "train", settings.clips)
    first = _first(subset, SENSITIVITY_CLIPS)
    sensitivity = sensitivities(
        model, modules, batches(first, device, ui, "sensitivity"), context.seed
    )
    tokens = max(len(one.tokens) for one in sensitivity.values())
    enough = max(LEAST_CLIPS, ENOUGH_FRAMES // tokens)
    subset = balanced_subset(windows, "train", min(settings.clips, enough))
    moments = own_moments(model, modules, batches(subset, device, ui, "moments"), sensitivity)
    for name, known in moments.items():
        if known.frames <= known.inputs:
            raise EdgepruneError(
                f"{known.frames} frames of calibration clips are too few for {name}, which has "
                f"{known.inputs} inputs.",
                f"At least {known.inputs + 1} frames are needed: use more training clips, or a "
                "higher reconstruct.clips.",
            )
    orders = {}
    for name in ui.track(list(moments), "units", len(moments)):
        equations = regression(moments[name], modules[name].weight.detach())
        orders[name] = removal_order(equations, found[name].unit_of, sensitivity[name].outputs)
    groups = [one.group for one in found.values()]
    terms = cost_terms(model, groups, windows.window_samples, settings.of, prices={})
    ordered = {name: found[name] for name in moments}
    few = torch.from_numpy(_first(subset, STREAM_CLIPS).read(slice(None))).to(device)
    streams = residual_sources(model, {name: one.path for name, one in found.items()}, few)
    return Plan(model, windows, subset, ordered, sensitivity, streams,
                scores_of_units(orders, ordered, terms), terms, device, ui)  # fmt: skip


def _first(windows: Windows, most: int) -> Windows:
    """Return the first points of some windows, at most ``most``."""
    return windows.subset(np.arange(min(most, len(windows.clip))))


def try_ratio(
    plan: Plan, ratio: float, whole: float, work: Path, settings: Reconstruct
) -> tuple[float, list[float]]:
    """Remove a share of the cost, refit, and save the model.

    A share that was tried before an interruption is read, not computed again.

    Returns
    -------
    score : float
        The score on the validation clips.
    values : list of float
        See ``judged``.

    """
    folder = folder_of(work, ratio)
    record = folder / "score.json"
    if not record.exists():
        asked = f"{100 * ratio:.0f} % of the {settings.of}"
        keep = choose_units(plan.scores, plan.terms, whole * (1 - ratio), asked)
        model = refitted(plan, keep)
        labels = loading.labels_of(model)
        refit_head(model, plan.windows, labels, plan.device, plan.ui)
        score, values = judged(model, plan)
        loading.save(model.to("cpu"), folder / "model")
        write_json(record, {"score": score, "values": values})
    known = read_json(record)
    return known["score"], known["values"]


def judged(model: Any, plan: Plan) -> tuple[float, list[float]]:
    """Return a model's score on the validation clips, and the value of each clip, in order.

    A clip's value is 1 if it is right, 0 if not; with tags it is the precision of their ranking.
    """
    task, labels = task_of(plan.valid.task), loading.labels_of(model)
    logits = loop.predict(model.to(plan.device), plan.valid, plan.device)
    score = task.score(logits, plan.valid, labels)
    values = [float(value) for value in task.correctness(logits, plan.valid, labels)]
    known: tuple[float, list[float]] = distributed.broadcast_from_main((score, values))
    return known


def folder_of(work: Path, ratio: float) -> Path:
    """Return the folder of a share that is tried."""
    return work / f"ratio-{1000 * ratio:.0f}"


def refitted(plan: Plan, keep: Mapping[str, Sequence[int]]) -> Any:
    """Return the model with only some units, its projections refitted one after the other.

    Parameters
    ----------
    plan : Plan
        The model and its calibration.
    keep : mapping
        Group -> units to keep, ascending.

    """
    model = copy.deepcopy(plan.model)
    for name in plan.ui.track(list(plan.found), "refit", len(plan.found)):
        one = plan.found[name]
        layer, original = one.projection(model), one.projection(plan.model)
        moments = paired_moments(model, plan.model, one.path, plan.batches(),
                                 plan.sensitivity[name].tokens, plan.streams[name])  # fmt: skip
        weight, bias = solve(regression(moments, original.weight.detach()),
                             one.kept_inputs(keep[name]))  # fmt: skip
        with torch.no_grad():
            layer.weight.copy_(weight)
            if layer.bias is not None:
                layer.bias.copy_(bias)
    trim_to(model, {name: list(units) for name, units in keep.items()})
    return model


def _write(
    out: Path, plan: Plan, ratio: float, tried: list[dict[str, Any]], settings: Reconstruct,
    before: Mapping[str, Any], student: Path,
) -> None:  # fmt: skip
    """Write the chosen model and its record."""
    task = task_of(plan.windows.task)
    chosen = folder_of(out / "work", ratio) / "model" if ratio else student / "model"
    shutil.copytree(chosen, out / "model", dirs_exist_ok=True)
    model = loading.load_model(str(out / "model"))
    score = next((t["valid_score"] for t in tried if t["ratio"] == ratio), before["valid_score"])
    window = plan.windows.window_samples
    reached = {
        "macs": 1 - count_macs(model, window) / before["macs"],
        "parameters": 1 - loading.count_parameters(model) / before["parameters"],
    }
    units = {name: one.group.units for name, one in removable_units(model, settings.what).items()}
    write_step(
        out, model, window, step="reconstruct", valid_score=score, metric=task.metric, curve=[],
        unchanged=not ratio and before["unchanged"], requested=ratio, of=settings.of,
        reached=reached, tried=tried, units=units, calibration_clips=len(plan.clips.clip),
    )  # fmt: skip
    plan.ui.say(
        f"  reconstructed: {format_percent(reached['macs'])} of the multiply-accumulates and "
        f"{format_percent(reached['parameters'])} of the parameters removed; {task.metric} "
        f"{format_percent(score)} on the validation clips"
    )
    shutil.rmtree(out / "work", ignore_errors=True)
