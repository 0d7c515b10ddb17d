"""The report of compress: its sentence, its facts, its page and its figures, all from the numbers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from compress_report_fixture import make_report
from scores_fixture import make_scores

from edgeprune.reports import compress_report
from edgeprune.reports.compress_report import (
    facts_of,
    headline,
    make_figures,
    scores_of,
    to_html_page,
    to_markdown_page,
)
from edgeprune.reports.compress_tables import make_tables

NASTY = '<b>&"x"'


def test_the_headline_tells_size_speed_and_what_was_lost() -> None:
    assert headline(make_report()) == (
        "From 12 layers to 6, from 378.0 MB to 95.0 MB, from 40.0 ms to 10.0 ms per window; test accuracy "
        "went from 95.0 % to 93.0 % (-2.0 percentage points, 95 % interval -3.0 to +1.0)."
    )


def test_where_no_layer_went_parameters_are_compared() -> None:
    r = make_report()
    r["summary"]["bundle"]["layers"] = 12
    assert headline(r).startswith("From 94.00 M to 47.50 M parameters, from 378.0 MB to")
    r["summary"]["bundle"]["parameters"] = r["summary"]["teacher"]["parameters"]
    assert headline(r).startswith("All 12 layers kept, from 378.0 MB to 95.0 MB, from 40.0 ms")


@pytest.mark.parametrize(("column", "said"), [("speaker", "speaker"),
                                              ("", "clip (no group column)")])  # fmt: skip
def test_the_facts_say_what_was_split_by_and_what_the_bench_noted(column: str, said: str) -> None:
    r = make_report()
    r["data"]["group_column"] = column
    facts = dict(facts_of(r))
    assert facts["split by"] == said
    assert facts["clips"] == "70 train, 15 valid, 23 test"
    assert facts["labels"] == "3 in column label"
    assert facts["note on latency"] == "The processor was throttled."
    assert facts["data digest"] == "abababababababab"


def test_the_facts_say_where_the_bundle_has_more_labels_than_the_data() -> None:
    r = make_report()
    r["data"]["bundle_labels"] = 40
    said = dict(facts_of(r))["labels"]
    assert said == "3 in column label; the bundle has 40, all that the model knows"


def test_the_markdown_page_has_every_table_that_has_rows() -> None:
    r = make_report()
    page = to_markdown_page(r, make_tables(r))
    headings = re.findall(r"^## (.*)", page, re.MULTILINE)
    assert headings == ["Before and after", "Metrics", "Seeds", "Compression steps", "Layer subsets tried",
                        "Candidate files", "Latency on this machine", "Labels", "Details"]  # fmt: skip
    for seed in r["seeds"]:
        seed["steps"] = seed["steps"][:1]
    assert "## Layer subsets tried" not in to_markdown_page(r, make_tables(r))


def test_the_page_is_whole_in_one_file_and_escapes_what_the_data_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    r = make_report() | {"model": NASTY, "headline": NASTY}
    r["data"]["source"] = NASTY
    drawn = {"convexity": "", "latency": "<svg></svg>", "learning": ""}
    monkeypatch.setattr(compress_report, "make_figures", lambda _: drawn)
    page = to_html_page(r, make_tables(r), f"seeds = 1 # {NASTY}")
    assert "<b>" not in page
    assert page.count("&lt;b&gt;&amp;") >= 3
    assert not re.search(r"url\(|@import|<script|<link|src=", page)
    assert "Compression steps" in page
    assert "Candidate files" in page
    assert "fastest here" in page


def test_figures_are_drawn_of_what_there_is() -> None:
    r = make_report()
    figures = make_figures(r)
    assert figures["convexity"] == ""
    assert "teacher, float32" in figures["latency"]
    assert "distill, seed 1" in figures["learning"]
    assert "depth, seed 0" not in figures["learning"], "it trained nothing"
    for seed in r["seeds"]:
        seed["learning"] = {"teach": []}
    assert make_figures(r)["learning"] == ""


def test_convexity_is_drawn_where_a_task_has_classes() -> None:
    scores = make_scores(12, ("word",), full=False)
    r = make_report() | {"scores": [scores, scores]}
    assert "kept: 6" in make_figures(r)["convexity"]
    assert make_figures(r | {"scores": [scores | {"task": ""}]})["convexity"] == ""


def test_scores_are_read_of_the_seeds_that_have_them(tmp_path: Path) -> None:
    for seed in range(3):
        folder = tmp_path / f"seed-{seed}" / "score"
        if seed != 1:
            folder.mkdir(parents=True)
            (folder / "layers.json").write_text(json.dumps({"layers": seed}), "utf-8")
    found = scores_of([tmp_path / f"seed-{seed}" for seed in range(3)])
    assert found == [{"layers": 0}, {"layers": 2}]
