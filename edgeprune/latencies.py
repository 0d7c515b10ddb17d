"""Latency as a function of the units a model keeps: variants are exported, timed, and priced.

Each kind of work whose amount the widths change (linear layers, convolutions of three kinds,
attention's products, recurrent layers) gets a price in ms for a multiply-accumulate, and every
window a price of its own, which holds all work that no width changes; both by non-negative least
squares over variants of random widths. What was chosen by these prices is then measured.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.console import Ui
from edgeprune.costs import Term, by_component
from edgeprune.criteria import unit_importance
from edgeprune.export_onnx import onnx_runner, to_onnx
from edgeprune.masking import masks_of
from edgeprune.trimming import trim_to
from edgeprune.units import Group

OPSET = 18
VARIANTS = 10
"""Models that are timed, the whole one and others of random widths; there are seven prices at most:
of six kinds of work (``costs``), and of a window."""
ALIKE = 1e-9  # amounts that differ by less than this share are the same
TIMED_SECONDS = 0.5
FEWEST_RUNS = 7


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
        measured.append(measure_latency(trial, window_samples))
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


def measure_latency(model: Any, window_samples: int) -> float:
    """Return the ms of a window through a model's exported file: one thread, median."""
    return time_onnx(to_onnx(model, window_samples, OPSET), window_samples)


def time_onnx(data: bytes, window_samples: int) -> float:
    """Return the median ms of a window through an ONNX file on one thread, after a warm-up."""
    return time_run(onnx_runner(data), window_samples)


def time_run(run: Callable[[NDArray[np.float32]], Any], window_samples: int) -> float:
    """Return the median ms of a window through a file that is open, after a warm-up."""
    generator = np.random.default_rng(0)
    samples = (generator.standard_normal((1, window_samples)) * 0.1).astype(np.float32)
    for _ in range(2):
        run(samples)
    spent: list[float] = []
    end = time.perf_counter() + TIMED_SECONDS
    while len(spent) < FEWEST_RUNS or time.perf_counter() < end:
        start = time.perf_counter()
        run(samples)
        spent.append(time.perf_counter() - start)
    return 1000 * float(np.median(spent))


def _no_loss(*_: Any) -> Any:
    raise RuntimeError("the random criterion asks for no loss")
