"""Latency as a function of the units a model keeps, fitted to measured variants.

Each kind of operation whose amount depends on widths (linear layers, three kinds of convolutions,
attention's products, recurrent layers) gets a price in ms per multiply-accumulate, and every window
a constant price for everything else; both by non-negative least squares over variants of random
widths. A choice made by these prices is measured afterwards.
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
"""Number of models that are timed, the whole one and others of random widths. There are at most
seven prices: of six kinds of operations (``cost_model``), and of a window."""
ALIKE = 1e-9  # amounts whose relative difference is smaller are equal


def fit_prices(
    model: Any, groups: Sequence[Group], terms: Sequence[Term], window_samples: int, seed: int,
    ui: Ui,
) -> dict[str, float]:  # fmt: skip
    """Return the time of each kind of operation here, in ms per multiply-accumulate.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Model; copies of it are trimmed at random and timed.
    groups : sequence of Group
        Groups of its units.
    terms : sequence of Term
        Its multiply-accumulates, from ``cost_model.mac_terms``.
    window_samples : int
        Samples per window.
    seed : int
        Random seed of the widths.
    ui : Ui
        Progress display.

    Returns
    -------
    dict
        Component -> ms per multiply-accumulate; ``always`` -> ms per window. Components with the
        same amount in every variant have no price: they are part of ``always``.

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
    """Fit prices to amounts of operations and measured ms, by relative error.

    Operations with the same amount in every row are part of the price of a window.
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
    """Draw how many units each group keeps: around a common random share."""
    base = generator.uniform(0.2, 0.9)
    scores = unit_importance("random", model, groups, (), _no_loss, int(generator.integers(2**31)))
    keep = {}
    for group in groups:
        share = float(np.clip(base + generator.uniform(-0.3, 0.3), 0.0, 1.0))
        count = max(1, round(share * group.units))
        keep[group.name] = sorted(scores[group.name].argsort()[:count].tolist())
    return keep


def _no_loss(*_: Any) -> Any:
    raise RuntimeError("the criterion random has no loss")
