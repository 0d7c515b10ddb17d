"""A scores.json as ``edgeprune score`` leaves it: plausible numbers for any depth, nothing measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

DRAWS = 5
OWN_DEPTHS = ("forward", "block-influence", "angular-span", "similarity-block",
              "greedy-ablation", "greedy-bridged", "random")  # fmt: skip


def make_scores(
    layers: int = 12, labelings: Sequence[str] = ("word", "speaker", "sex"), *,
    classes: Sequence[str] = ("yes", "no", "up", "down"), full: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """Return the record of a model of ``layers`` layers; without ``full`` all optional parts are null."""
    generator = np.random.default_rng(layers)
    depth = np.linspace(0, 1, layers + 1)
    curves = {
        name: [_layer(generator, 0.3 + 0.6 * _rise(x, 0.5 - 0.1 * i), 0.1 + 0.12 * i, classes)
               for x in depth]
        for i, name in enumerate(labelings)
    }  # fmt: skip
    peak = int(np.argmax([layer["mean_of_classes"] for layer in curves[labelings[0]]]))
    plateau = max(1, peak - 2)
    near = np.abs(depth[:, None] - depth[None, :])
    similarity = {
        "cosine_flattened": 1 - 0.5 * near, "cosine_pooled": 1 - 0.3 * near,
        "cka": np.exp(-3 * near), "cka_uncentred": np.exp(-near), "mutual_knn": np.exp(-5 * near),
    }  # fmt: skip
    return {
        "schema_version": 1, "edgeprune_version": "0", "created": "2026-11-21T12:00:00+00:00",
        "model": "facebook/wav2vec2-base", "data": "/data/words/labels.csv", "data_digest": "ab" * 32,
        "task": labelings[0], "unit": "clips", "split": "valid", "clips": 720, "layers": layers,
        "hidden": 64, "neighbours": 10, "permutations": 20,
        "labelings": {name: {"classes": len(classes), "points": 720,
                             "interval_over": "speaker" if i == 0 else "clips"}
                      for i, name in enumerate(labelings)},
        "curves": {"teacher": curves}, "first_within_1_percent": {"teacher": plateau},
        "similarity": {name: matrix.tolist() for name, matrix in similarity.items()},
        "blocks": {name: [0, layers // 3, layers - 1] for name in similarity},
        "block_influence": (0.3 - 0.25 * np.sin(np.pi * depth[:-1])).tolist(),
        "angular": (0.4 * near).tolist(),
        "headline": f"Keep layers 0-{plateau - 1} of {layers} (convexity is within 1 % of its peak).",
        "seconds": {"forward": 12.3, "convexity": 4.5, "similarity": 0.4},
        **(_measured(layers, peak, plateau, generator) if full else dict.fromkeys(
            ("euclidean", "ablation", "picks", "measured_on", "convexity_against_accuracy",
             "verdict"))), "max_drop": 0.01,
    }  # fmt: skip


def _rise(x: float, middle: float) -> float:
    """Rise to a peak at about 0.8, then fall a little."""
    return float(1 / (1 + np.exp(-10 * (x - middle))) - 0.3 * max(0.0, x - 0.8))


def _layer(
    generator: np.random.Generator, value: float, null: float, classes: Sequence[str]
) -> dict[str, Any]:
    spread = np.clip(value + generator.normal(0, 0.05, len(classes)), 0, 1)
    mean = float(spread.mean())
    return {
        "pooled": mean + 0.01, "mean_of_classes": mean,
        "per_class": dict(zip(classes, spread.tolist(), strict=True)),
        "interval": [mean - 0.04, mean + 0.03], "pooled_interval": [mean - 0.03, mean + 0.04],
        "null_mean": null, "null_high": null + 0.03, "connected": 1.0,
    }  # fmt: skip


def _measured(
    layers: int, peak: int, plateau: int, generator: np.random.Generator
) -> dict[str, Any]:
    best = 0.951
    backward = _depths(layers, best, 0.45, generator)
    for depth in backward:
        depth["keep"] = list(range(depth["layers"]))
    picks = {
        "convexity-peak": _pick(peak, layers, backward),
        "convexity-plateau": _pick(plateau, layers, backward),
        "backward": _pick(None, layers, backward),
        **{rule: _pick(None, layers, _depths(layers, best, 0.5 + 0.05 * i, generator))
           for i, rule in enumerate(OWN_DEPTHS)},
    }  # fmt: skip
    for depth in picks["random"]["depths"]:
        depth["interval"] = depth["finetuned_interval"] = None
        depth["draws"] = np.clip(depth["accuracy"] + generator.normal(0, 0.1, DRAWS), 0, 1).tolist()
    spans = [
        [best - 0.9 * (j - i) / layers if j > i and j - i < layers else None
         for j in range(layers + 1)] for i in range(layers + 1)
    ]  # fmt: skip
    return {
        "euclidean": [{"value": 0.4 + 0.5 * x, "interval": [0.38 + 0.5 * x, 0.42 + 0.5 * x],
                       "pairs": 900} for x in np.linspace(0, 1, layers + 1)],
        "ablation": {
            "split": "valid", "clips": 720, "head": "linear probe", "baseline": best,
            "interval": [0.93, 0.97], "spans": spans,
            "single": [best - float(abs(generator.normal(0, 0.1))) for _ in range(layers)],
        },
        "picks": picks,
        "measured_on": {"split": "test", "clips": 720, "group": "speaker", "baseline": best,
                        "interval": [0.93, 0.97]},
        "convexity_against_accuracy": {
            "cut": {"rho": 0.87, "interval": [0.61, 0.95], "layers": layers},
            "finetuned": {"rho": 0.74, "interval": [0.33, 0.91], "layers": layers},
        },
        "verdict": {
            "winner": "forward", "runner_up": "backward", "difference": 0.021,
            "interval": [0.004, 0.038], "p_value": 0.012, "significant": True, "clips": 720,
            "sentence": "forward keeps more accuracy than backward: +2.1 points (p = 0.012).",
            "mean_accuracy": {"forward": 0.6, "backward": 0.579}, "finetuned": {
                "winner": "backward", "runner_up": "forward", "difference": 0.001,
                "interval": [-0.01, 0.012], "p_value": 0.8, "significant": False, "clips": 720,
                "sentence": "After fine-tuning backward leads by 0.1 points: not significant.",
                "mean_accuracy": {"forward": 0.8, "backward": 0.801},
            },
        },
    }  # fmt: skip


def _depths(
    layers: int, best: float, middle: float, generator: np.random.Generator
) -> list[dict[str, Any]]:
    found = []
    for d in range(1, layers + 1):
        value = best - 0.9 * (1 - _rise(d / layers, middle)) * (1 - d / layers)
        value = (
            float(np.clip(value + generator.normal(0, 0.01), 0.02, best)) if d < layers else best
        )
        trained = min(best, value + 0.4)
        found.append({
            "layers": d, "keep": [0, *range(layers - d + 1, layers)],
            "valid_accuracy": value, "accuracy": value, "interval": [value - 0.02, value + 0.02],
            "bridged_valid_accuracy": min(best, value + 0.2),
            "bridged_accuracy": min(best, value + 0.2),
            "finetuned_accuracy": trained, "finetuned_valid_accuracy": trained,
            "finetuned_interval": [trained - 0.02, trained + 0.02],
        })  # fmt: skip
    return found


def _pick(proposed: int | None, layers: int, depths: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "proposed": proposed, "held": max(1, layers - 1), "held_95": max(1, layers - 2),
        "held_bridged": max(1, layers // 2 + 1), "held_95_bridged": max(1, layers // 2),
        "depths": depths,
    }  # fmt: skip
