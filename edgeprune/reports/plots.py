"""Figures of the ``compress`` report as inline SVG, and the style of all figures.

They are drawn without pyplot: its backend is the caller's, who may plot in the same notebook.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
import matplotlib.ticker
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK, ACCENT, SOFT, GREY = "#1d2a35", "#0b7a75", "#d9822b", "#9aa5b1"
SERIES = (ACCENT, SOFT, "#5b6abf", "#b5495b", "#6b8e23", GREY)
STYLE: Any = {
    "axes.edgecolor": GREY, "axes.labelcolor": INK, "axes.spines.right": False,
    "axes.spines.top": False, "font.size": 10, "svg.fonttype": "none", "text.color": INK,
    "xtick.color": INK, "ytick.color": INK, "legend.frameon": False, "svg.hashsalt": "edgeprune",
    "text.parse_math": False,  # a label may contain a dollar sign
}  # fmt: skip
PNG_DPI = 160
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@dataclass(frozen=True)
class Plot:
    """A plot with one panel."""

    section: str
    """Section of the page."""
    name: str
    """File name without extension."""
    title: str
    """Title, also for screen readers."""
    caption: str
    """What it shows and how to read it, with the paper."""
    svg: str
    png: bytes


def convexity_figure(
    curves: Sequence[Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]], task: str,
    cuts: Sequence[int],
) -> str:  # fmt: skip
    """Draw the convexity of every label column over the layers, side by side.

    Parameters
    ----------
    curves : sequence of mapping
        For each seed: model (``teacher``, ``untouched``) -> label column -> one mapping per layer.
    task : str
        Label column of the task; it comes first.
    cuts : sequence of int
        Number of layers that each seed keeps; marked on the task's panel.

    """
    names = list(curves[0]["teacher"])
    with matplotlib.rc_context(STYLE):
        figure = Figure((1.2 + 4.6 * len(names), 3.6))
        panels = figure.subplots(1, len(names), sharey=True, squeeze=False)
        for panel, name in zip(panels[0], names, strict=True):
            for model, colour in (("teacher", ACCENT), ("untouched", SOFT)):
                runs = [run[model][name] for run in curves if model in run]
                if runs:
                    _curve(panel, runs, model, colour)
            if name == task:
                for depth in sorted(set(cuts)):
                    panel.axvline(depth, color=INK, linestyle=":", linewidth=1)
                    panel.annotate(f"kept: {depth}", (depth, 3), rotation=90, fontsize=8,
                                   ha="right", va="bottom")  # fmt: skip
            panel.set_title(
                f"classes: {name}" + (" (the task)" if name == task else ""), loc="left"
            )
            panel.set_xlabel("depth (layers)")
            panel.set_ylim(0, 102)
        panels[0][0].set_ylabel("graph convexity, %")
        panels[0][0].legend(loc="upper left", bbox_to_anchor=(0, -0.2), ncols=4, fontsize=9)
        return to_svg(figure)


def _curve(
    panel: Any, runs: Sequence[Sequence[Mapping[str, Any]]], model: str, colour: str
) -> None:
    values = np.array([[100 * layer["mean_of_classes"] for layer in run] for run in runs])
    null = np.array([[100 * layer["null_high"] for layer in run] for run in runs])
    layers = np.arange(values.shape[1])
    panel.plot(layers, values.mean(0), color=colour, marker="o", markersize=3,
               label={"teacher": "teacher", "untouched": "before fine-tuning"}[model])  # fmt: skip
    if len(runs) > 1:
        panel.fill_between(layers, values.min(0), values.max(0), color=colour, alpha=0.2, lw=0)
    panel.plot(layers, null.mean(0), color=colour, linewidth=0.8, linestyle="--",
               label="chance level")  # fmt: skip


def latency_figure(samples_ms: Mapping[str, Sequence[float]]) -> str:
    """Draw the cumulative distribution of latencies by file."""
    with matplotlib.rc_context(STYLE):
        figure = Figure((7.2, 3.4))
        panel = figure.subplots()
        for (name, samples), colour in zip(samples_ms.items(), SERIES * 4, strict=False):
            ordered = np.sort(np.asarray(samples))
            panel.step(ordered, np.arange(1, len(ordered) + 1) / len(ordered) * 100, color=colour,
                       label=name, where="post")  # fmt: skip
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:g}"))
        panel.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
        panel.set_xlabel("latency per window, ms (logarithmic)")
        panel.set_ylabel("share of windows, %")
        panel.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
        return to_svg(figure)


def learning_figure(curves: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Draw the validation score over epochs by training."""
    with matplotlib.rc_context(STYLE):
        figure = Figure((7.2, 3.0))
        panel = figure.subplots()
        for (name, curve), colour in zip(curves.items(), SERIES * 4, strict=False):
            panel.plot([step["epoch"] for step in curve],
                       [100 * step["valid_score"] for step in curve],
                       color=colour, label=name)  # fmt: skip
        panel.set_xlabel("epoch")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.set_ylabel("validation score, %")
        panel.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
        return to_svg(figure)


def to_svg(figure: Any) -> str:
    """Return a figure as inline SVG, with texts as text, reproducible byte by byte."""
    text = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(text, format="svg", bbox_inches="tight", metadata=NO_METADATA)
    return text.getvalue()[text.getvalue().index("<svg") :]


def finished(figure: Figure, section: str, name: str, title: str, caption: str) -> Plot:
    """Return a figure as a plot, in both formats."""
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=PNG_DPI, bbox_inches="tight", facecolor="white",
                   metadata={"Software": None})  # fmt: skip
    label = escape(title, quote=True)
    svg = to_svg(figure).replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
    return Plot(section, name, title, caption, svg, png.getvalue())


def panel_of(width: float, height: float, across: str, up: str) -> tuple[Figure, Any]:
    """Return an empty figure of a size in inches, and its panel."""
    figure = Figure((width, height), layout="constrained")
    panel = figure.subplots()
    panel.set(xlabel=across, ylabel=up)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    return figure, panel


def legend_below(figure: Figure, columns: int) -> None:
    """Put the legend below the panel, and extend the figure for it."""
    entries = len(figure.axes[0].get_legend_handles_labels()[0])
    figure.set_figheight(figure.get_figheight() + 0.18 * -(-entries // columns))
    figure.legend(loc="outside lower left", ncols=columns, fontsize=8.5, handlelength=2.2)


def draw_band(panel: Any, x: Any, intervals: Sequence[Sequence[float]], colour: str) -> None:
    """Shade intervals, given as shares, around a curve in per cent."""
    low, high = 100 * np.asarray(intervals, dtype=float).T
    panel.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)
