"""A record of scores in which little was measured: each figure costs a fifth of a second to draw."""

from __future__ import annotations

from typing import Any

from scores_fixture import make_scores

OPTIONAL = ("euclidean", "similarity", "angular", "ablation", "block_influence",
            "picks", "measured_on", "convexity_against_accuracy", "verdict")  # fmt: skip
ACCURACY = ("picks", "measured_on", "verdict")
"""What the plots of accuracy against depth are drawn from."""


def scores_with(*kept: str, layers: int = 3, labelings: tuple[str, ...] = ("word",)) -> Any:
    """Return a record in which only these optional parts are there, and every curve."""
    scores = make_scores(layers, labelings)
    return scores | {part: None for part in OPTIONAL if part not in kept}


def measured_only(scores: dict[str, Any], *fields: str) -> None:
    """Leave only some accuracies (``accuracy``, ``bridged_accuracy``, ...) in every rule's depths."""
    for pick in scores["picks"].values():
        for depth in pick["depths"]:
            for field in ("accuracy", "bridged_accuracy", "finetuned_accuracy"):
                if field not in fields:
                    depth[field] = None
