"""Comparison of the selection rules: accuracies per rule and depth, best rule, and headline.

Rules choose on validation clips and are compared on the same test clips. A rule's score is its
accuracy averaged over all depths; the difference to the second best is tested in pairs (sign flips,
whole groups together). The three rules that keep the first layers differ only in the depth they
propose.
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
from edgeprune.core.console import Ui, format_percent, format_percentage_points, layer_list
from edgeprune.core.files import read_json, write_json
from edgeprune.core.settings import Settings
from edgeprune.data.clip_subsets import balanced_subset, groups_of_clips
from edgeprune.data.windows import load_windows, read_description
from edgeprune.depth_pruning.measure import cut_name
from edgeprune.depth_pruning.selection_rules import RANDOM, RULES, TWINS, evidence_of, to_evidence
from edgeprune.metrics.statistics import bootstrap_interval, rank_correlation, sign_flip_test

SCHEMA_VERSION = 1
KEPT_SHARE = 0.95  # of the whole model's accuracy, the criterion of arXiv 2409.16302
SIGNIFICANT = 0.05
MEASURED = ("valid_accuracy", "accuracy", "interval", "bridged_valid_accuracy", "bridged_accuracy")
TUNED = ("accuracy", "interval", "valid_accuracy")
NOT_COMPARED = (RANDOM, "greedy-bridged", *TWINS)


def write_scores(
    model: str, clips: Path, scores: Path, measured: Path | str, finetuned: Path | str, *,
    out: Path, settings: Settings, ui: Ui,
) -> None:  # fmt: skip
    """Write ``scores.json`` from the results of the stages."""
    del ui
    found = read_json(scores / "layers.json")
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
    write_json(out / "scores.json", facts)


def _measured(
    clips: Path, found: Mapping[str, Any], folder: Path, finetuned: Path | str, settings: Settings
) -> dict[str, Any]:
    known = read_json(folder / "measured.json")
    trained = (
        json.loads((Path(finetuned) / "finetuned.json").read_text("utf-8")) if finetuned else {}
    )
    evidence = to_evidence(evidence_of(found, settings.prune.tolerance))
    picks = pick_table(known, trained, settings.max_drop)
    for name, rule in RULES.items():
        if name in picks and rule.depth:
            picks[name]["proposed"] = rule.depth(evidence)
    groups = groups_of_clips(balanced_subset(load_windows(clips), "test", settings.measure.clips))
    group = read_description(clips)["group_column"] if groups else ""
    right = {name: v.astype(float) for name, v in load_file(folder / "right.safetensors").items()}
    after = {name: np.load(Path(finetuned) / "right" / f"{name}.npy").astype(float)
             for name in trained}  # fmt: skip
    verdict = compare(known["keeps"], right, groups, "Without retraining")
    if verdict:
        verdict["finetuned"] = compare(known["keeps"], after, groups, "Fine-tuned after removal")
    return {
        "euclidean": known["euclidean"], "ablation": known["ablation"], "picks": picks,
        "measured_on": {**known["measured_on"], "group": group}, "verdict": verdict,
        "seconds": {**found["seconds"], **known["seconds"]},
        "convexity_against_accuracy": correlate_with_accuracy(
            evidence.convexity, picks["backward"]["depths"]
        ),
    }  # fmt: skip


def pick_table(
    known: Mapping[str, Any], trained: Mapping[str, Any], max_drop: float
) -> dict[str, dict[str, Any]]:
    """Return every rule's measurements per depth, and the fewest layers that are accepted.

    Parameters
    ----------
    known : mapping
        Content of ``measured.json``.
    trained : mapping
        Content of ``finetuned.json``, or empty.
    max_drop : float
        Largest accuracy drop allowed, as a share.

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
            after = [trained.get(cut_name(keeps[depth]), {}) for keeps in orders]
            row = {"layers": int(depth), "keep": rows[0]["keep"], **_mean(rows, MEASURED),
                   **{f"finetuned_{key}": value for key, value in _mean(after, TUNED).items()}}  # fmt: skip
            if len(rows) > 1:
                row["draws"] = [r["accuracy"] for r in rows]
            depths.append(row)
        if any(row["finetuned_accuracy"] is None for row in depths):  # the rule was not fine-tuned,
            for row in depths:  # but shares some layer subsets with one that was
                row.update(dict.fromkeys((f"finetuned_{key}" for key in TUNED), None))
        whole_valid = whole["valid_accuracy"]
        floors = {"held": (whole_valid - max_drop, "valid_accuracy"),
                  "held_95": (KEPT_SHARE * whole_valid, "valid_accuracy"),
                  "held_bridged": (whole_valid - max_drop, "bridged_valid_accuracy"),
                  "held_95_bridged": (KEPT_SHARE * whole_valid,
                                      "bridged_valid_accuracy")}  # fmt: skip
        held = {name: _fewest(depths, key, floor) for name, (floor, key) in floors.items()}
        if RULES[rule].measured == "bridged":  # the rule is only meaningful with its bridges
            held |= {"held": None, "held_95": None}
        found[rule] = {"proposed": None, **held, "depths": depths}
    return found


def _mean(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Average the accuracies of several orders; their mean gets no interval."""
    found: dict[str, Any] = {}
    for name in names:
        values: list[Any] = [row.get(name) for row in rows]
        if name == "interval":
            found[name] = values[0] if len(rows) == 1 else None
        else:
            found[name] = None if None in values else float(np.mean(values))
    return found


def _fewest(depths: Sequence[Mapping[str, Any]], key: str, floor: float) -> int | None:
    return next(
        (d["layers"] for d in depths if d[key] is not None and d[key] >= floor - 1e-9), None
    )


def correlate_with_accuracy(
    convexity: Sequence[float], depths: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Correlate convexity at L with the accuracy of the first L layers, also fine-tuned."""
    found: dict[str, Any] = {}
    for name, key in (("cut", "accuracy"), ("finetuned", "finetuned_accuracy")):
        rows = [d for d in depths if d[key] is not None]
        if len(rows) < 4:
            found[name] = None
            continue
        rho, (low, high) = rank_correlation(
            [convexity[d["layers"]] for d in rows], [d[key] for d in rows]
        )
        found[name] = None if rho != rho else {
            "rho": rho, "interval": None if low != low else [low, high], "layers": len(rows)
        }  # fmt: skip
    return found if found["cut"] else None


def compare(
    keeps: Mapping[str, Mapping[str, Sequence[int]]], right: Mapping[str, NDArray[np.float64]],
    groups: Sequence[str] | None, when: str,
) -> dict[str, Any] | None:  # fmt: skip
    """Find the rule with the highest accuracy over all depths, and test it against the second.

    Parameters
    ----------
    keeps : mapping
        Rule -> depth -> layers to keep.
    right : mapping
        Name of the layer subset -> array (clips,), 1 where correct.
    groups : sequence of str, optional
        Groups of the clips.
    when : str
        Beginning of the sentence.

    """
    means = {}
    for rule, depths in keeps.items():
        names = [cut_name(keep) for keep in list(depths.values())[:-1]]  # the last has all layers
        compared = rule.split()[0] not in NOT_COMPARED
        if compared and names and all(name in right for name in names):
            means[rule] = np.mean([right[name] for name in names], axis=0)
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
            f"{when}, {winner} has the highest accuracy averaged over all depths: "
            f"{format_percent(float(means[winner].mean()))} of {len(difference)} test clips, "
            f"{100 * value:.1f} percentage points more than {second} (95 % interval "
            f"{100 * low:+z.1f} to {100 * high:+z.1f}, p = {p_value:.2g}). The difference is "
            f"{'' if clear else 'not '}significant."
        ),
    }  # fmt: skip


def headline(facts: Mapping[str, Any]) -> str:
    """Return the recommendation in a sentence or two."""
    layers, peak = facts["layers"], facts["first_within_1_percent"]["teacher"]
    where = (f"The convexity of {facts['task']!r} first comes within 1 % of its peak after "
             f"{peak} of {layers} layers")  # fmt: skip
    if not facts["picks"]:
        return f"{where}: by convexity alone, remove the later ones. No layer subset was measured."
    base = facts["measured_on"]["baseline"]
    parts = []
    if plain := _best(facts["picks"], layers, "held", "valid_accuracy"):
        rule, row = plain
        parts.append(f"Keep {_listed(row['keep'])} of {layers} ({rule}): without retraining, the "
                     f"accuracy on the test clips is {format_percent(row['accuracy'])} (all layers: "
                     f"{format_percent(base)}); selected for a drop of at most "
                     f"{format_percentage_points(facts['max_drop'])} on the validation clips")  # fmt: skip
    else:
        parts.append(f"Keep all {layers} layers unless the model is retrained: no rule removes one "
                     f"within {format_percentage_points(facts['max_drop'])} of "
                     f"{format_percent(base)}")  # fmt: skip
    if bridged := _best(facts["picks"], layers, "held_95_bridged", "bridged_valid_accuracy"):
        rule, row = bridged
        accuracy = row["bridged_accuracy"]
        kept = f" ({format_percent(accuracy / base)} of the whole model's accuracy)" if base else ""
        parts.append(f"With linear bridges over the gaps, {_listed(row['keep'])} alone ({rule}) "
                     f"{'reach' if len(row['keep']) > 1 else 'reaches'} {format_percent(accuracy)}{kept}, "
                     f"with {format_percent(1 - row['layers'] / layers)} of the layers removed")  # fmt: skip
    return f"{'. '.join(parts)}. {where}."


def _best(
    picks: Mapping[str, Any], layers: int, floor: str, accuracy: str
) -> tuple[str, Mapping[str, Any]] | None:
    """Return the rule with the fewest accepted layers, and its row; ties go to the more accurate.

    Both are determined on validation clips. Rules with the same layers as another, and the control,
    are left out.
    """
    rows = [
        (rule, next(d for d in pick["depths"] if d["layers"] == pick[floor]))
        for rule, pick in picks.items()
        if pick[floor] and pick[floor] < layers and rule not in (RANDOM, *TWINS)
    ]
    return min(rows, key=lambda r: (r[1]["layers"], -r[1][accuracy]), default=None)


def _listed(keep: Sequence[int]) -> str:
    return f"layer{'s' * (len(keep) > 1)} {layer_list(keep)}"
