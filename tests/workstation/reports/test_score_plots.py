"""The plots of score: what each shows, and what it leaves out."""

from __future__ import annotations

import io
import re

import matplotlib.image
import pytest
from few_plots import ACCURACY, measured_only, scores_with
from scores_fixture import make_scores

from edgeprune.reports.plots import Plot
from edgeprune.reports.score_plots import PROPOSALS, draw


def texts(plot: Plot) -> list[str]:
    """Return what is written in a figure."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", plot.svg)


def named(plots: list[Plot]) -> dict[str, Plot]:
    return {plot.name: plot for plot in plots}


def test_every_labelling_has_a_curve_of_its_own_and_the_task_is_said_to_be_it() -> None:
    plots = draw(scores_with(labelings=("word", "Öl & sex")))
    assert [plot.name for plot in plots] == ["convexity-1-word", "convexity-2-l-sex"]
    assert [plot.title for plot in plots] == [
        "Convexity of word, the task",
        "Convexity of Öl & sex",
    ]
    assert {plot.section for plot in plots} == {"convexity"}
    assert "k = 10" in plots[0].caption


def test_without_measured_cuts_the_depth_near_the_peak_is_marked_and_no_rule() -> None:
    scores = scores_with()
    scores["first_within_1_percent"]["teacher"] = 2
    (plot,) = draw(scores)
    assert "within 1 % of the peak: depth 2" in texts(plot)
    assert not [text for text in texts(plot) if text.startswith("convexity-")]


def test_where_cuts_were_measured_the_depths_that_convexity_proposes_are_marked() -> None:
    scores = scores_with("picks")
    rule, other = [*PROPOSALS][:2]
    scores["picks"][rule]["proposed"], scores["picks"][other]["proposed"] = 2, None
    said = texts(draw(scores)[0])
    assert f"{rule}: depth 2" in said
    assert not [text for text in said if text.startswith((f"{other}: depth", "within 1 %"))]


def test_euclidean_convexity_stands_beside_the_graphs_where_it_was_measured() -> None:
    with_, without = draw(scores_with("euclidean")), draw(scores_with())
    assert "Euclidean convexity (straight lines)" in texts(with_[0])
    assert "Euclidean convexity (straight lines)" not in texts(without[0])


def test_a_correlation_without_an_interval_is_drawn_without_one() -> None:
    scores = scores_with("picks", "convexity_against_accuracy")
    scores["convexity_against_accuracy"] = {
        "cut": {"rho": 1.0, "interval": None, "layers": 4}, "finetuned": None,
    }  # fmt: skip
    plot = named(draw(scores))["convexity-against-accuracy"]
    assert "cut rho = 1.00" in texts(plot)
    assert "[" not in plot.title
    scores["convexity_against_accuracy"]["cut"]["interval"] = [0.5, 0.9]
    assert named(draw(scores))["convexity-against-accuracy"].title.endswith("1.00 [0.50, 0.90]")


def test_every_way_of_measuring_has_a_plot_with_a_line_for_every_rule() -> None:
    scores = scores_with(*ACCURACY)
    plots = {plot.name: plot for plot in draw(scores) if plot.section == "accuracy"}
    assert set(plots) == {"accuracy-cut", "accuracy-bridged", "accuracy-finetuned"}
    for plot in plots.values():
        said = {text.removesuffix(" (band: 95 %)") for text in texts(plot)}
        assert {rule for rule in scores["picks"] if rule not in PROPOSALS} <= said
        assert {"whole model", "1 percentage point less", "95 % of the whole model"} <= said
        assert {text.split(" proposes ")[0] for text in said if "proposes" in text} == set(
            PROPOSALS
        )


def test_the_winner_has_a_band_only_where_intervals_were_measured() -> None:
    scores = scores_with(*ACCURACY)
    for depth in scores["picks"]["forward"]["depths"]:
        depth["finetuned_interval"] = None
    drawn = {plot.name: "forward (band: 95 %)" in plot.svg for plot in draw(scores)}
    assert drawn["accuracy-cut"]
    assert not drawn["accuracy-finetuned"]
    assert not drawn["accuracy-bridged"]


def test_what_nobody_measured_makes_no_plot() -> None:
    scores = scores_with(*ACCURACY)
    measured_only(scores, "finetuned_accuracy")
    plots = [plot.name for plot in draw(scores) if plot.section == "accuracy"]
    assert plots == ["accuracy-finetuned"]
    assert [plot.section for plot in draw(scores_with("picks", "verdict"))] == ["convexity"]


def test_a_fine_tuned_model_is_drawn_beside_itself_before() -> None:
    scores = scores_with()
    assert "model before fine-tuning" not in texts(draw(scores)[0])
    scores["curves"]["untouched"] = scores["curves"]["teacher"]
    assert "model before fine-tuning" in texts(draw(scores)[0])


@pytest.mark.slow
def test_the_deepest_models_can_be_drawn() -> None:
    for plot in draw(make_scores(48)):
        assert matplotlib.image.imread(io.BytesIO(plot.png)).std() > 0, plot.name
