"""Cost of a model, and the choice of units that meets a requested cost.

A cost is parameters, multiply-accumulates, or latency of the ONNX file on this machine. Latency is
predicted (``latency_model``) and then measured, and the choice is corrected a few times at most. A
request is met if the removed share is within two percentage points of it. Where units are too
coarse for that, or measurements vary too much, the closest choice is used and reported as such.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from edgeprune.core.console import Ui, format_percent
from edgeprune.core.settings import Trim
from edgeprune.export import timing
from edgeprune.models import loading
from edgeprune.training.step_records import count_macs
from edgeprune.width_pruning import cost_model
from edgeprune.width_pruning.importance import (
    WITHIN,
    check_target,
    choose_units,
    cost_left,
    least_cost,
)
from edgeprune.width_pruning.removal import trim_to
from edgeprune.width_pruning.units import Group

NEARLY = 0.9  # of the greatest removable share; above it, a warning is printed
CORRECTIONS = 6  # largest number of choices whose latency is measured


def cost_terms(
    model: Any, groups: Sequence[Group], window_samples: int, of: str, prices: Mapping[str, float]
) -> list[cost_model.Term]:
    """Return the terms of a cost: ``parameters``, ``macs`` or, with prices, ``latency``."""
    if of == "parameters":
        return cost_model.parameter_terms(model, groups)
    terms = cost_model.mac_terms(model, groups, window_samples)
    return cost_model.priced(terms, prices) if of == "latency" else terms


def check_possible(
    groups: Sequence[Group], terms: Sequence[cost_model.Term], goal: float, settings: Trim, ui: Ui
) -> None:
    """Raise, before any training, if no choice of units can meet a target.

    Prints a warning if nearly all units must be removed (a spectrogram, for example, has no units).

    Parameters
    ----------
    groups : sequence of Group
        Groups of units.
    terms : sequence of cost_model.Term
        Terms of the cost, see ``cost_terms``: exact, or predicted in the case of latency.
    goal : float
        Target cost.
    settings : Trim
        Settings of the step.
    ui : Ui
        Progress display.

    Raises
    ------
    EdgepruneError
        With one unit per group, the cost still exceeds the target by over 2 % of the whole.

    """
    alike = {group.name: torch.ones(group.units) for group in groups}
    most = check_target(cost_model.collect_terms(terms), alike, goal, describe_target(settings))
    if settings.ratio > NEARLY * most:
        ui.say(
            f"  warning: removing {describe_target(settings)} leaves hardly any unit (at most "
            f"{format_percent(most)} can be removed, the rest is in no unit)"
        )


def describe_target(settings: Trim) -> str:
    """Describe the requested share and cost."""
    return f"{100 * settings.ratio:.0f} % of the {settings.of}"


def is_met(asked: float, reached: float) -> bool:
    """Return whether a removed share is within two percentage points of the requested one."""
    return abs(reached - asked) <= WITHIN


def choose(
    model: Any, terms: Sequence[cost_model.Term], scores: Mapping[str, Tensor], goal: float,
    window_samples: int, settings: Trim, ui: Ui,
) -> dict[str, list[int]]:  # fmt: skip
    """Choose the units to keep so that a cost comes close to a target; report if it is not met.

    Latency is measured, and the choice corrected.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Model to trim.
    terms : sequence of cost_model.Term
        Terms of the cost, see ``cost_terms``.
    scores : mapping
        Group -> Tensor (units,); units with the lowest scores are removed first.
    goal : float
        Target cost.
    window_samples : int
        Samples per window.
    settings : Trim
        Settings of the step.
    ui : Ui
        Progress display.

    Returns
    -------
    dict
        Group -> units to keep.

    Raises
    ------
    EdgepruneError
        With one unit per group, the cost still exceeds the target by over 2 % of the whole.

    """
    if settings.of == "latency":
        return _choose_by_clock(model, terms, scores, goal, window_samples, settings, ui)
    keep = choose_units(scores, terms, goal, describe_target(settings))
    table = cost_model.collect_terms(terms)
    full, left = float(cost_model.total(table, {})), cost_left(table, scores, keep)
    if abs(left - goal) > WITHIN * full:
        ui.say(f"  target not met: the units allow {format_percent(left / full)} of the {settings.of} at "
               f"the start of this round, not {format_percent(goal / full)}")  # fmt: skip
    return keep


def _choose_by_clock(
    model: Any, terms: Sequence[cost_model.Term], scores: Mapping[str, Tensor], goal: float,
    window_samples: int, settings: Trim, ui: Ui,
) -> dict[str, list[int]]:  # fmt: skip
    """Choose units, measure a trimmed copy, and correct the target; return the closest choice."""
    table = cost_model.collect_terms(terms)
    full = float(cost_model.total(table, {}))
    best: tuple[float, dict[str, list[int]]] | None = None
    aim, floor, keep = goal, least_cost(table, scores), dict[str, list[int]]()
    for _ in range(CORRECTIONS):
        last, keep = keep, choose_units(scores, terms, aim, describe_target(settings))
        if keep == last:
            break  # units allow nothing closer
        trial = copy.deepcopy(model)
        trim_to(trial, keep)
        measured = timing.measure_latency(trial, window_samples)
        ui.say(f"  latency {measured:.2f} ms, target {goal:.2f} ms")
        if best is None or abs(measured - goal) < abs(best[0] - goal):
            best = (measured, keep)
        if abs(measured - goal) <= 0.5 * WITHIN * full:
            break
        aim = max(aim * goal / measured, floor)
    if best is None:
        raise RuntimeError("no choice was measured")
    if abs(best[0] - goal) > WITHIN * full:
        ui.say(f"  target not met: the closest measured latency is {best[0]:.2f} ms, more than 2 "
               "percentage points off (measurements vary, or units are too coarse)")  # fmt: skip
    return best[1]


def cost_of(model: Any, window_samples: int) -> dict[str, float]:
    """Return a model's costs: ``parameters``, ``macs`` per window, ``latency`` in ms."""
    return {"parameters": loading.count_parameters(model),
            "macs": count_macs(model, window_samples),
            "latency": timing.measure_latency(model, window_samples)}  # fmt: skip


def describe_kept(keep: Mapping[str, Sequence[int]], groups: Sequence[Group]) -> str:
    """Describe how many units of each kind are kept."""
    said = []
    for kind in dict.fromkeys(group.kind for group in groups):
        these = [group for group in groups if group.kind == kind]
        kept = sum(len(keep[group.name]) for group in these)
        said.append(f"{kept} of {sum(group.units for group in these)} {kind}")
    return ", ".join(said)
