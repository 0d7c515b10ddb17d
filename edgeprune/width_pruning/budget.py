"""The budget of a trim: what a student costs, and the choice of units that meets what was asked.

A cost is parameters, multiply-accumulates or the latency of the ONNX file here. The last is
predicted (``latencies``) and then measured, and the choice corrected a few times at most. What was
asked is met if what is left is within two points of it; where units are too coarse for that, or
times vary too much, the nearest that was found is used, and said to be that.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from edgeprune.core.console import Ui, points
from edgeprune.core.settings import Trim
from edgeprune.export import timing
from edgeprune.models import loading
from edgeprune.training.step_records import count_macs
from edgeprune.width_pruning import cost_model
from edgeprune.width_pruning.importance import (
    WITHIN,
    choose_units,
    cost_left,
    least_cost,
    refuse_impossible,
)
from edgeprune.width_pruning.removal import trim_to
from edgeprune.width_pruning.units import Group

NEARLY = 0.9  # of what can go
CORRECTIONS = 6  # choices that are measured at most, where the cost is latency


def cost_terms(
    model: Any, groups: Sequence[Group], window_samples: int, of: str, prices: Mapping[str, float]
) -> list[cost_model.Term]:
    """Return the terms of a cost: ``parameters``, ``macs`` or, at some prices, ``latency``."""
    if of == "parameters":
        return cost_model.parameter_terms(model, groups)
    terms = cost_model.mac_terms(model, groups, window_samples)
    return cost_model.priced(terms, prices) if of == "latency" else terms


def check_possible(
    groups: Sequence[Group], terms: Sequence[cost_model.Term], goal: float, settings: Trim, ui: Ui
) -> None:
    """Raise before anything is trained where no choice of units can meet a goal.

    One that takes nearly all that can go is said to do so: a spectrogram, say, is in no unit.

    Parameters
    ----------
    groups : sequence of Group
    terms : sequence of costs.Term
        Of the cost, see ``cost_terms``: exact, but for a latency, which is what prices predict.
    goal : float
        What may be left of the cost.
    settings : Trim
    ui : Ui
        Is told.

    Raises
    ------
    EdgepruneError
        One unit of each group still costs more, by over two points of the whole.

    """
    alike = {group.name: torch.ones(group.units) for group in groups}
    most = refuse_impossible(cost_model.tabulate(terms), alike, goal, asked_of(settings))
    if settings.ratio > NEARLY * most:
        ui.say(
            f"  note: {asked_of(settings)} is asked, and {points(most)} at most can go: what is in "
            "no unit stays, and hardly anything else will"
        )


def asked_of(settings: Trim) -> str:
    """Say what was asked."""
    return f"{100 * settings.ratio:.0f} % of the {settings.of}"


def is_met(asked: float, reached: float) -> bool:
    """Return whether a share that went is within two points of the one that was asked."""
    return abs(reached - asked) <= WITHIN


def choose(
    model: Any, terms: Sequence[cost_model.Term], scores: Mapping[str, Tensor], goal: float,
    window_samples: int, settings: Trim, ui: Ui,
) -> dict[str, list[int]]:  # fmt: skip
    """Choose the units to keep so that a cost comes near a goal; says where it is not met.

    A latency is measured, and the choice corrected.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    terms : sequence of costs.Term
        Of the cost, see ``cost_terms``.
    scores : mapping
        Group's name -> Tensor (units,); the least go first.
    goal : float
        What may be left of the cost.
    window_samples : int
    settings : Trim
    ui : Ui

    Returns
    -------
    dict
        Group's name -> units to keep.

    Raises
    ------
    EdgepruneError
        One unit of each group still costs more, by over two points of the whole.

    """
    if settings.of == "latency":
        return _choose_by_clock(model, terms, scores, goal, window_samples, settings, ui)
    keep = choose_units(scores, terms, goal, asked_of(settings))
    table = cost_model.tabulate(terms)
    full, left = float(cost_model.total(table, {})), cost_left(table, scores, keep)
    if abs(left - goal) > WITHIN * full:
        ui.say(f"  not met: the nearest that units allow leaves {points(left / full)} of the "
               f"{settings.of} that this round began with, not {points(goal / full)}")  # fmt: skip
    return keep


def _choose_by_clock(
    model: Any, terms: Sequence[cost_model.Term], scores: Mapping[str, Tensor], goal: float,
    window_samples: int, settings: Trim, ui: Ui,
) -> dict[str, list[int]]:  # fmt: skip
    """Choose, trim a copy, time it, and aim again by what it took; return the nearest (ms)."""
    table = cost_model.tabulate(terms)
    full = float(cost_model.total(table, {}))
    best: tuple[float, dict[str, list[int]]] | None = None
    aim, floor, keep = goal, least_cost(table, scores), dict[str, list[int]]()
    for _ in range(CORRECTIONS):
        last, keep = keep, choose_units(scores, terms, aim, asked_of(settings))
        if keep == last:
            break  # units allow nothing nearer
        trial = copy.deepcopy(model)
        trim_to(trial, keep)
        measured = timing.measure_latency(trial, window_samples)
        ui.say(f"  {measured:.2f} ms measured, {goal:.2f} ms asked")
        if best is None or abs(measured - goal) < abs(best[0] - goal):
            best = (measured, keep)
        if abs(measured - goal) <= 0.5 * WITHIN * full:
            break
        aim = max(aim * goal / measured, floor)
    if best is None:
        raise RuntimeError("no choice was measured")
    if abs(best[0] - goal) > WITHIN * full:
        ui.say(f"  not met: the nearest that was measured is {best[0]:.2f} ms, over two points from "
               "what was asked: times here vary, or units are too coarse")  # fmt: skip
    return best[1]


def cost_of(model: Any, window_samples: int) -> dict[str, float]:
    """Return what a model costs: ``parameters``, ``macs`` a window, ``latency`` in ms."""
    return {"parameters": loading.count_parameters(model),
            "macs": count_macs(model, window_samples),
            "latency": timing.measure_latency(model, window_samples)}  # fmt: skip


def in_words(keep: Mapping[str, Sequence[int]], groups: Sequence[Group]) -> str:
    """Say how many units of each kind stay."""
    said = []
    for kind in dict.fromkeys(group.kind for group in groups):
        these = [group for group in groups if group.kind == kind]
        kept = sum(len(keep[group.name]) for group in these)
        said.append(f"{kept} of {sum(group.units for group in these)} {kind}")
    return ", ".join(said)
