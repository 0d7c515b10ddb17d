"""Learn which units to keep: gates sit on a model's groups and are trained with it.

    model.edgeprune_gates         one number a unit; closed ones are masked in every forward pass
    model.edgeprune_multipliers   the two numbers that weigh the cost (``gates.lagrangian``)

Both are modules of the model while it trains, so that the training's checkpoints hold them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune import gates
from edgeprune.costs import Term, tabulate, total
from edgeprune.masking import attach, detach
from edgeprune.units import Group

GATES, MULTIPLIERS = "edgeprune_gates", "edgeprune_multipliers"
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

    """

    done: Tensor

    def __init__(self, groups: Sequence[Group], kind: str, steps: int) -> None:
        super().__init__()
        self.names = [group.name for group in groups]
        self.kind = kind
        self.values = nn.ParameterList(
            torch.full((group.units,), gates.OPEN[kind]) for group in groups
        )
        self.warmup = WARMUP * steps
        self.register_buffer("done", torch.zeros(()))
        self.drawn: dict[str, Tensor] = {}

    def draw(self) -> None:
        """Draw the masks of a forward pass: all places of a unit see the same."""
        for name, value in zip(self.names, self.values, strict=True):
            self.drawn[name] = (
                gates.straight_through(value) if self.kind == "straight-through"
                else gates.hard_concrete(value, self.training)
            )  # fmt: skip

    def left(self) -> dict[str, Tensor]:
        """Return what is left of each unit, for the cost: open or not, or the chance of it."""
        if self.kind == "straight-through":
            return dict(self.drawn)
        return {n: gates.chance_open(v) for n, v in zip(self.names, self.values, strict=True)}

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
def gated(model: Any, groups: Sequence[Group], kind: str, steps: int) -> Iterator[Gates]:
    """Put gates on a model's groups for a while."""
    made = Gates(groups, kind, steps)
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
    task: Callable[[Any, Tensor, Tensor, int], Tensor], terms: Sequence[Term], goal: float,
    mask_loss: str,
) -> Callable[[Any, Tensor, Tensor, int], Tensor]:  # fmt: skip
    """Return the loss of a gated model: the task's, and what closes the gates.

    Parameters
    ----------
    task : callable
        Loss of ``train.fit``.
    terms : sequence of Term
        Of the cost.
    goal : float
        What may be left of it.
    mask_loss : str
        ``lagrangian``: the share of the cost is driven to the goal's; ``genova``: the mean of the
        gates is.

    """
    table = tabulate(terms)
    full = float(total(table, {}))

    def loss(model: Any, samples: Tensor, targets: Tensor, epoch: int) -> Tensor:
        value = task(model, samples, targets, epoch)
        made: Gates = getattr(model, GATES)
        target = gates.warmed_target(float(made.done), made.warmup, goal / full)
        if model.training:
            made.done += 1
        if mask_loss == "genova":
            return value + gates.genova(list(made.values), goal / full)
        share = total(table, made.left()).to(value) / full
        return value + gates.lagrangian(share, target, getattr(model, MULTIPLIERS).values)

    return loss


def state_mask_of(groups: Sequence[Group], made: Gates) -> Callable[[], Tensor | None]:
    """Return what gives the mask of the last states, coordinate by coordinate."""
    with_states = [group for group in groups if group.states]
    if not with_states:
        return lambda: None
    last = with_states[-1]
    index = torch.from_numpy(last.slices[0].index)
    return lambda: made.drawn[last.name][index.to(made.done.device)]
