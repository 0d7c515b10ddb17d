"""What the measurements come to: a row for every rule and depth, the rule that won, one headline.

Rules choose on validation clips and are compared on the same test clips. A rule's score is its
accuracy averaged over all depths; the difference to the next is tested in pairs (sign flips, whole
groups together). The three rules that keep the first layers differ only in the depth they name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from edgeprune import __version__
from edgeprune.audio import load_windows, read_description
from edgeprune.console import Ui, layer_list, points
from edgeprune.measure import cut_name, gather_evidence, groups_of_clips, some_clips
from edgeprune.picks import RULES
from edgeprune.settings import Settings
from edgeprune.statistics import bootstrap_interval, rank_correlation, sign_flip_test

SCHEMA_VERSION = 1
KEPT_SHARE = 0.95  # of the whole model's accuracy: the bar of arXiv 2409.16302
SIGNIFICANT = 0.05
TWINS = ("convexity-peak", "convexity-plateau")  # their layers are those of `backward`
NOT_COMPARED = ("random", "greedy-bridged", *TWINS)


def join(
    model: str, clips: Path, scores: Path, measured: Path | str, finetuned: Path | str, *,
    out: Path, settings: Settings, ui: Ui,
) -> None:  # fmt: skip
    """Write the whole ``scores.json`` from what the stages found."""
    del ui
    found = json.loads((scores / "scores.json").read_text("utf-8"))
    data = read_description(clips)
    facts: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION, "edgeprune_version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": model, "data": data["source"], "data_digest": data["digest"], **found,
        "euclidean": None, "ablation": None, "picks": None, "max_drop": settings.max_drop,
        "measured_on": None, "convexity_against_accuracy": None, "verdict": None,
    }  # fmt: skip
    if measured:
        facts |= _measured(clips, found, Path(measured), finetuned, settings)
    facts["headline"] = headline(facts)
    (out / "scores.json").write_text(json.dumps(facts, indent=1), "utf-8")


def _measured(
    clips: Path, found: Mapping[str, Any], folder: Path, finetuned: Path | str, settings: Settings
) -> dict[str, Any]:
    known = json.loads((folder / "measured.json").read_text("utf-8"))
    trained = (
        json.loads((Path(finetuned) / "finetuned.json").read_text("utf-8")) if finetuned else {}
    )
    evidence = gather_evidence(found, settings.prune.tolerance)
    picks = pick_table(known, trained, settings.max_drop)
    for name, rule in RULES.items():
        if name in picks and rule.depth:
            picks[name]["proposed"] = rule.depth(evidence)
    tested = some_clips(load_windows(clips), "test", settings.measure.clips)
    groups = groups_of_clips(tested)
    stored = load_file(folder / "right.safetensors")
    right = {name: values.astype(float) for name, values in stored.items()}
    on = {
        **known["measured_on"],
        "group": read_description(clips)["group_column"] if groups else "",
    }
    curve = evidence.convexity
    return {
        "euclidean": known["euclidean"], "ablation": known["ablation"], "picks": picks,
        "measured_on": on, "seconds": {**found["seconds"], **known["seconds"]},
        "convexity_against_accuracy": against(curve, picks["backward"]["depths"]),
        "verdict": compare(known["keeps"], right, groups),
    }  # fmt: skip


def pick_table(
    known: Mapping[str, Any], trained: Mapping[str, Any], max_drop: float
) -> dict[str, dict[str, Any]]:
    """Return every rule's depths with what was measured, and the fewest layers that hold.

    Parameters
    ----------
    known : mapping
        ``measured.json``.
    trained : mapping
        ``finetuned.json``, or empty.
    max_drop : float
        Accuracy that may be lost, as a share of all clips.

    """
    whole = known["cuts"][cut_name(range(known["layers"]))]
    found: dict[str, dict[str, Any]] = {}
    for rule in RULES:
        orders = [keeps for name, keeps in known["keeps"].items() if name.split()[0] == rule]
        if not orders:
            continue
        depths = []
        for depth in orders[0]:
            rows = [known["cuts"][cut_name(keeps[depth])] for keeps in orders]
            after = trained.get(cut_name(orders[0][depth]), {})
            row = {"layers": int(depth), **_mean(rows), "keep": rows[0]["keep"],
                   "finetuned_accuracy": after.get("accuracy"),
                   "finetuned_interval": after.get("interval"),
                   "finetuned_valid_accuracy": after.get("valid_accuracy")}  # fmt: skip
            if len(rows) > 1:
                row["draws"] = [r["accuracy"] for r in rows]
            depths.append(row)
        floors = {"held": (whole["valid_accuracy"] - max_drop, "valid_accuracy"),
                  "held_95": (KEPT_SHARE * whole["valid_accuracy"], "valid_accuracy"),
                  "held_95_bridged": (KEPT_SHARE * whole["valid_accuracy"],
                                      "bridged_valid_accuracy")}  # fmt: skip
        held = {name: _fewest(depths, key, floor) for name, (floor, key) in floors.items()}
        found[rule] = {"proposed": None, **held, "depths": depths}
    return found


def _mean(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Average the accuracies of several orders; the interval is that of their mean's ends."""
    return {
        name: None if rows[0][name] is None else np.mean([r[name] for r in rows], axis=0).tolist()
        for name in rows[0] if name != "keep"
    }  # fmt: skip


def _fewest(depths: Sequence[Mapping[str, Any]], key: str, floor: float) -> int | None:
    return next(
        (d["layers"] for d in depths if d[key] is not None and d[key] >= floor - 1e-9), None
    )


def against(
    convexity: Sequence[float], depths: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Correlate convexity at L with the accuracy of the first L layers, untrained and trained."""
    found: dict[str, Any] = {}
    for name, key in (("cut", "accuracy"), ("finetuned", "finetuned_accuracy")):
        rows = [d for d in depths if d[key] is not None]
        if len(rows) < 4:
            found[name] = None
            continue
        rho, interval = rank_correlation(
            [convexity[d["layers"]] for d in rows], [d[key] for d in rows]
        )
        found[name] = {"rho": rho, "interval": list(interval), "layers": len(rows)}
    return found if found["cut"] else None


def compare(
    keeps: Mapping[str, Mapping[str, Sequence[int]]], right: Mapping[str, NDArray[np.float64]],
    groups: Sequence[str] | None,
) -> dict[str, Any] | None:  # fmt: skip
    """Name the rule with the highest accuracy over all depths, and test it against the next.

    Parameters
    ----------
    keeps : mapping
        Rule -> depth -> layers to keep.
    right : mapping
        Cut's name -> array (clips,), 1 where right.
    groups : sequence of str, optional
        Of the clips.

    """
    means = {}
    for rule, depths in keeps.items():
        cut_depths = list(depths.values())[:-1]  # the deepest is the whole model
        if rule.split()[0] not in NOT_COMPARED and cut_depths:
            means[rule] = np.mean([right[cut_name(keep)] for keep in cut_depths], axis=0)
    if len(means) < 2:
        return None
    winner, second = sorted(means, key=lambda rule: -float(means[rule].mean()))[:2]
    difference = means[winner] - means[second]
    low, high = bootstrap_interval(difference, groups)
    p_value = sign_flip_test(difference, groups)
    value = float(difference.mean())
    clear = p_value < SIGNIFICANT
    return {
        "winner": winner, "runner_up": second, "difference": value, "interval": [low, high],
        "p_value": p_value, "significant": clear, "clips": len(difference),
        "mean_accuracy": {rule: float(mean.mean()) for rule, mean in means.items()},
        "sentence": (
            f"Without retraining and averaged over all depths, {winner} kept the most: "
            f"{points(float(means[winner].mean()))} of {len(difference)} test clips, "
            f"{100 * value:.1f} points over {second} (95 % interval {100 * low:+.1f} to "
            f"{100 * high:+.1f}, p = {p_value:.2g}): the difference is "
            f"{'' if clear else 'not '}significant."
        ),
    }  # fmt: skip


def headline(facts: Mapping[str, Any]) -> str:
    """Say what to keep and why, in a sentence or two."""
    layers, peak = facts["layers"], facts["first_within_1_percent"]["teacher"]
    where = (
        f"classes of {facts['task']!r} are within 1 % of their peak convexity from layer {peak} on"
    )
    if not facts["picks"]:
        return f"Keep the first {peak} of {layers} layers: {where}. Nothing was measured."
    base = facts["measured_on"]["baseline"]
    parts = []
    plain = _best(facts["picks"], "held", "accuracy")
    drop = f"{100 * facts['max_drop']:g} point" + "s" * (facts["max_drop"] != 0.01)
    if plain:
        parts.append(f"Keep {_listed(plain[1]['keep'])} of {layers} ({plain[0]}): without "
                     f"retraining, {points(plain[1]['accuracy'])} of the test clips stay right of "
                     f"{points(base)}, chosen to lose at most {drop} on the validation "
                     "clips")  # fmt: skip
    bridged = _best(facts["picks"], "held_95_bridged", "bridged_accuracy")
    if bridged:
        row = bridged[1]
        parts.append(f"with linear bridges over the gaps and {_listed(row['keep'])} alone "
                     f"({bridged[0]}), {points(row['bridged_accuracy'])} do, "
                     f"{points(row['bridged_accuracy'] / base)} of the whole model's accuracy "
                     f"without {points(1 - row['layers'] / layers)} of its layers")  # fmt: skip
    return f"{'; '.join(parts) or f'Keep all {layers} layers'}; {where}."


def _best(
    picks: Mapping[str, Any], floor: str, accuracy: str
) -> tuple[str, Mapping[str, Any]] | None:
    """Return the rule with the fewest layers at a floor, and its row; the better of equals."""
    rows = [
        (rule, next(d for d in pick["depths"] if d["layers"] == pick[floor]))
        for rule, pick in picks.items()
        if pick[floor] and rule != "random"
    ]
    return min(rows, key=lambda r: (r[1]["layers"], -r[1][accuracy]), default=None)


def _listed(keep: Sequence[int]) -> str:
    return f"layer{'s' * (len(keep) > 1)} {layer_list(keep)}"
