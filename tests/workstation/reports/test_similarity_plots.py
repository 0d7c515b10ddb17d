"""Maps of likeness and of what the model does without its layers: read back from the figures."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from few_plots import scores_with
from matplotlib.figure import Figure

from edgeprune.reports import similarity_plots
from edgeprune.reports.plots import Plot
from edgeprune.reports.similarity_plots import SIMILARITIES, angular, influence, similarity, spans


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Keep every figure that is finished, in order, and draw none."""
    kept: list[Figure] = []

    def finished(figure: Figure, section: str, name: str, title: str, caption: str) -> Plot:
        kept.append(figure)
        return Plot(section, name, title, caption, "", b"")

    monkeypatch.setattr(similarity_plots, "finished", finished)
    return kept


def image_of(figure: Figure) -> Any:
    """Return the map's values, blanks masked."""
    return figure.axes[0].images[0].get_array()


def test_every_measure_of_likeness_is_a_map_of_its_own_matrix(figures: list[Figure]) -> None:
    scores = scores_with("similarity", layers=6)
    plots = list(similarity(scores))
    assert [plot.title for plot in plots] == [SIMILARITIES[key][0] for key in scores["similarity"]]
    for figure, matrix in zip(figures, scores["similarity"].values(), strict=True):
        np.testing.assert_allclose(image_of(figure), matrix)
        assert figure.axes[0].images[0].origin == "lower"
    assert [plot.name for plot in plots][:2] == [
        "similarity-cosine-flattened", "similarity-cosine-pooled",
    ]  # fmt: skip


def test_a_line_stands_where_a_block_begins_but_not_before_the_first(figures: list[Figure]) -> None:
    scores = scores_with("similarity", layers=6)
    scores["similarity"] = {"cka": scores["similarity"]["cka"]}
    scores["blocks"] = {"cka": [0, 2, 5]}
    list(similarity(scores))
    lines = [np.asarray(line.get_xdata()) for line in figures[0].axes[0].lines]
    assert [x[0] for x in lines if x[0] == x[1]] == [1.5, 4.5]


def test_the_angles_are_mapped_where_they_were_measured(figures: list[Figure]) -> None:
    scores = scores_with("angular", layers=4)
    (plot,) = angular(scores)
    np.testing.assert_allclose(image_of(figures[0]), scores["angular"])
    assert plot.section == "similarity"
    assert not list(angular(scores_with()))


def test_spans_are_in_per_cent_and_what_cannot_go_is_blank(figures: list[Figure]) -> None:
    scores = scores_with("ablation", layers=4)
    (plot,) = spans(scores)
    shown = image_of(figures[0])
    for i, row in enumerate(scores["ablation"]["spans"]):
        for j, value in enumerate(row):
            blank = bool(np.ma.getmaskarray(shown)[i, j]) or bool(np.isnan(shown.data[i, j]))
            assert blank == (value is None)
            if value is not None:
                assert shown[i, j] == pytest.approx(100 * value)
    assert figures[0].axes[0].get_ylabel() == "first layer removed, i"
    assert "valid" in figures[0].axes[0].child_axes[0].get_ylabel()
    assert plot.name == "ablation-spans"


def test_each_layers_influence_stands_beside_what_its_removal_costs(figures: list[Figure]) -> None:
    scores = scores_with("block_influence", "ablation", layers=4)
    scores["ablation"]["single"] = [None, 0.90, 0.951, 0.96]
    scores["ablation"]["baseline"] = 0.951
    plots = list(influence(scores))
    assert [plot.name for plot in plots] == ["block-influence", "layer-removed"]
    bars: list[list[Any]] = [list(figure.axes[0].patches) for figure in figures]
    heights = [[bar.get_height() for bar in row] for row in bars]
    assert heights[0] == pytest.approx(scores["block_influence"])
    assert np.isnan(heights[1][0])
    assert heights[1][1:] == pytest.approx([5.1, 0.0, -0.9])
    lines = [np.asarray(line.get_ydata())[0] for line in figures[1].axes[0].lines]
    assert 1.0 in lines, "one point may go"
    assert "at most 1 percentage point." in plots[1].caption


def test_what_was_not_measured_makes_no_plot(figures: list[Figure]) -> None:
    bare = scores_with()
    assert [*similarity(bare), *angular(bare), *spans(bare), *influence(bare)] == []
    assert [plot.name for plot in influence(scores_with("block_influence"))] == ["block-influence"]


def test_every_map_says_how_to_read_it_and_whose_idea_it_is(figures: list[Figure]) -> None:
    scores = scores_with("similarity", "angular", "ablation", "block_influence")
    plots = [*similarity(scores), *angular(scores), *spans(scores), *influence(scores)]
    for plot in plots:
        assert plot.caption.endswith(".")
        assert re.search(r"arXiv|20\d\d|Measured loss", plot.caption), plot.name


def test_a_map_is_drawn_as_text_and_picture() -> None:
    (plot,) = angular(scores_with("angular"))
    assert 'aria-label="Angular distance"' in plot.svg
    assert "angle / π" in plot.svg
    assert plot.png.startswith(b"\x89PNG")
