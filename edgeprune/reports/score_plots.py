"""Plots of ``edgeprune score``: convexity, accuracy by depth, and their correlation.

Each plot has one panel, so that a page can arrange them. Depth 0 is the input of layer 0, depth
``i`` the output of layer ``i - 1``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib
import numpy as np
from matplotlib.ticker import AutoLocator

from edgeprune.core.console import format_percentage_points
from edgeprune.reports.plots import (
    ACCENT,
    GREY,
    INK,
    SERIES,
    SOFT,
    STYLE,
    Plot,
    draw_band,
    finished,
    legend_below,
    panel_of,
)
from edgeprune.reports.similarity_plots import angular, influence, similarity, spans

LINES = tuple(zip((*SERIES[:5], "#3b8fc4", INK, GREY), "oD^s*PXv", strict=True))
"""Colour and marker of each rule, in the order of the record."""
PROPOSALS = {"convexity-peak": "v", "convexity-plateau": "s"}
"""Rules that propose a depth on the line of ``backward``, and their markers."""
MODELS = {"teacher": ("model", ACCENT), "untouched": ("model before fine-tuning", SOFT)}
MEASURES = {  # field of a depth -> description, field of its interval, remark
    "accuracy": ("without retraining", "interval", "No weights were changed."),
    "bridged_accuracy": ("with linear bridges", "",
                         "A linear map fitted on training clips replaces each gap."),
    "finetuned_accuracy": ("after fine-tuning", "finetuned_interval",
                           "Each layer subset was fine-tuned before it was measured."),
}  # fmt: skip


def draw(scores: Mapping[str, Any]) -> list[Plot]:
    """Draw all plots the record has data for, in the order of the page.

    Parameters
    ----------
    scores : mapping
        ``scores.json``, schema version 1; parts that are null are left out.

    """
    with matplotlib.rc_context(STYLE):
        parts = (_convexity, _accuracy, similarity, angular, spans, influence, _against)
        return [plot for part in parts for plot in part(scores)]


def _convexity(scores: Mapping[str, Any]) -> Iterator[Plot]:
    for index, name in enumerate(scores["curves"]["teacher"]):
        is_task = name == scores["task"]
        figure, panel = panel_of(3.9, 2.9, "depth (layers)", "graph convexity, %")
        for model, curves in scores["curves"].items():
            _curve(panel, curves[name], *MODELS[model])
        if is_task:
            _euclidean(panel, scores["euclidean"])
            _proposals(panel, scores)
        panel.set_ylim(0, 104)
        title = f"Convexity of {name}" + (", the task" if is_task else "")
        panel.set_title(title, loc="left", fontsize=10)
        legend_below(figure, 1)
        caption = (
            f"Share of the inner points on shortest paths between two points of a class of {name} "
            f"that belong to the class (k = {scores['neighbours']}, mean over classes; band: 95 % "
            "interval; grey: chance level, the 97.5th percentile for permuted labels). A layer "
            "separates the classes where its curve is above the grey area (Tětková et al. 2023)."
        )
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        yield finished(figure, "convexity", f"convexity-{index + 1}-{slug}", title, caption)


def _curve(panel: Any, layers: Sequence[Mapping[str, Any]], label: str, colour: str) -> None:
    depth = np.arange(len(layers))
    value = np.array([100 * layer["mean_of_classes"] for layer in layers])
    null = np.array([100 * layer["null_high"] for layer in layers])
    draw_band(panel, depth, [layer["interval"] for layer in layers], colour)
    panel.plot(depth, value, color=colour, marker="o", markersize=3, label=label)
    panel.plot(depth, null, color=colour, lw=0.8, ls="--", label=f"chance level, {label}")
    panel.fill_between(depth, 0, null, color=GREY, alpha=0.15, lw=0)


def _euclidean(panel: Any, layers: Sequence[Mapping[str, Any]] | None) -> None:
    if layers:
        depth = np.arange(len(layers))
        draw_band(panel, depth, [layer["interval"] for layer in layers], SERIES[2])
        panel.plot(depth, [100 * layer["value"] for layer in layers], color=SERIES[2], ls="-.",
                   marker="^", markersize=3, label="Euclidean convexity (straight lines)")  # fmt: skip


def _proposals(panel: Any, scores: Mapping[str, Any]) -> None:
    """Mark the depths that convexity proposes for the task."""
    picks = scores["picks"] or {}
    named = {rule: picks[rule]["proposed"] for rule in PROPOSALS if rule in picks}
    named = named or {"within 1 % of the peak": scores["first_within_1_percent"]["teacher"]}
    for (rule, depth), style in zip(named.items(), (":", "-"), strict=False):
        if depth is not None:
            panel.axvline(depth, color=INK, ls=style, lw=1, label=f"{rule}: depth {depth}")


def _accuracy(scores: Mapping[str, Any]) -> Iterator[Plot]:
    picks, measured = scores["picks"], scores["measured_on"]
    if not (picks and measured):
        return
    for field, (done, interval, remark) in MEASURES.items():
        shown = {
            rule: found
            for rule, pick in picks.items()
            if (found := [depth for depth in pick["depths"] if depth[field] is not None])
        }
        if not shown:
            continue
        figure, panel = panel_of(5.6, 3.9, "layers kept", "accuracy on test clips, %")
        whole = next(iter(shown.values()))[-1][field]  # the same for every rule
        _references(panel, whole, scores["max_drop"])
        _rules(panel, scores, shown, field, interval)
        panel.set(xlim=(0.5, scores["layers"] + 0.5), ylim=(0, 104))
        title = f"Accuracy by number of layers, {done}"
        panel.set_title(title, loc="left", fontsize=10)
        legend_below(figure, 2)
        caption = (
            f"Test accuracy of the layers that each rule keeps at every depth: the further left a "
            f"line stays high, the more layers its rule can remove. {remark} Markers on the line "
            "backward: the depths that convexity proposes (Dorszewski et al., arXiv 2408.11858)."
        )
        yield finished(
            figure, "accuracy", f"accuracy-{field.rpartition('_')[0] or 'cut'}", title, caption
        )


def _references(panel: Any, baseline: float, max_drop: float) -> None:
    panel.axhline(100 * baseline, color=INK, lw=1.2, label="whole model")
    panel.axhline(100 * (baseline - max_drop), color=INK, lw=0.8, ls="--",
                  label=f"{format_percentage_points(max_drop)} less")  # fmt: skip
    panel.axhline(95 * baseline, color=INK, lw=0.8, ls=":", label="95 % of the whole model")


def _rules(
    panel: Any, scores: Mapping[str, Any], shown: Mapping[str, list[Mapping[str, Any]]],
    field: str, interval: str,
) -> None:  # fmt: skip
    winner = scores["verdict"] and scores["verdict"]["winner"]
    lines = [rule for rule in shown if rule not in PROPOSALS]
    for rule, (colour, marker) in zip(lines, cycle(LINES), strict=False):
        depths = shown[rule]
        x = [depth["layers"] for depth in depths]
        won = rule == winner or (rule == "backward" and winner in PROPOSALS)
        banded = won and bool(depths) and all(depth.get(interval) for depth in depths)
        if banded:
            draw_band(panel, x, [depth[interval] for depth in depths], colour)
        panel.plot(x, [100 * depth[field] for depth in depths], color=colour, marker=marker,
                   markersize=4, markevery=1 + len(x) // 24, lw=2 if won else 1.1,
                   label=f"{rule} (band: 95 %)" if banded else rule)  # fmt: skip
    for rule, marker in PROPOSALS.items():
        proposed = scores["picks"].get(rule, {}).get("proposed")
        at = [depth for depth in shown.get(rule, ()) if depth["layers"] == proposed]
        panel.plot([depth["layers"] for depth in at], [100 * depth[field] for depth in at],
                   marker, color=INK, markerfacecolor="none", markersize=10, markeredgewidth=1.6,
                   label=f"{rule} proposes {proposed}")  # fmt: skip


def _against(scores: Mapping[str, Any]) -> Iterator[Plot]:
    found, picks = scores["convexity_against_accuracy"], scores["picks"]
    if not (found and picks and "backward" in picks):
        return
    curve = scores["curves"]["teacher"][scores["task"]]
    figure, panel = panel_of(
        5.6, 3.9, f"convexity of {scores['task']}, %", "accuracy of the first layers, %"
    )
    panel.xaxis.set_major_locator(AutoLocator())
    findings = []
    for key, field, colour, marker in (
        ("cut", "accuracy", ACCENT, "o"), ("finetuned", "finetuned_accuracy", SOFT, "^"),
    ):  # fmt: skip
        depths = [depth for depth in picks["backward"]["depths"] if depth[field] is not None]
        if not (found[key] and depths):
            continue
        x = [100 * curve[depth["layers"]]["mean_of_classes"] for depth in depths]
        y = [100 * depth[field] for depth in depths]
        panel.scatter(x, y, s=22, color=colour, marker=marker, label=key)
        _name_depths(panel, [depth["layers"] for depth in depths], np.array([x, y]).T, colour)
        ends = found[key]["interval"]  # None for a perfect correlation
        about = f" [{ends[0]:.2f}, {ends[1]:.2f}]" if ends else ""
        findings.append(f"{key} rho = {found[key]['rho']:.2f}{about}")
    title = "Convexity against accuracy: " + ", ".join(findings)
    panel.set_title(title.replace(": ", "\n", 1), loc="left", fontsize=10)
    legend_below(figure, 2)
    caption = (
        "One marker per depth (labelled with its number of layers where there is room): accuracy "
        "of the first layers against convexity at that depth. rho is Spearman's rank correlation, "
        "with its 95 % interval (tests the claim of Dorszewski et al., arXiv 2408.11858)."
    )
    yield finished(figure, "against", "convexity-against-accuracy", title, caption)


def _name_depths(panel: Any, depths: Sequence[int], points: Any, colour: str) -> None:
    """Label each marker with its depth, unless a deeper one's label is there (in units of 1 %)."""
    named = np.empty((0, 2))
    for depth, point in list(zip(depths, points, strict=True))[::-1]:
        if not (np.abs(named - point) < (3.5, 5)).all(axis=1).any():
            panel.annotate(str(depth), point, (3, 3), textcoords="offset points", fontsize=7.5,
                           color=colour)  # fmt: skip
            named = np.vstack([named, point])
