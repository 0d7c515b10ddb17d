"""Latency as a function of the units a model keeps: variants are exported, timed, and priced.

Each kind of work whose amount the widths change (linear layers, convolutions of three kinds,
attention's products, recurrent layers) gets a price in ms for a multiply-accumulate, and every
window a price of its own, which holds all work that no width changes; both by non-negative least
squares over variants of random widths. What was chosen by these prices is then measured.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.core.console import Ui
from edgeprune.export import timing
from edgeprune.width_pruning.cost_model import Term, by_component
from edgeprune.width_pruning.importance import unit_importance
from edgeprune.width_pruning.masking import masks_of
from edgeprune.width_pruning.removal import trim_to
from edgeprune.width_pruning.units import Group

VARIANTS = 10
"""Models that are timed, the whole one and others of random widths; there are seven prices at most:
of six kinds of work (``costs``), and of a window."""
ALIKE = 1e-9  # amounts that differ by less than this share are the same


def fit_prices(
    model: Any, groups: Sequence[Group], terms: Sequence[Term], window_samples: int, seed: int,
    ui: Ui,
) -> dict[str, float]:  # fmt: skip
    """Return what each kind of work takes here, in ms for a multiply-accumulate.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Copies of it are trimmed at random and timed.
    groups : sequence of Group
    terms : sequence of Term
        Its multiply-accumulates, of ``costs.mac_terms``.
    window_samples : int
    seed : int
        Of the random widths.

    Returns
    -------
    dict
        Component -> ms for a multiply-accumulate; ``always`` -> ms for a window. Components that
        cost the same in every variant have no price: they are part of ``always``.

    """
    generator = np.random.default_rng(seed)
    amounts, measured = [], []
    for variant in ui.track(range(VARIANTS), "latency", VARIANTS):
        keep = random_widths(model, groups, generator) if variant else {}
        trial = copy.deepcopy(model)
        trim_to(trial, keep)
        measured.append(timing.measure_latency(trial, window_samples))
        amounts.append(by_component(terms, masks_of(groups, keep)))
    return price(amounts, measured)


def price(amounts: Sequence[dict[str, float]], measured: Sequence[float]) -> dict[str, float]:
    """Fit prices to amounts of work and the ms they took, by relative error.

    Work that is the same in every row cannot be told from a window's own price, and is part of it.
    """
    from scipy.optimize import nnls

    spans = {name: [row[name] for row in amounts] for name in amounts[0]}
    names = [name for name, all_ in spans.items() if max(all_) - min(all_) > ALIKE * max(all_)]
    design = np.array([[*(row[name] for name in names), 1.0] for row in amounts])
    times: NDArray[np.float64] = np.asarray(measured)
    scale = design.max(axis=0)
    found, _ = nnls(design / scale / times[:, None], np.ones(len(times)))
    return dict(zip((*names, "always"), (found / scale).tolist(), strict=True))


def random_widths(
    model: Any, groups: Sequence[Group], generator: np.random.Generator
) -> dict[str, list[int]]:
    """Draw how many units each group keeps: a share for all, and each group near it."""
    base = generator.uniform(0.2, 0.9)
    scores = unit_importance("random", model, groups, (), _no_loss, int(generator.integers(2**31)))
    keep = {}
    for group in groups:
        share = float(np.clip(base + generator.uniform(-0.3, 0.3), 0.0, 1.0))
        count = max(1, round(share * group.units))
        keep[group.name] = sorted(scores[group.name].argsort()[:count].tolist())
    return keep


def _no_loss(*_: Any) -> Any:
    raise RuntimeError("the random criterion asks for no loss")
