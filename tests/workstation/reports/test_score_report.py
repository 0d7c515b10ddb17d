"""The page of ``edgeprune score``: whole in one file, every figure twice, honest about what is not there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
from scores_fixture import make_scores

from edgeprune.reports.results import ScoreResult
from edgeprune.reports.score_plots import draw
from edgeprune.reports.score_report import facts_of, make_tables, read_scores, score_report
from edgeprune_device.errors import EdgepruneError

NASTY = '<b>&"x"'


def written(scores: dict[str, Any], out: Path) -> ScoreResult:
    """Write the report of a record, as ``edgeprune score`` does."""
    (out / "score").mkdir(parents=True)
    (out / "score" / "scores.json").write_text(json.dumps(scores), "utf-8")
    return score_report(out / "score", out)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> ScoreResult:
    return written(make_scores(12), tmp_path_factory.mktemp("score") / "words")


@pytest.fixture(scope="module")
def twelve(done: ScoreResult) -> Path:
    return done.folder


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a report of what is always measured, and no more."""
    out = tmp_path_factory.mktemp("score") / "bare"
    scores = make_scores(3, ("label",), full=False)
    scores["similarity"] = {"cka": scores["similarity"]["cka"]}  # one map of five
    written(scores, out)
    return out


def test_the_folder_holds_the_record_the_page_the_summary_and_no_half_written_file(
    twelve: Path,
) -> None:
    assert (twelve / "scores.json").read_bytes() == (twelve / "score/scores.json").read_bytes()
    names = {path.name for path in twelve.iterdir()}
    assert names == {"score", "figures", "scores.json", "report.html", "report.md"}
    assert not list(twelve.rglob("*.partial"))


def test_the_page_loads_nothing_and_runs_nothing(twelve: Path) -> None:
    page = (twelve / "report.html").read_text("utf-8")
    linked = re.findall(r'(?:src|href)\s*=\s*"([^"]*)"', page)
    assert all(link.startswith(("#", "data:")) for link in linked)
    assert not re.search(r"url\((?!#)|@import|<script|<link", page)


def test_every_figure_is_there_as_svg_and_as_a_png_of_a_sane_size(twelve: Path) -> None:
    names = {path.stem for path in (twelve / "figures").glob("*.svg")}
    assert names == {path.stem for path in (twelve / "figures").glob("*.png")}
    assert len(names) == 3 + 3 + 7 + 2 + 1  # curves, accuracies, maps, bars, scatter
    for name in names:
        height, width, _ = matplotlib.image.imread(twelve / "figures" / f"{name}.png").shape
        assert 400 < width < 1400
        assert 400 < height < 1400


def test_every_figure_has_a_name_for_the_blind_and_a_caption(twelve: Path) -> None:
    page = (twelve / "report.html").read_text("utf-8")
    figures = re.findall(r"<figure.*?</figure>", page, re.DOTALL)
    assert len(figures) == len(list((twelve / "figures").glob("*.svg")))
    for figure in figures:
        assert re.search(r'<svg role="img" aria-label="[^"]+"', figure)
        assert re.search(r"<figcaption>[^<]+\.</figcaption>", figure)


def test_the_summary_links_every_figure(twelve: Path) -> None:
    linked = set(re.findall(r"\]\((figures/[^)]+)\)", (twelve / "report.md").read_text("utf-8")))
    assert linked == {f"figures/{path.name}" for path in (twelve / "figures").glob("*.svg")}


@pytest.mark.parametrize("name", ["report.html", "report.md"])
def test_what_was_not_measured_is_left_out(twelve: Path, bare: Path, name: str) -> None:
    for heading in ("Accuracy by number of layers", "Does convexity predict accuracy?"):
        assert heading in (twelve / name).read_text("utf-8")
        assert heading not in (bare / name).read_text("utf-8")
    assert "Convexity of the classes" in (bare / name).read_text("utf-8")


def test_without_measured_cuts_the_curve_shows_where_it_comes_near_its_peak(bare: Path) -> None:
    curve = (bare / "figures" / "convexity-1-label.svg").read_text("utf-8")
    assert "within 1 % of the peak: " in curve


def test_labels_are_text_and_never_markup(tmp_path: Path) -> None:
    scores = make_scores(3, (NASTY, "speaker"), classes=(NASTY, "a|b"), full=False)
    few = dict.fromkeys(("similarity", "angular", "block_influence"))
    written({**scores, **few, "model": NASTY, "headline": NASTY}, tmp_path / "run")
    for name in ("report.html", "report.md"):
        page = (tmp_path / "run" / name).read_text("utf-8")
        assert "<b>" not in page
        assert "&lt;b&gt;&amp;" in page
    assert "<b>" not in (tmp_path / "run/figures/convexity-1-b-x.svg").read_text("utf-8")


def test_the_terminal_is_told_what_to_keep_which_rule_won_and_where_the_page_is(
    done: ScoreResult, twelve: Path
) -> None:
    scores = make_scores(12)
    assert {key: done.scores[key] for key in scores} == scores
    ending = [scores["headline"], scores["verdict"]["sentence"],
              scores["verdict"]["finetuned"]["sentence"], f"Report: {twelve / 'report.html'}"]  # fmt: skip
    assert done.text.splitlines()[-4:] == ending
    assert "\nforward " in done.text


def test_the_table_of_picks_reads_the_accuracy_at_the_depth_that_held() -> None:
    scores = make_scores(12)
    pick = scores["picks"]["forward"]
    pick["held"], pick["held_95"] = 9, None
    pick["depths"][8] |= {"accuracy": 0.875, "interval": [0.85, 0.9], "keep": [0, 1, 2, 5, 6, 8]}
    shown = make_tables(scores)["picks"]
    row = next(row for row in shown.rows if row[0] == "forward")
    assert row[2:7] == ("9", "0-2, 5-6, 8", "87.5 % [85.0, 90.0]", "-", "-")
    assert shown.rows[shown.main] == row  # the winner


def test_depths_nobody_measured_are_no_rows_and_make_no_panel() -> None:
    scores = make_scores(12, ("word",))
    for pick in scores["picks"].values():
        for depth in pick["depths"]:
            depth["bridged_accuracy"] = None
            depth["finetuned_accuracy"] = 0.9 if depth["layers"] == 4 else None
    tables = make_tables(scores)
    assert "bridged_accuracy" not in tables
    assert [row[0] for row in tables["finetuned_accuracy"].rows] == ["4"]
    few = {**scores, **dict.fromkeys(("similarity", "angular", "block_influence", "ablation"))}
    plots = {plot.name for plot in draw(few)}
    assert "accuracy-bridged" not in plots
    assert "accuracy-finetuned" in plots


def test_random_orders_have_no_layers_to_name_and_say_how_many_they_were() -> None:
    scores = make_scores(12)
    shown = make_tables(scores)["picks"]
    assert next(row for row in shown.rows if row[0] == "random")[3] == "-"
    assert ("random", "the mean of 5 orders") in facts_of(scores)
    for depth in scores["picks"]["random"]["depths"]:
        del depth["draws"]  # one order: nothing to take a mean of
    assert "random" not in dict(facts_of(scores))


@pytest.mark.parametrize(
    "every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["one part", "every plot"]
)
def test_the_same_record_draws_the_same_bytes(every: bool, twelve: Path) -> None:
    scores = make_scores(12)
    if not every:
        scores |= dict.fromkeys(("picks", "similarity", "angular", "block_influence"))
    plots = draw(scores)
    assert len(plots) >= 4
    for plot in plots:
        if plot.name == "convexity-1-word" and not every:
            continue  # the rules' proposals are drawn there, too
        assert (twelve / "figures" / f"{plot.name}.svg").read_text("utf-8") == plot.svg
        assert (twelve / "figures" / f"{plot.name}.png").read_bytes() == plot.png


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 2'), "version 2"),
        (
            lambda text: text.replace("schema_version", "schema"),
            "is not a scores.json of edgeprune score .KeyError",
        ),
        (lambda text: text[:100], "is not a scores.json of edgeprune score"),
        (lambda text: "[]", "is not a scores.json of edgeprune score"),
    ],
)
def test_a_record_of_another_form_is_refused_in_a_sentence(
    change: Callable[[str], str], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "scores.json"
    path.write_text(change(json.dumps(make_scores(3))), "utf-8")
    with pytest.raises(EdgepruneError, match=said) as refused:
        read_scores(path)
    assert refused.value.hint
