"""The rules that choose layers: for every depth, which layers to keep. Pure, one row a rule.

Layers are counted from 0. Layer 0 stays (arXiv 2409.16302; WavLM's holds what the others read),
unless measurement itself removes it. A rule is a function of what is known of the model
(``Evidence``) and a depth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.depth_pruning.layer_stack import Cut
from edgeprune.metrics.convexity import first_within
from edgeprune.metrics.similarity import segment


@dataclass(frozen=True)
class Evidence:
    """What the rules may look at."""

    layers: int
    convexity: Sequence[float]
    """(layers + 1,): the task's classes, at every state; empty where the task has none."""
    block_influence: Sequence[float]
    """(layers,): 1 - cosine of each block's input and output."""
    angles: NDArray[np.float64]
    """(layers + 1, layers + 1): between states."""
    similarity: NDArray[np.float64]
    """(layers + 1, layers + 1): centred CKA."""
    tolerance: float = 0.01
    """``convexity-plateau``: the first layer this near the peak, as a share of it."""
    removal: Sequence[int] = ()
    """Layers in the order that measurement removed them."""
    seed: int = 0
    """Of the random order."""


def evidence_of(
    scores: Mapping[str, Any], tolerance: float, curve: str = "teacher"
) -> dict[str, Any]:
    """Gather what the rules may look at from a ``score`` stage, as plain values.

    Parameters
    ----------
    scores : mapping
    tolerance : float
        Of ``convexity-plateau``.
    curve : str
        Whose convexity: the ``teacher``'s, or that of the model ``untouched`` by teaching.

    """
    curves = scores["curves"]
    task = curves.get(curve, curves["teacher"]).get(scores["task"], ())
    return {
        "layers": scores["layers"], "convexity": [layer["mean_of_classes"] for layer in task],
        "block_influence": scores["block_influence"], "angles": scores["angular"],
        "similarity": scores["similarity"]["cka"], "tolerance": tolerance,
    }  # fmt: skip


def to_evidence(known: Mapping[str, Any]) -> Evidence:
    """Make the rules' evidence of plain values."""
    matrices = {name: np.array(known[name]) for name in ("angles", "similarity")}
    return Evidence(**{**known, **matrices})


def first_layers(_: Evidence, depth: int) -> Cut:
    """Keep the first layers (arXiv 2408.11858)."""
    return tuple(range(depth))


def last_layers(known: Evidence, depth: int) -> Cut:
    """Keep layer 0 and the last ones (``forward`` of arXiv 2409.16302: drop 1, 2, ...)."""
    return (0, *range(known.layers - depth + 1, known.layers))


def most_influential(known: Evidence, depth: int) -> Cut:
    """Keep the blocks that turn their input furthest; one order, not estimated again."""
    return _after(np.argsort(known.block_influence[1:], kind="stable") + 1, known.layers, depth)


def least_angle(known: Evidence, depth: int) -> Cut:
    """Drop the span of neighbours whose two ends are nearest in angle (Gromov et al. 2024)."""
    span = known.layers - depth
    starts = range(1, known.layers - span + 1)
    start = min(starts, key=lambda i: (float(known.angles[i, i + span]), i))
    return (*range(start), *range(start + span, known.layers))


def between_blocks(known: Evidence, depth: int) -> Cut:
    """Keep the layers that lead from one block of alike states (centred CKA) into the next."""
    if depth == 1:
        return (0,)
    starts = segment(known.similarity[1:, 1:], depth)
    return (0, *starts[1:])


def measured(known: Evidence, depth: int) -> Cut:
    """Keep what measurement removed last."""
    return _after(known.removal, known.layers, depth)


def at_random(known: Evidence, depth: int) -> Cut:
    """Keep layers in a random order: the control."""
    order = np.random.default_rng(known.seed).permutation(np.arange(1, known.layers))
    return _after(order, known.layers, depth)


def _after(removal: Sequence[int] | NDArray[np.int64], layers: int, depth: int) -> Cut:
    gone = {int(layer) for layer in removal[: layers - depth]}
    return tuple(layer for layer in range(layers) if layer not in gone)


def peak(known: Evidence) -> int:
    """Return the depth of the greatest convexity."""
    return first_within(known.convexity, 0.0)


def plateau(known: Evidence) -> int:
    """Return the first depth near the greatest convexity."""
    return first_within(known.convexity, known.tolerance)


@dataclass(frozen=True)
class SelectionRule:
    """One way of choosing layers."""

    keep: Callable[[Evidence, int], Cut]
    """The layers to keep at a depth."""
    about: str
    """One line for people."""
    depth: Callable[[Evidence], int] | None = None
    """The depth the rule itself names; None where it only orders the layers."""
    measured: str = ""
    """``plain`` or ``bridged`` where the order comes from measured removal."""


RANDOM = "random"
TWINS = ("convexity-peak", "convexity-plateau")  # their layers are those of `backward`
RULES: dict[str, SelectionRule] = {
    "convexity-peak": SelectionRule(
        first_layers, "cut after the layer of greatest convexity", peak
    ),
    "convexity-plateau": SelectionRule(
        first_layers, "cut after the first layer near the greatest convexity", plateau
    ),
    "backward": SelectionRule(first_layers, "drop the last layers first"),
    "forward": SelectionRule(last_layers, "drop the first layers first, but layer 0"),
    "block-influence": SelectionRule(
        most_influential, "drop the blocks that change their input least"
    ),
    "angular-span": SelectionRule(least_angle, "drop the one span whose ends are nearest in angle"),
    "similarity-block": SelectionRule(between_blocks, "one layer into each block of alike states"),
    "greedy-ablation": SelectionRule(
        measured, "drop the layer that costs least, measured, again and again", measured="plain"
    ),
    "greedy-bridged": SelectionRule(
        measured, "the same with a linear bridge over each gap, which it needs", measured="bridged"
    ),
    RANDOM: SelectionRule(at_random, "the control"),
}
