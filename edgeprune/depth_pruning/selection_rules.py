"""Selection rules: for every depth, which layers to keep; one row per rule.

Layers are counted from 0. Layer 0 is kept (as in arXiv 2409.16302; the other layers of WavLM use
its parameters), unless measured removal removes it. A rule is a function of what is known about the
model (``Evidence``) and a depth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.depth_pruning.layer_stack import LayerSubset
from edgeprune.metrics.convexity import first_within
from edgeprune.metrics.similarity import segment


@dataclass(frozen=True)
class Evidence:
    """Input of the rules."""

    layers: int
    convexity: Sequence[float]
    """(layers + 1,): convexity of the task's classes per hidden state; empty without classes."""
    block_influence: Sequence[float]
    """(layers,): 1 - cosine between each block's input and output."""
    angles: NDArray[np.float64]
    """(layers + 1, layers + 1): angle between hidden states, as a share of half a turn."""
    similarity: NDArray[np.float64]
    """(layers + 1, layers + 1): centred linear CKA."""
    tolerance: float = 0.01
    """``convexity-plateau``: how close to the peak, as a share of it."""
    removal: Sequence[int] = ()
    """Layers in the order of measured removal."""
    seed: int = 0
    """Random seed of the rule ``random``."""


def evidence_of(
    scores: Mapping[str, Any], tolerance: float, curve: str = "teacher"
) -> dict[str, Any]:
    """Collect the input of the rules from the stage ``score``, as plain values.

    Parameters
    ----------
    scores : mapping
        Content of ``layers.json``.
    tolerance : float
        Tolerance of ``convexity-plateau``, as a share of the peak.
    curve : str
        Model of the convexity curve: the ``teacher``, or ``untouched`` (before fine-tuning).

    """
    curves = scores["curves"]
    task = curves.get(curve, curves["teacher"]).get(scores["task"], ())
    return {
        "layers": scores["layers"], "convexity": [layer["mean_of_classes"] for layer in task],
        "block_influence": scores["block_influence"], "angles": scores["angular"],
        "similarity": scores["similarity"]["cka"], "tolerance": tolerance,
    }  # fmt: skip


def to_evidence(known: Mapping[str, Any]) -> Evidence:
    """Convert plain values to ``Evidence``."""
    matrices = {name: np.array(known[name]) for name in ("angles", "similarity")}
    return Evidence(**{**known, **matrices})


def first_layers(_: Evidence, depth: int) -> LayerSubset:
    """Keep the first layers (arXiv 2408.11858)."""
    return tuple(range(depth))


def last_layers(known: Evidence, depth: int) -> LayerSubset:
    """Keep layer 0 and the last layers (``forward`` of arXiv 2409.16302: remove 1, 2, ...)."""
    return (0, *range(known.layers - depth + 1, known.layers))


def most_influential(known: Evidence, depth: int) -> LayerSubset:
    """Keep the blocks with the greatest block influence, estimated once on the whole model."""
    return _after(np.argsort(known.block_influence[1:], kind="stable") + 1, known.layers, depth)


def least_angle(known: Evidence, depth: int) -> LayerSubset:
    """Remove the span of layers with the least angle between its ends (Gromov et al. 2024)."""
    span = known.layers - depth
    starts = range(1, known.layers - span + 1)
    start = min(starts, key=lambda i: (float(known.angles[i, i + span]), i))
    return (*range(start), *range(start + span, known.layers))


def between_blocks(known: Evidence, depth: int) -> LayerSubset:
    """Keep the layers that lead from one block of similar hidden states (CKA) to the next."""
    if depth == 1:
        return (0,)
    starts = segment(known.similarity[1:, 1:], depth)
    return (0, *starts[1:])


def measured(known: Evidence, depth: int) -> LayerSubset:
    """Keep the layers that measured removal removed last."""
    return _after(known.removal, known.layers, depth)


def at_random(known: Evidence, depth: int) -> LayerSubset:
    """Keep layers in a random order, as a control."""
    order = np.random.default_rng(known.seed).permutation(np.arange(1, known.layers))
    return _after(order, known.layers, depth)


def _after(removal: Sequence[int] | NDArray[np.int64], layers: int, depth: int) -> LayerSubset:
    gone = {int(layer) for layer in removal[: layers - depth]}
    return tuple(layer for layer in range(layers) if layer not in gone)


def peak(known: Evidence) -> int:
    """Return the depth with the greatest convexity."""
    return first_within(known.convexity, 0.0)


def plateau(known: Evidence) -> int:
    """Return the first depth near the greatest convexity."""
    return first_within(known.convexity, known.tolerance)


@dataclass(frozen=True)
class SelectionRule:
    """One rule for choosing layers."""

    keep: Callable[[Evidence, int], LayerSubset]
    """(evidence, depth) -> layers to keep."""
    about: str
    """Description in one line."""
    depth: Callable[[Evidence], int] | None = None
    """Evidence -> depth that the rule proposes; None if it only orders the layers."""
    measured: str = ""
    """``plain`` or ``bridged`` if the order comes from measured removal."""


RANDOM = "random"
TWINS = ("convexity-peak", "convexity-plateau")  # keep the same layers as `backward`
RULES: dict[str, SelectionRule] = {
    "convexity-peak": SelectionRule(
        first_layers, "keep the first layers, up to the greatest convexity", peak
    ),
    "convexity-plateau": SelectionRule(
        first_layers,
        "keep the first layers, up to the first one near the greatest convexity",
        plateau,
    ),
    "backward": SelectionRule(first_layers, "remove the last layers first"),
    "forward": SelectionRule(last_layers, "remove the first layers first, except layer 0"),
    "block-influence": SelectionRule(
        most_influential, "remove the blocks that change their input least"
    ),
    "angular-span": SelectionRule(
        least_angle, "remove the one span with the least angle between its ends"
    ),
    "similarity-block": SelectionRule(
        between_blocks, "keep one layer per block of similar hidden states"
    ),
    "greedy-ablation": SelectionRule(
        measured, "repeatedly remove the layer with the smallest measured loss", measured="plain"
    ),
    "greedy-bridged": SelectionRule(
        measured, "the same, with a linear bridge over each gap", measured="bridged"
    ),
    RANDOM: SelectionRule(at_random, "random layers, as a control"),
}
