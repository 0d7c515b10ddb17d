"""Learning which units to keep: gates on a model's groups that are trained with it.

    model.edgeprune_gates         one number per unit; closed gates mask units in the forward pass
    model.edgeprune_multipliers   the two weights of the cost penalty (``gates.lagrangian``)

Both are modules of the model during training, so that the training's checkpoints contain them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeprune.width_pruning import gates
from edgeprune.width_pruning.cost_model import CostTable, CostTerms, total, whole
from edgeprune.width_pruning.masking import attach, detach
from edgeprune.width_pruning.units import Group

GATES, MULTIPLIERS = "edgeprune_gates", "edgeprune_multipliers"
TINY = 1e-6
SPREAD, HALVINGS = 10.0, 24  # a threshold this far from all gates opens or closes all of them
MULTIPLIER_RATE = 0.5
"""Learning rate of the multipliers, which reach the scale of the loss in a few hundred steps."""
WARMUP = 0.5
"""Share of the steps after which the cost should reach its target."""


class Gates(nn.Module):
    """A gate for every unit of some groups.

    Parameters
    ----------
    groups : sequence of Group
        Groups of units.
    kind : str
        ``straight-through`` or ``hard-concrete``.
    steps : int
        Number of training steps.
    table : CostTerms
        Terms of the cost.
    share : float
        Share of the cost to keep in the end.
    budget : bool
        Place the threshold so that the cost equals its current target, whatever the gates' values
        (the best units stay, as in movement pruning: Sanh, Wolf, Rush 2020, arXiv 2005.07683);
        otherwise the threshold is 0.
    ranks : mapping, optional
        Group -> rank of each unit among all (units,), from 0 to 1: initial order of the gates;
        without it, all gates start equal.

    """

    done: Tensor

    def __init__(
        self, groups: Sequence[Group], kind: str, steps: int, table: CostTerms, share: float,
        budget: bool, ranks: Mapping[str, Tensor] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.table, self.share, self.budget, self.kind = table, share, budget, kind
        self.full = float(total(table, {}))
        self.names = [group.name for group in groups]
        self.values = nn.ParameterList(
            gates.OPEN[kind]
            * (torch.ones(group.units) if ranks is None else 0.5 + ranks[group.name])
            for group in groups
        )
        self.warmup = WARMUP * steps
        self.register_buffer("done", torch.zeros(()))
        self.drawn: dict[str, Tensor] = {}
        self.threshold = 0.0
        self._ledger = CostTable(table)
        self._placed_for: tuple[int, ...] = ()

    @property
    def target(self) -> float:
        """Share of the cost that should remain at the current step."""
        return gates.warmed_target(float(self.done), self.warmup, self.share)

    def draw(self) -> None:
        """Draw the masks of a forward pass; they are the same at all places of a unit.

        The threshold is placed once per optimizer step and kept until the next one, so that all
        passes of an evaluation use the same masks.
        """
        state = tuple(tensor._version for tensor in (*self.values, self.done))
        if self.budget and state != self._placed_for:
            self.threshold, self._placed_for = self._placed(), state
        for name, value in zip(self.names, self.values, strict=True):
            above = value - self.threshold
            if self.kind == "hard-concrete":
                self.drawn[name] = gates.hard_concrete(above, self.training)
            else:  # every group keeps its best unit
                best = above.detach().max()
                self.drawn[name] = gates.straight_through(
                    above - best.clamp_max(0.0) + TINY * (best <= 0)
                )

    def _placed(self) -> float:
        """Return the highest threshold that leaves at least the current target."""
        every = torch.cat([value.detach() for value in self.values]).cpu().double().numpy()
        ends = np.cumsum([len(value) for value in self.values])[:-1]
        values = dict(zip(self.names, np.split(every, ends), strict=True))
        wanted = self.target * self.full
        if self.kind == "hard-concrete":
            return self._placed_between(values, float(every.min()), float(every.max()), wanted)
        return self._placed_at(values, np.unique(every), wanted)

    def _placed_at(
        self, values: Mapping[str, NDArray[np.float64]], ranks: NDArray[np.float64], wanted: float
    ) -> float:
        """Place the threshold at one of the gates (ranks, ascending), by bisection; it closes."""
        low, high = -1, len(ranks)  # at -1 every gate is open
        while high - low > 1:
            middle = (low + high) // 2
            masks = {name: value > min(ranks[middle], value.max() - TINY)
                     for name, value in values.items()}  # fmt: skip
            low, high = (
                (middle, high) if self._ledger.cost_under(masks) >= wanted else (low, middle)
            )
        return float(ranks[low]) if low >= 0 else float(ranks[0]) - SPREAD

    def _placed_between(
        self, values: Mapping[str, NDArray[np.float64]], least: float, most: float, wanted: float
    ) -> float:
        """Place the threshold by the probabilities that gates are open, by bisection."""
        low, high = least - SPREAD, most + SPREAD
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            masks = {name: gates.chance_open(torch.from_numpy(value - middle)).numpy()
                     for name, value in values.items()}  # fmt: skip
            low, high = (
                (middle, high) if self._ledger.cost_under(masks) >= wanted else (low, middle)
            )
        return low

    def cost_masks(self) -> dict[str, Tensor]:
        """Return the masks for the cost: the drawn ones, or the probability of being open."""
        if self.kind == "straight-through":
            return dict(self.drawn)
        named = zip(self.names, self.values, strict=True)
        return {name: gates.chance_open(value - self.threshold) for name, value in named}

    def scores(self) -> dict[str, Tensor]:
        """Return every unit's gate value; units with the lowest are removed first."""
        return {
            name: value.detach().cpu().clone()
            for name, value in zip(self.names, self.values, strict=True)
        }


class Multipliers(nn.Module):
    """Multipliers (l1, l2) of the cost penalty."""

    def __init__(self) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(2))


@contextmanager
def attach_gates(model: Any, groups: Sequence[Group], made: Gates) -> Iterator[Gates]:
    """Put gates on a model's groups, temporarily."""
    setattr(model, GATES, made)
    setattr(model, MULTIPLIERS, Multipliers())
    draws = {name: (lambda name=name: made.drawn[name]) for name in made.names}
    handles = attach(model, groups, draws)
    handles.append(model.register_forward_pre_hook(lambda *_: made.draw()))
    try:
        yield made
    finally:
        detach(handles)
        delattr(model, GATES)
        delattr(model, MULTIPLIERS)


def gated_loss(
    task: Callable[[Any, Tensor, Tensor, int], Tensor], share: float, mask_loss: str
) -> Callable[[Any, Tensor, Tensor, int], Tensor]:
    """Return the loss of a gated model: the task's loss plus a term that closes the gates.

    Parameters
    ----------
    task : callable
        Loss as for ``loop.fit``.
    share : float
        Share of the cost to keep.
    mask_loss : str
        ``budget``: no further term, the gates' threshold controls the cost; ``lagrangian``: drives
        the kept share of the cost to ``share``; ``genova``: drives the mean of the gates to it.

    """

    def loss(model: Any, samples: Tensor, targets: Tensor, epoch: int) -> Tensor:
        value = task(model, samples, targets, epoch)
        made: Gates = getattr(model, GATES)
        target = made.target
        if model.training:
            made.done += 1
        if mask_loss == "budget":
            return value
        if mask_loss == "genova":
            return value + gates.genova(list(made.values), share)
        left = total(made.table, made.cost_masks()).to(value) / made.full
        multipliers = getattr(model, MULTIPLIERS).values
        gates.restart(multipliers, float(left.detach()) - target)
        return value + gates.lagrangian(left, target, multipliers)

    return loss


def state_mask_of(groups: Sequence[Group], made: Gates) -> Callable[[], Tensor | None]:
    """Return a function that returns the mask of the last hidden states, per coordinate."""
    with_states = [group for group in groups if group.states]
    if not with_states:
        return lambda: None
    last = with_states[-1]
    index = torch.from_numpy(last.slices[0].index)
    return lambda: made.drawn[last.name][index.to(made.drawn[last.name].device)]


def ranks_of(
    scores: Mapping[str, Tensor], groups: Sequence[Group], table: CostTerms
) -> dict[str, Tensor]:
    """Return each unit's rank among all by importance relative to its cost, from 0 to 1.

    Parameters
    ----------
    scores : mapping
        Group -> importance (units,), comparable between groups (``taylor``).
    groups : sequence of Group
        Groups of units.
    table : CostTerms
        Terms of the cost; a unit's cost is that of the whole model minus the model without it.

    """
    masks = {name: mask.requires_grad_() for name, mask in whole(groups).items()}
    prices = torch.autograd.grad(total(table, masks), list(masks.values()), allow_unused=True)
    worth = [
        scores[name] / (torch.ones_like(scores[name]) if price is None else price).clamp_min(TINY)
        for name, price in zip(masks, prices, strict=True)
    ]
    every = torch.cat(worth)
    places = every.argsort().argsort().float() / max(1, len(every) - 1)
    parts = torch.split(places, [len(part) for part in worth])
    return dict(zip(masks, parts, strict=True))
