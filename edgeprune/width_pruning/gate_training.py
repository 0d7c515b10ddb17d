"""Learn which units to keep: gates sit on a model's groups and are trained with it.

    model.edgeprune_gates         one number a unit; closed ones are masked in every forward pass
    model.edgeprune_multipliers   the two numbers that weigh the cost (``gates.lagrangian``)

Both are modules of the model while it trains, so that the training's checkpoints hold them.
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
SPREAD, HALVINGS = 10.0, 24  # a threshold this far from all gates opens or closes them
MULTIPLIER_RATE = 0.5
"""Learning rate of the multipliers: they reach the size of a loss's slope in a few hundred steps."""
WARMUP = 0.5
"""Share of the steps after which the cost should be what was asked."""


class Gates(nn.Module):
    """A gate for every unit of some groups.

    Parameters
    ----------
    groups : sequence of Group
    kind : str
        ``straight-through`` or ``hard-concrete``.
    steps : int
        Training steps to come.
    table : Table
        The cost.
    share : float
        What may be left of it in the end.
    budget : bool
        The threshold stands where the cost that is left is the one it should be by now, whatever
        the gates' values (the best stay, as in movement pruning: Sanh, Wolf, Rush 2020, arXiv
        2005.07683); else it stands at 0.
    ranks : mapping, optional
        Group's name -> where each of its units stands among all (units,), from 0 to 1: gates begin
        in this order; without it they begin alike.

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
        """What should be left of the cost by now."""
        return gates.warmed_target(float(self.done), self.warmup, self.share)

    def draw(self) -> None:
        """Draw the masks of a forward pass: all places of a unit see the same.

        The threshold is placed once for every step of the optimizer, and used again until the next:
        evaluation's many passes see the same masks.
        """
        state = tuple(tensor._version for tensor in (*self.values, self.done))
        if self.budget and state != self._placed_for:
            self.threshold, self._placed_for = self._placed(), state
        for name, value in zip(self.names, self.values, strict=True):
            above = value - self.threshold
            if self.kind == "hard-concrete":
                self.drawn[name] = gates.hard_concrete(above, self.training)
            else:  # every group keeps its best
                best = above.detach().max()
                self.drawn[name] = gates.straight_through(
                    above - best.clamp_max(0.0) + TINY * (best <= 0)
                )

    def _placed(self) -> float:
        """Return the highest threshold that still leaves what should be left by now."""
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
        """Place it at one of the gates (ranks, ascending), which closes: by bisection."""
        low, high = -1, len(ranks)  # at -1 every gate is open
        while high - low > 1:
            middle = (low + high) // 2
            masks = {name: value > min(ranks[middle], value.max() - TINY)
                     for name, value in values.items()}  # fmt: skip
            low, high = (middle, high) if self._ledger.under(masks) >= wanted else (low, middle)
        return float(ranks[low]) if low >= 0 else float(ranks[0]) - SPREAD

    def _placed_between(
        self, values: Mapping[str, NDArray[np.float64]], least: float, most: float, wanted: float
    ) -> float:
        """Place it by the chances that gates are open, which fall smoothly: by halving."""
        low, high = least - SPREAD, most + SPREAD
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            masks = {name: gates.chance_open(torch.from_numpy(value - middle)).numpy()
                     for name, value in values.items()}  # fmt: skip
            low, high = (middle, high) if self._ledger.under(masks) >= wanted else (low, middle)
        return low

    def left(self) -> dict[str, Tensor]:
        """Return what is left of each unit, for the cost: open or not, or the chance of it."""
        if self.kind == "straight-through":
            return dict(self.drawn)
        named = zip(self.names, self.values, strict=True)
        return {name: gates.chance_open(value - self.threshold) for name, value in named}

    def scores(self) -> dict[str, Tensor]:
        """Return every unit's gate; the lowest goes first."""
        return {
            name: value.detach().cpu().clone()
            for name, value in zip(self.names, self.values, strict=True)
        }


class Multipliers(nn.Module):
    """What the cost weighs (l1, l2)."""

    def __init__(self) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(2))


@contextmanager
def gated(model: Any, groups: Sequence[Group], made: Gates) -> Iterator[Gates]:
    """Put gates on a model's groups for a while."""
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
    """Return the loss of a gated model: the task's, and what closes the gates.

    Parameters
    ----------
    task : callable
        Loss of ``train.fit``.
    share : float
        What may be left of the cost.
    mask_loss : str
        ``budget``: nothing, the gates' threshold sees to the cost; ``lagrangian``: the share of the
        cost that is left is driven to this one; ``genova``: the mean of the gates is.

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
        left = total(made.table, made.left()).to(value) / made.full
        multipliers = getattr(model, MULTIPLIERS).values
        gates.restart(multipliers, float(left.detach()) - target)
        return value + gates.lagrangian(left, target, multipliers)

    return loss


def state_mask_of(groups: Sequence[Group], made: Gates) -> Callable[[], Tensor | None]:
    """Return what gives the mask of the last states, coordinate by coordinate."""
    with_states = [group for group in groups if group.states]
    if not with_states:
        return lambda: None
    last = with_states[-1]
    index = torch.from_numpy(last.slices[0].index)
    return lambda: made.drawn[last.name][index.to(made.drawn[last.name].device)]


def ranks_of(
    scores: Mapping[str, Tensor], groups: Sequence[Group], table: CostTerms
) -> dict[str, Tensor]:
    """Return where each unit stands among all by its importance for what it costs, from 0 to 1.

    Parameters
    ----------
    scores : mapping
        Group's name -> importance (units,), comparable between groups (``taylor``).
    groups : sequence of Group
    table : Table
        The cost; a unit's is what the whole model would cost less without it.

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
