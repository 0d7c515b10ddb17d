"""Plots of how layers resemble one another, and of what the model does without them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from edgeprune.core.console import in_points
from edgeprune.reports.plots import INK, SERIES, SOFT, Plot, finished, panel_of

SIMILARITIES = {
    "cosine_flattened": ("Cosine, frame by frame", "Cosine similarity of two layers' frames",
                         "Dorszewski et al., arXiv 2409.16302"),
    "cosine_pooled": ("Cosine, mean over frames", "Cosine similarity of two layers' clip means",
                      "Dorszewski et al., arXiv 2409.16302"),
    "cka": ("CKA, linear, centred", "Centred kernel alignment of two layers",
            "Kornblith et al. 2019"),
    "cka_uncentred": ("CKA, linear, not centred", "Kernel alignment without centring",
                      "after Kornblith et al. 2019, the form of the bird-song poster"),
    "mutual_knn": ("Mutual nearest neighbours", "Share of a clip's neighbours two layers agree on",
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
    """Map how alike the states after every two depths are, by each measure."""
    for key, matrix in (scores["similarity"] or {}).items():
        title, what, paper = SIMILARITIES[key]
        figure, panel = _heatmap(matrix, title, "layers passed", "layers passed", "")
        for start in scores["blocks"][key]:
            if start > 0:
                panel.axvline(start - 0.5, color="white", lw=1.2)
                panel.axhline(start - 0.5, color="white", lw=1.2)
        caption = (
            f"{what} ({paper}): a bright square on the diagonal is a block of layers that say "
            "almost the same; white lines stand where a block begins."
        )
        yield finished(figure, "similarity", f"similarity-{key.replace('_', '-')}", title, caption)


def angular(scores: Mapping[str, Any]) -> Iterator[Plot]:
    """Map the angle between the states after every two depths."""
    if scores["angular"]:
        title = "Angular distance"
        figure, _ = _heatmap(
            scores["angular"], title, "layers passed", "layers passed", "angle / π"
        )
        caption = (
            "Angle between the states after two depths: the darkest span of a wanted length is the "
            "one to remove (Gromov et al. 2024)."
        )
        yield finished(figure, "similarity", "angular", title, caption)


def spans(scores: Mapping[str, Any]) -> Iterator[Plot]:
    """Map the accuracy that is left without each span of layers."""
    ablation = scores["ablation"]
    if ablation:
        title = "Accuracy without a span"
        values = [[np.nan if v is None else 100 * v for v in row] for row in ablation["spans"]]
        figure, _ = _heatmap(values, title, "the state it is joined to, j", "first layer removed, i",
                             f"accuracy, %, {ablation['split']} clips")  # fmt: skip
        caption = (
            "Accuracy with layers i to j - 1 removed and nothing trained: bright cells far from "
            "the diagonal are long spans the model can do without (after Gromov et al. 2024)."
        )
        yield finished(figure, "similarity", "ablation-spans", title, caption)


def influence(scores: Mapping[str, Any]) -> Iterator[Plot]:
    """Draw each layer's block influence, and what its removal costs in truth."""
    shares, ablation = scores["block_influence"], scores["ablation"]
    if shares:
        title = "Block influence"
        figure, panel = panel_of(4.6, 3.2, "layer", "block influence")
        panel.bar(range(len(shares)), shares, color=SERIES[2])
        panel.set_xlim(-0.6, len(shares) - 0.4)
        panel.set_title(title, loc="left", fontsize=10)
        caption = (
            "One minus the cosine between a layer's input and output: a short bar says that the "
            "layer changes little (Men et al. 2024, ShortGPT)."
        )
        yield finished(figure, "influence", "block-influence", title, caption)
    if ablation:
        title = "Accuracy lost without the layer"
        figure, panel = panel_of(4.6, 3.2, "layer", "points lost")
        lost = [math.nan if accuracy is None else 100 * (ablation["baseline"] - accuracy)
                for accuracy in ablation["single"]]  # fmt: skip
        panel.bar(range(len(lost)), lost, color=SOFT)
        panel.set_xlim(-0.6, len(lost) - 0.4)
        panel.axhline(0, color=INK, lw=0.8)
        panel.axhline(100 * scores["max_drop"], color=INK, lw=0.8, ls="--")
        panel.set_title(title, loc="left", fontsize=10)
        caption = (
            f"The truth beside it: what removing this one layer costs on {ablation['clips']} "
            f"{ablation['split']} clips; bars under the dashed line cost at most "
            f"{in_points(scores['max_drop'])}."
        )
        yield finished(figure, "influence", "layer-removed", title, caption)
