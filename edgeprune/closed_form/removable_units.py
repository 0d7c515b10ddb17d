"""Units whose removal a refit can make up for: heads and feed-forward columns of a projection.

Of the groups of ``width_pruning.units``, those whose units enter exactly one linear layer of the
blocks, the *projection*: an attention's output layer, a feed-forward block's second layer. The
costs are those of the step ``trim``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.models.heads import ROOTS
from edgeprune.width_pruning.cost_model import CostTable, Term, collect_terms
from edgeprune.width_pruning.units import Group, groups_of


@dataclass(frozen=True)
class Removable:
    """A group of units, and the projection that takes them."""

    group: Group
    path: str
    """Path of the projection in the model."""
    unit_of: Tensor
    """(inputs,): unit of each of its inputs."""

    def projection(self, model: Any) -> nn.Linear:
        """Return the projection of a model."""
        found: nn.Linear = model.get_submodule(self.path)
        return found

    def kept_inputs(self, units: Sequence[int]) -> Tensor:
        """Return which inputs of the projection belong to the units to keep: (inputs,), bool."""
        return torch.isin(self.unit_of, torch.tensor(list(units)))


def removable_units(model: Any, kinds: Sequence[str]) -> dict[str, Removable]:
    """Return the groups of a model whose projection can be refitted, by name.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Classifier of a known family after ``make_trimmable``.
    kinds : sequence of str
        ``heads``, ``feed-forward``.

    """
    found = {}
    for group in groups_of(model, kinds):
        takers = [part for part in group.slices if part.role == "in"]
        if len(takers) != 1 or takers[0].path.split(".")[0] in ROOTS:
            continue
        if isinstance(model.get_submodule(takers[0].path), nn.Linear):
            index = torch.from_numpy(takers[0].index)
            found[group.name] = Removable(group, takers[0].path, index)
    return found


def scores_of_units(
    orders: Mapping[str, tuple[Sequence[int], Sequence[float]]], found: Mapping[str, Removable],
    terms: Sequence[Term],
) -> dict[str, Tensor]:  # fmt: skip
    """Return each unit's score: the error its removal adds, per unit of cost that it saves.

    Within a group, scores do not fall along the order of removal, so that removing those below a
    threshold follows it; the unit that is removed last has an infinite one.

    Parameters
    ----------
    orders : mapping
        Group -> order of removal and what each adds, see ``least_squares.removal_order``.
    found : mapping
        The groups.
    terms : sequence of cost_model.Term
        Terms of the cost.

    """
    table = collect_terms(terms)
    scores = {}
    for name, (order, added) in orders.items():
        ledger = CostTable(table)
        whole = ledger.cost
        ledger.switch(name, 0, on=False)
        saved = whole - ledger.cost
        score = torch.full((found[name].group.units,), torch.inf, dtype=torch.float64)
        rising = torch.cummax(torch.tensor(added, dtype=torch.float64), dim=0).values
        score[torch.tensor(order, dtype=torch.long)] = rising / saved
        scores[name] = score
    return scores
