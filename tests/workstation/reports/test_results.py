"""What compress and score return: typed fields, a table for a notebook, text for a terminal."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from compress_report_fixture import make_report
from scores_fixture import make_scores

from edgeprune.core.tables import table
from edgeprune.reports.compress_tables import OTHER, ROWS, make_tables
from edgeprune.reports.results import (
    CompressResult,
    FileMeasures,
    ScoreResult,
    compress_result,
    score_result,
)

NASTY = '<b>&"x"'


def compressed(**changes: Any) -> CompressResult:
    report = make_report() | changes
    return compress_result(Path("/runs/tones"), report, make_tables(report)["summary"])


@pytest.fixture
def scored(tmp_path: Path) -> ScoreResult:
    scores = make_scores(3, ("word", "speaker"), full=False) | {"headline": f"Keep {NASTY}"}
    scores["curves"]["teacher"]["speaker"][0]["interval"] = None
    (tmp_path / "scores.json").write_text(json.dumps(scores), "utf-8")
    shown = table(("layers passed", NASTY), [("0", "1.0 %")])
    return score_result(tmp_path, shown, "what the command prints")


def test_every_field_of_a_row_is_of_the_type_it_names() -> None:
    result = compressed()
    kinds = get_type_hints(FileMeasures)
    for row in (result.before, result.after, *result.files.values()):
        for item in fields(FileMeasures):
            value, kind = getattr(row, item.name), kinds[item.name]
            if kind in (int, float, str):
                assert isinstance(value, (int, float) if kind is float else kind), item.name
            else:
                assert isinstance(value, tuple), item.name
                assert len(value) == 2


def test_before_is_the_teacher_and_after_the_bundle() -> None:
    result = compressed()
    assert result.before == result.files["teacher"]
    assert result.after == result.files["bundle"]
    assert (result.before.layers, result.after.layers) == (12, 6)
    assert list(result.after.interval) == pytest.approx([0.90, 0.95])
    assert result.bundle == Path("/runs/tones/bundle")
    assert list(result.files) == list(ROWS)
    assert result.report["data"]["test_clips"] == 23


def test_a_second_format_is_another_row() -> None:
    report = make_report(names=(*ROWS, OTHER))
    result = compress_result(Path("/runs/tones"), report, make_tables(report)["summary"])
    assert list(result.files) == [*ROWS, OTHER]
    assert (result.after.format, result.files[OTHER].format) == ("onnx", "tflite")


def test_printed_it_is_the_table_the_headline_and_where_everything_is() -> None:
    lines = str(compressed()).splitlines()
    assert "bundle, onnx, int8" in "\n".join(lines)
    assert lines[-3:] == [
        "From 12 layers to 6.", "Report: /runs/tones/report.html", "Bundle: /runs/tones/bundle",
    ]  # fmt: skip


def test_a_result_names_itself_in_one_line() -> None:
    assert repr(compressed()) == "CompressResult('/runs/tones': From 12 layers to 6.)"


def test_in_a_notebook_it_is_the_table_and_nothing_in_it_is_markup() -> None:
    report = make_report() | {"headline": NASTY}
    shown = table((NASTY, "layers"), [(NASTY, "6")])
    page = compress_result(Path(f"/runs/{NASTY}"), report, shown)._repr_html_()
    assert page.count("<table>") == page.count("</table>") == 1
    assert "<b>" not in page
    assert page.count("&lt;b&gt;&amp;") == 4  # header, cell, headline, folder


def test_nothing_of_a_result_can_be_changed(scored: ScoreResult) -> None:
    result = compressed()
    for one, name in ((result, "bundle"), (result.after, "score"), (scored, "layers")):
        with pytest.raises(FrozenInstanceError):
            setattr(one, name, None)


def test_a_row_that_lacks_a_number_is_an_error_and_no_guess() -> None:
    report = make_report()
    del report["summary"]["bundle"]["p99_ms"]
    with pytest.raises(KeyError, match="p99_ms"):
        compress_result(Path("/runs/tones"), report, table(("",), []))


def test_scores_give_every_labellings_curve_state_by_state(scored: ScoreResult) -> None:
    assert scored.layers == 3
    assert set(scored.convexity) == {"word", "speaker"}
    for name, curve in scored.convexity.items():
        recorded = scored.scores["curves"]["teacher"][name]
        assert curve == tuple(layer["mean_of_classes"] for layer in recorded)
        assert len(curve) == len(scored.intervals[name]) == 4
    assert scored.intervals["speaker"][0] is None
    low, high = scored.intervals["word"][1] or (1.0, 0.0)
    assert low < scored.convexity["word"][1] < high


def test_scores_print_what_the_command_prints_and_show_a_table(scored: ScoreResult) -> None:
    assert str(scored) == scored.text == "what the command prints"
    assert repr(scored) == f"ScoreResult({str(scored.folder)!r}: Keep {NASTY})"
    page = scored._repr_html_()
    assert page.startswith("<table>")
    assert "<b>" not in page
    assert page.endswith("<p>Keep &lt;b&gt;&amp;&quot;x&quot;</p>")
