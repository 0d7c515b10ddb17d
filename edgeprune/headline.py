"""The first sentence of a score report: what to keep, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeprune.console import in_points, layer_list, points
from edgeprune.picks import RANDOM, TWINS


def headline(facts: Mapping[str, Any]) -> str:
    """Say what to keep and why, in a sentence or two."""
    layers, peak = facts["layers"], facts["first_within_1_percent"]["teacher"]
    where = (f"convexity of {facts['task']!r} first comes within 1 % of its peak after "
             f"{peak} of {layers} layers")  # fmt: skip
    if not facts["picks"]:
        return f"By convexity alone, cut there: {where}. No cut was measured."
    base = facts["measured_on"]["baseline"]
    parts = []
    if plain := _best(facts["picks"], layers, "held", "valid_accuracy"):
        rule, row = plain
        parts.append(f"Keep {_listed(row['keep'])} of {layers} ({rule}): without retraining it gets "
                     f"{points(row['accuracy'])} of the test clips right, the whole model "
                     f"{points(base)}; chosen to lose at most {in_points(facts['max_drop'])} on the "
                     "validation clips")  # fmt: skip
    else:
        parts.append(f"Keep all {layers} layers unless you retrain: no rule drops one within "
                     f"{in_points(facts['max_drop'])} of {points(base)}")  # fmt: skip
    if bridged := _best(facts["picks"], layers, "held_95_bridged", "bridged_valid_accuracy"):
        rule, row = bridged
        accuracy = row["bridged_accuracy"]
        kept = f", {points(accuracy / base)} of that" if base else ""
        parts.append(f"with linear bridges over the gaps, {_listed(row['keep'])} alone ({rule}) "
                     f"{'get' if len(row['keep']) > 1 else 'gets'} {points(accuracy)}{kept}, without "
                     f"{points(1 - row['layers'] / layers)} of the layers")  # fmt: skip
    return f"{'; '.join(parts)}; {where}."


def _best(
    picks: Mapping[str, Any], layers: int, floor: str, accuracy: str
) -> tuple[str, Mapping[str, Any]] | None:
    """Return the rule that drops most at a floor, and its row; the better of equals.

    Both are seen on validation clips. Rules whose layers are another's, and the control, stand back.
    """
    rows = [
        (rule, next(d for d in pick["depths"] if d["layers"] == pick[floor]))
        for rule, pick in picks.items()
        if pick[floor] and pick[floor] < layers and rule not in (RANDOM, *TWINS)
    ]
    return min(rows, key=lambda r: (r[1]["layers"], -r[1][accuracy]), default=None)


def _listed(keep: Sequence[int]) -> str:
    return f"layer{'s' * (len(keep) > 1)} {layer_list(keep)}"
