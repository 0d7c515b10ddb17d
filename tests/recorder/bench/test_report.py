"""A benchmark's files: all or none, the same figures in each, and nothing in them that runs."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from edgeprune_device.bench import report, tables
from edgeprune_device.errors import EdgepruneError


def test_a_result_is_read_back_as_it_was_with_lists_of_numbers_on_one_line() -> None:
    from edgeprune_device.bench.report import json_text

    result = {"a": [1.5, -2e-7, 3], "b": ["x", 1], "c": [], "d": {"e": [[1, 2], [3.0, 4]]},
              "f": [{"g": 1}], "h": None}  # fmt: skip
    text = json_text(result)
    assert json.loads(text) == result
    assert "[1.5, -2e-07, 3]" in text


def test_names_are_escaped_on_the_page_and_in_the_table(made: dict[str, Any]) -> None:
    result = made | {"variants": [made["variants"][0] | {"name": "<b>a|b</b>"}]}
    assert "<b>" not in report.html_text(result)
    assert "| <b>a\\|b</b> |" in report.markdown_text(result)


def test_all_four_files_are_written_and_the_folders_above_them(
    made: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "new" / "folder"
    report.write_reports(made, out)
    assert {path.name for path in out.iterdir()} == {
        "bench.json", "bench.csv", "bench.md", "bench.html",
    }  # fmt: skip
    assert json.loads((out / "bench.json").read_text("utf-8")) == made


def test_if_one_cannot_be_written_none_is_and_the_old_ones_stay(
    made: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bench.md").write_text("earlier")
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if "html" in path.name:
            raise OSError(28, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(EdgepruneError, match="cannot be written: No space left on device"):
        report.write_reports(made, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["bench.md"]
    assert (tmp_path / "bench.md").read_text() == "earlier"


def test_a_number_that_json_cannot_hold_is_a_mistake_of_the_program() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        report.json_text({"ms": float("nan")})


def test_a_line_of_the_csv_holds_every_figure_once_and_intervals_in_two_columns(
    made: dict[str, Any],
) -> None:
    profiled = [one | {"operators": {"ms": 1.0}} for one in made["variants"]]
    lines = list(csv.DictReader(io.StringIO(report.csv_text(made | {"variants": profiled}))))
    for line, one in zip(lines, made["variants"], strict=True):
        assert line["run_id"] == made["run_id"]
        assert float(line["p50_ms"]) == one["p50_ms"]
        assert float(line["p50_interval_ms_low"]) == one["p50_interval_ms"][0]
        assert float(line["phases.inference.p90"]) == one["phases"]["inference"]["p90"]["ms"]
        assert float(line["memory.pss_mb"]) == one["memory"]["pss_mb"] == 65
        assert float(line["energy.idle_watts"]) == 2.0
        assert not [
            key for key in line if "samples" in key or "slices" in key or "operators" in key
        ]


def test_tables_stand_in_columns_and_a_bar_in_a_cell_is_escaped() -> None:
    rows = [["birds|bats", "12.3"], ["x", "4"]]
    assert (
        report.aligned(("", "ms"), 1, rows)
        == "              ms\nbirds|bats  12.3\nx              4"
    )
    assert report.aligned(("", "ms"), 1, []) == ""
    assert report.markdown_table(("", "ms"), 1, rows).splitlines() == [
        "|  | ms |", "| --- | ---: |", "| birds\\|bats | 12.3 |", "| x | 4 |",
    ]  # fmt: skip


def test_the_page_loads_nothing_runs_nothing_and_draws_every_variant(made: dict[str, Any]) -> None:
    page = report.html_text(made)
    assert not re.search(r"<script|<link|src=|https?://|@import|url\(", page)
    assert page.count("<svg") == 3
    for title in ("Latency per window, ms", "Latency over time", "Sustained", "Energy"):
        assert f"<h2>{title}</h2>" in page


def test_the_terminal_and_the_markdown_have_the_same_tables(made: dict[str, Any]) -> None:
    terminal, markdown = report.terminal_text(made), report.markdown_text(made)
    for section in tables.sections(made):
        assert section.title in terminal
        assert f"## {section.title}" in markdown
        for row in section.rows:
            assert all(cell in terminal for cell in row)
