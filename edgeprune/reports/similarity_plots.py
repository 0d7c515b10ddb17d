"""Plots of the similarity of layers, and of the accuracy without them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from edgeprune.core.console import format_percentage_points
from edgeprune.reports.plots import INK, SERIES, SOFT, Plot, finished, panel_of

SIMILARITIES = {
    "cosine_flattened": ("Cosine, frame by frame", "Cosine similarity of two layers' frames",
                         "Dorszewski et al., arXiv 2409.16302"),
    "cosine_pooled": ("Cosine, mean over frames", "Cosine similarity of two layers' clip means",
                      "Dorszewski et al., arXiv 2409.16302"),
    "cka": ("Linear CKA, centred", "Centred kernel alignment of two layers",
            "Kornblith et al. 2019"),
    "cka_uncentred": ("Linear CKA, uncentred", "Kernel alignment without centring",
                      "after Kornblith et al. 2019, as in the bird-song poster"),
    "mutual_knn": ("Mutual nearest neighbours",
                   "Share of a clip's nearest neighbours that two layers have in common",
                   "Huh et al. 2024"),
}  # fmt: skip


def _heatmap(values: Any, title: str, across: str, up: str, unit: str) -> tuple[Figure, Any]:
    figure, panel = panel_of(3.7, 3.5, across, up)
    matrix = np.asarray(values, dtype=float)
    image = panel.imshow(matrix, cmap="viridis", origin="lower", interpolation="none")
    panel.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    panel.spines[:].set_visible(False)
    panel.set_title(title, loc="left", fontsize=10)
    bar = figure.colorbar(image, cax=panel.inset_axes((1.04, 0, 0.05, 1)))
    bar.outline.set_visible(False)
    bar.set_label(unit)
    return figure, panel


def similarity(scores: Mapping[str, Any]) -> Iterator[Plot]:
    """Draw the similarity of the hidden states at every two depths, by each measure."""
    for key, matrix in (scores["similarity"] or {}).items():
        title, what, paper = SIMILARITIES[key]
        figure, panel = _heatmap(matrix, title, "depth (layers)", "depth (layers)", "")
        for start in scores["blocks"][key]:
            if start > 0:
                panel.axvline(start - 0.5, color="white", lw=1.2)
                panel.axhline(start - 0.5, color="white", lw=1.2)
        caption = (
            f"{what} ({paper}): a bright square on the diagonal is a block of layers with similar "
            "hidden states; white lines mark the first layer of each block."
        )
        yield finished(figure, "similarity", f"similarity-{key.replace('_', '-')}", title, caption)


def angular(scores: Mapping[str, Any]) -> Iterator[Plot]:
    """Draw the angle between the hidden states at every two depths."""
    if scores["angular"]:
        title = "Angular distance"
        figure, _ = _heatmap(
            scores["angular"], title, "depth (layers)", "depth (layers)", "angle / π"
        )
        caption = (
            "Angle between the hidden states at two depths: of all spans of a given length, the "
            "darkest is the one to remove (Gromov et al. 2024)."
        )
        yield finished(figure, "similarity", "angular", title, caption)


def spans(scores: Mapping[str, Any]) -> Iterator[Plot]:
    """Draw the accuracy without each span of layers."""
    ablation = scores["ablation"]
    if ablation:
        title = "Accuracy without a span"
        values = [[np.nan if v is None else 100 * v for v in row] for row in ablation["spans"]]
        figure, _ = _heatmap(values, title, "end of the span, j", "first layer removed, i",
                             f"accuracy, %, {ablation['split']} clips")  # fmt: skip
        caption = (
            "Accuracy without layers i to j - 1, without retraining: bright cells far from the "
            "diagonal are long spans that can be removed (after Gromov et al. 2024)."
        )
        yield finished(figure, "similarity", "ablation-spans", title, caption)


def influence(scores: Mapping[str, Any]) -> Iterator[Plot]:
    """Draw each layer's block influence, and the measured loss without it."""
    shares, ablation = scores["block_influence"], scores["ablation"]
    if shares:
        title = "Block influence"
        figure, panel = panel_of(4.6, 3.2, "layer", "block influence")
        panel.bar(range(len(shares)), shares, color=SERIES[2])
        panel.set_xlim(-0.6, len(shares) - 0.4)
        panel.set_title(title, loc="left", fontsize=10)
        caption = (
            "1 - cosine between a layer's input and output: a short bar means that the layer "
            "changes its input little (Men et al. 2024, ShortGPT)."
        )
        yield finished(figure, "influence", "block-influence", title, caption)
    if ablation:
        title = "Accuracy loss without the layer"
        figure, panel = panel_of(4.6, 3.2, "layer", "loss, percentage points")
        lost = [math.nan if accuracy is None else 100 * (ablation["baseline"] - accuracy)
                for accuracy in ablation["single"]]  # fmt: skip
        panel.bar(range(len(lost)), lost, color=SOFT)
        panel.set_xlim(-0.6, len(lost) - 0.4)
        panel.axhline(0, color=INK, lw=0.8)
        panel.axhline(100 * scores["max_drop"], color=INK, lw=0.8, ls="--")
        panel.set_title(title, loc="left", fontsize=10)
        caption = (
            f"Measured loss without this one layer on {ablation['clips']} "
            f"{ablation['split']} clips; bars below the dashed line lose at most "
            f"{format_percentage_points(scores['max_drop'])}."
        )
        yield finished(figure, "influence", "layer-removed", title, caption)
