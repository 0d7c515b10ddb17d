"""Rank units and choose which go: the criteria without learned gates, and the choice for all.

- ``magnitude``: the norm of all of a unit's weights, over its group's mean (Li et al. 2017, arXiv
  1608.08710; the group norm and its normalisation as DepGraph, Fang et al. 2023, arXiv 2301.12900);
- ``taylor``: how much the loss changes to first order when the unit is switched off, |g dL/dg| at
  its gate g = 1, over some batches (Molchanov et al. 2019, arXiv 1906.10771; Michel, Levy, Neubig
  2019, arXiv 1905.10650);
- ``random``: the control.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.width_pruning.cost_model import CostTable, CostTerms, Term, tabulate, total
from edgeprune.width_pruning.masking import masks
from edgeprune.width_pruning.removal import ROWS_OF
from edgeprune.width_pruning.units import Group, Slice
from edgeprune_device.errors import EdgepruneError

SLACK = 0.005  # as near as this share of the whole to what was asked is near enough
WITHIN = 0.02  # further away than this share of the whole, what was asked is not met


def unit_importance(
    method: str, model: Any, groups: Sequence[Group], batches: Iterable[tuple[Tensor, Tensor]],
    loss: Callable[[Any, Tensor, Tensor, int], Tensor], seed: int,
) -> dict[str, Tensor]:  # fmt: skip
    """Return how much each unit matters by a criterion; the least goes first.

    Parameters
    ----------
    method : str
        ``magnitude``, ``taylor`` or ``random``.
    model : transformers.PreTrainedModel
    groups : sequence of Group
        Of the model, as it is.
    batches : iterable of tuple
        (samples (batch, window), targets): what ``taylor`` listens to; the others to nothing.
    loss : callable
        Of ``train.fit``.
    seed : int
        Of the random control.

    Returns
    -------
    dict
        Group's name -> Tensor (units,).

    """
    if method == "magnitude":
        found = {group.name: group_norms(model, group) for group in groups}
        return {name: norms / norms.mean().clamp_min(1e-12) for name, norms in found.items()}
    if method == "taylor":
        return _taylor(model, groups, batches, loss)
    if method == "random":
        generator = torch.Generator().manual_seed(seed)
        return {group.name: torch.rand(group.units, generator=generator) for group in groups}
    raise ValueError(f"no criterion is called {method!r}")


def group_norms(model: nn.Module, group: Group) -> Tensor:
    """Return the L2 norm (units,) of all weights that go with each unit of a group."""
    squares = torch.zeros(group.units, dtype=torch.float64)
    for part in group.slices:
        index = torch.from_numpy(part.index)
        for tensor, dim in _tensors(model, part):
            others = [axis for axis in range(tensor.dim()) if axis != dim]
            energy = tensor.detach().cpu().double().square()
            squares.index_add_(0, index, energy.sum(others) if others else energy)
    return squares.sqrt().float()


def _tensors(model: nn.Module, part: Slice) -> Iterable[tuple[Tensor, int]]:
    """Yield the trained tensors of a place, each with the dimension that shrinks."""
    if part.role == "param":
        owner, _, name = part.path.rpartition(".")
        tensor = getattr(model.get_submodule(owner), name)
        if tensor.is_floating_point():
            yield tensor, part.dim
        return
    module: Any = model.get_submodule(part.path)
    if isinstance(module, nn.LSTM):
        yield from ((t, 1) for n, t in module.named_parameters() if n.startswith("weight_ih_l0"))
    elif part.role == "in" or isinstance(module, nn.Embedding):
        yield module.weight, 1
    else:
        for name in ROWS_OF.get(part.role, ("weight", "bias")):
            tensor = getattr(module, name, None)
            if tensor is not None and not name.startswith("running"):
                yield tensor, 0


def _taylor(
    model: Any, groups: Sequence[Group], batches: Iterable[tuple[Tensor, Tensor]],
    loss: Callable[[Any, Tensor, Tensor, int], Tensor],
) -> dict[str, Tensor]:  # fmt: skip
    """Sum |dL/dg| over batches, in evaluation mode, for gates g that are all open."""
    model.eval()
    open_ = {group.name: torch.ones(group.units, requires_grad=True) for group in groups}
    found = {group.name: torch.zeros(group.units) for group in groups}
    with masks(model, groups, open_):
        for samples, targets in batches:
            value = loss(model, samples, targets, 0)
            for name, slope in zip(
                open_, torch.autograd.grad(value, list(open_.values())), strict=True
            ):
                found[name] += slope.abs()
    return found


def choose_units(
    scores: Mapping[str, Tensor], terms: Sequence[Term], goal: float, asked: str
) -> dict[str, list[int]]:
    """Choose the units to keep so that a cost comes near a goal.

    The units go in the order of their scores, over all groups, until the next would go too far;
    from there on single units that still fit go. Where that stays over ``WITHIN`` away, units being
    coarse, one more goes if that is nearer; what is then left can still be further away than that
    (``cost_left`` tells). Every group keeps its best unit.

    Parameters
    ----------
    scores : mapping
        Group's name -> Tensor (units,); the least go first.
    terms : sequence of Term
        Of the cost.
    goal : float
        What may be left of it.
    asked : str
        The request in words, for the refusal.

    Returns
    -------
    dict
        Group's name -> units to keep, ascending.

    Raises
    ------
    EdgepruneError
        One unit of each group still costs more, by over ``WITHIN`` of the whole.

    """
    table = tabulate(terms)
    refuse_impossible(table, scores, goal, asked)
    order = sorted(
        (float(score), name, unit) for name, all_ in scores.items()
        for unit, score in enumerate(all_.tolist()) if unit != int(all_.argmax())
    )  # fmt: skip
    ledger = CostTable(table)
    costs = []
    for _, name, unit in order:
        ledger.switch(name, unit, on=False)
        costs.append(ledger.cost)
    count = sum(cost >= goal for cost in costs)  # each that goes makes it less
    gone = {(name, unit) for _, name, unit in order[:count]}
    gone |= _fill(table, gone, order[count:], goal)
    return {
        name: [unit for unit in range(len(all_)) if (name, unit) not in gone]
        for name, all_ in scores.items()
    }


def refuse_impossible(
    table: CostTerms, scores: Mapping[str, Tensor], goal: float, asked: str
) -> float:  # fmt: skip
    """Return the share of a cost that can go, one unit of each group being left.

    Raises where what is left then is still more than a goal, by over ``WITHIN`` of the whole.
    """
    whole, least = float(total(table, {})), least_cost(table, scores)
    most = 1 - least / whole
    if least > goal + WITHIN * whole:
        raise EdgepruneError(
            f"{asked} cannot be trimmed: with one unit left of every group it would be "
            f"{100 * most:.0f} %.",
            "Ask for less, or let more kinds of units go (trim.what).",
        )
    return most


def least_cost(table: CostTerms, scores: Mapping[str, Tensor]) -> float:
    """Return what a cost is when every group keeps its best unit alone."""
    return cost_left(table, scores, {name: [int(all_.argmax())] for name, all_ in scores.items()})


def cost_left(
    table: CostTerms, scores: Mapping[str, Tensor], keep: Mapping[str, Sequence[int]]
) -> float:
    """Return what units to keep cost; ``scores`` tells how many there are of each group."""
    masks = {}
    for name, units in keep.items():
        masks[name] = torch.zeros(len(scores[name]))
        masks[name][list(units)] = 1.0
    return float(total(table, masks))


def _fill(
    table: CostTerms,
    gone: set[tuple[str, int]],
    order: Sequence[tuple[float, str, int]],
    goal: float,
) -> set[tuple[str, int]]:
    """Return further units to switch off, in order, that do not go too far: the goal is near."""
    ledger = CostTable(table)
    whole = ledger.cost
    for name, unit in gone:
        ledger.switch(name, unit, on=False)
    more = set()
    for _, name, unit in order:
        now = ledger.cost
        if now <= goal + SLACK * whole:
            break
        ledger.switch(name, unit, on=False)
        after = ledger.cost
        if abs(after - goal) < abs(now - goal) and after >= goal - SLACK * whole:
            more.add((name, unit))
        else:
            ledger.switch(name, unit, on=True)
    if ledger.cost > goal + WITHIN * whole:
        more |= _one_too_many(ledger, [o for o in order if o[1:] not in more], goal)
    return more


def _one_too_many(
    ledger: CostTable, order: Sequence[tuple[float, str, int]], goal: float
) -> set[tuple[str, int]]:
    """Return the unit whose going brings a cost nearest to a goal, from over it to under it."""
    apart, chosen = ledger.cost - goal, set[tuple[str, int]]()
    for _, name, unit in order:
        ledger.switch(name, unit, on=False)
        if abs(ledger.cost - goal) < apart:
            apart, chosen = abs(ledger.cost - goal), {(name, unit)}
        ledger.switch(name, unit, on=True)
    return chosen
