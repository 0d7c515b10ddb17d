"""Importance of units without learned gates, and the choice of the units to keep.

- ``magnitude``: the norm of all weights of a unit, divided by its group's mean (Li et al. 2017,
  arXiv 1608.08710; group norm and normalization as in DepGraph, Fang et al. 2023, arXiv
  2301.12900);
- ``taylor``: first-order change of the loss when the unit is switched off, |g dL/dg| at its gate
  g = 1, over some batches (Molchanov et al. 2019, arXiv 1906.10771; Michel, Levy, Neubig 2019,
  arXiv 1905.10650);
- ``random``: a control.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.width_pruning.cost_model import CostTable, CostTerms, Term, collect_terms, total
from edgeprune.width_pruning.masking import masks
from edgeprune.width_pruning.removal import ROWS_OF
from edgeprune.width_pruning.units import Group, Slice
from edgeprune_device.errors import EdgepruneError

SLACK = 0.005  # a cost within this share of the whole from the target is close enough
WITHIN = 0.02  # a cost further than this share of the whole from the target does not meet it


def unit_importance(
    method: str, model: Any, groups: Sequence[Group], batches: Iterable[tuple[Tensor, Tensor]],
    loss: Callable[[Any, Tensor, Tensor, int], Tensor], seed: int,
) -> dict[str, Tensor]:  # fmt: skip
    """Return the importance of every unit; the least important are removed first.

    Parameters
    ----------
    method : str
        ``magnitude``, ``taylor`` or ``random``.
    model : transformers.PreTrainedModel
        Model to trim.
    groups : sequence of Group
        Groups of the model's units.
    batches : iterable of tuple
        (samples (batch, window), targets), used by ``taylor`` only.
    loss : callable
        Loss as for ``loop.fit``.
    seed : int
        Random seed of ``random``.

    Returns
    -------
    dict
        Group -> Tensor (units,).

    """
    if method == "magnitude":
        found = {group.name: group_norms(model, group) for group in groups}
        return {name: norms / norms.mean().clamp_min(1e-12) for name, norms in found.items()}
    if method == "taylor":
        return _taylor(model, groups, batches, loss)
    if method == "random":
        generator = torch.Generator().manual_seed(seed)
        return {group.name: torch.rand(group.units, generator=generator) for group in groups}
    raise ValueError(f"criterion {method!r} is not known")


def group_norms(model: nn.Module, group: Group) -> Tensor:
    """Return the L2 norm (units,) of all weights of each unit of a group."""
    squares = torch.zeros(group.units, dtype=torch.float64)
    for part in group.slices:
        index = torch.from_numpy(part.index)
        for tensor, dim in _tensors(model, part):
            others = [axis for axis in range(tensor.dim()) if axis != dim]
            energy = tensor.detach().cpu().double().square()
            squares.index_add_(0, index, energy.sum(others) if others else energy)
    return squares.sqrt().float()


def _tensors(model: nn.Module, part: Slice) -> Iterable[tuple[Tensor, int]]:
    """Yield the trained tensors of a slice, each with the dimension that shrinks."""
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
    """Choose the units to keep so that a cost comes close to a target.

    Units are removed in the order of their scores, over all groups, until the next one would exceed
    the target; from there on, single units that still fit are removed. If the cost is then over
    ``WITHIN`` away because units are coarse, one more is removed if that is closer; the result can
    still be further away than that (see ``cost_left``). Every group keeps its best unit.

    Parameters
    ----------
    scores : mapping
        Group -> Tensor (units,); units with the lowest scores are removed first.
    terms : sequence of Term
        Terms of the cost.
    goal : float
        Target cost.
    asked : str
        Description of the request, for the error message.

    Returns
    -------
    dict
        Group -> units to keep, ascending.

    Raises
    ------
    EdgepruneError
        With one unit per group, the cost still exceeds the target by over ``WITHIN`` of the whole.

    """
    table = collect_terms(terms)
    check_target(table, scores, goal, asked)
    order = sorted(
        (float(score), name, unit) for name, all_ in scores.items()
        for unit, score in enumerate(all_.tolist()) if unit != int(all_.argmax())
    )  # fmt: skip
    ledger = CostTable(table)
    costs = []
    for _, name, unit in order:
        ledger.switch(name, unit, on=False)
        costs.append(ledger.cost)
    count = sum(cost >= goal for cost in costs)  # costs decrease
    gone = {(name, unit) for _, name, unit in order[:count]}
    gone |= _fill(table, gone, order[count:], goal)
    return {
        name: [unit for unit in range(len(all_)) if (name, unit) not in gone]
        for name, all_ in scores.items()
    }


def check_target(
    table: CostTerms, scores: Mapping[str, Tensor], goal: float, asked: str
) -> float:  # fmt: skip
    """Return the share of a cost that can be removed, with one unit kept per group.

    Raises if the remaining cost then still exceeds a target by over ``WITHIN`` of the whole.
    """
    whole, least = float(total(table, {})), least_cost(table, scores)
    most = 1 - least / whole
    if least > goal + WITHIN * whole:
        raise EdgepruneError(
            f"{asked} cannot be removed: with one unit kept per group, {100 * most:.0f} % can.",
            "Lower trim.ratio, or add kinds of units to trim.what.",
        )
    return most


def least_cost(table: CostTerms, scores: Mapping[str, Tensor]) -> float:
    """Return a cost when every group keeps its best unit alone."""
    return cost_left(table, scores, {name: [int(all_.argmax())] for name, all_ in scores.items()})


def cost_left(
    table: CostTerms, scores: Mapping[str, Tensor], keep: Mapping[str, Sequence[int]]
) -> float:
    """Return the cost of the units to keep; ``scores`` gives the number of units per group."""
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
    """Return further units to switch off, in order, without exceeding the target, which is near."""
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
    """Return the unit, if any, whose removal brings a cost above a target closer to it."""
    apart, chosen = ledger.cost - goal, set[tuple[str, int]]()
    for _, name, unit in order:
        ledger.switch(name, unit, on=False)
        if abs(ledger.cost - goal) < apart:
            apart, chosen = abs(ledger.cost - goal), {(name, unit)}
        ledger.switch(name, unit, on=True)
    return chosen
