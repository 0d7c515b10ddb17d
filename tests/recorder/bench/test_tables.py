"""The tables of a benchmark, cell by cell, from a run whose figures are known."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from edgeprune_device.bench import tables
from edgeprune_device.bench.wording import Section


@pytest.fixture
def result(made: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(made)


def section(result: dict[str, Any], beginning: str) -> Section:
    return next(one for one in tables.sections(result) if one.title.startswith(beginning))


def test_the_first_table_has_a_row_for_each_variant_and_brackets_where_it_is_not_sure(
    result: dict[str, Any],
) -> None:
    large, small = tables.table_rows(result)
    assert len(large) == len(tables.HEADINGS)
    assert large[:6] == ["large", "float32", "2", "753,000", "3.01", "1"]
    assert large[9] == "1"
    low, high = result["variants"][1]["speedup_interval"]
    assert small[9] == f"{result['variants'][1]['speedup']:.2f} ({low:.2f} to {high:.2f})"
    assert small[9].startswith("2.0")
    assert large[10:] == ["80", "30.0"]


def test_a_p99_of_too_few_windows_and_what_a_bundle_does_not_say_are_no_numbers(
    result: dict[str, Any],
) -> None:
    one = result["variants"][0]
    one.update(n=100, quantization=None, layers=None, parameters=None, model_rss_mb=None)
    row = tables.table_rows(result)[0]
    assert (row[1:4], row[7], row[11]) == (["", "", ""], "too few", "")


def test_the_tables_come_in_the_order_a_reader_wants_them(result: dict[str, Any]) -> None:
    assert [one.title for one in tables.sections(result)] == [
        "Real-time factor and stability", "Inference", "Start-up",
        "From the last sample of a window to disk", "Paced", "Sustained", "Memory", "Machine state",
        "Energy",
    ]  # fmt: skip
    for one in tables.sections(result):
        assert one.text
        assert all(len(row) == len(one.headings) for row in one.rows), one.title


def test_what_was_not_measured_has_no_table(result: dict[str, Any]) -> None:
    for one in result["variants"]:
        one.update(paced=None, sustained=None, energy={"missing": "no meter"})
        for name in ("cold_start", "end_to_end"):
            del one["phases"][name]
    titles = [one.title for one in tables.sections(result)]
    assert titles == ["Real-time factor and stability", "Inference", "Memory", "Machine state"]


def test_the_verdict_says_whether_it_keeps_up_and_by_what(result: dict[str, Any]) -> None:
    found = section(result, "Real-time factor")
    assert [row[0:3] for row in found.rows] == [
        ["large, 1 thread", "yes", "unstable"], ["small, 1 thread", "yes", "unstable"],
    ]  # fmt: skip  # the sustained part became slower
    assert found.rows[0][7] == "p99"
    assert "Unstable: " in found.text
    result["verdict"] = {"stable": True, "reasons": []}
    result["variants"][0]["real_time"].update(keeps_up=False, rtf_p99=None, max_overlap=None)
    found = section(result, "Real-time factor")
    assert found.text.startswith("The run was stable.")
    assert (found.rows[0][1], found.rows[0][4], found.rows[0][6]) == ("no", "too few", "none")


def test_the_paced_and_the_sustained_rows_are_the_figures(result: dict[str, Any]) -> None:
    pace, run = result["variants"][0]["paced"], result["variants"][0]["sustained"]
    row = section(result, "Paced").rows[0]
    assert row[:3] == ["large, 1 thread", "0.25", str(pace["n"])]
    assert row[6:8] == [str(pace["misses"]), str(pace["longest_streak"])] == ["0", "0"]
    assert row[11] == "75.0%"
    row = section(result, "Sustained").rows[0]
    assert row[1:4] == ["slower", "3600", "1.0"]
    assert row[6].startswith(f"{run['ratio']:.3f} (")
    run.clear()
    run.update(drift="unknown", n=5, missing="no window")
    assert section(result, "Sustained").rows[0][1:] == ["unknown", "5", "", "", "", ""]


def test_operators_have_types_first_then_the_slowest_nodes_or_a_reason(
    result: dict[str, Any],
) -> None:
    large, small = result["variants"]
    assert tables.operator_parts(result) == []
    types = [{"type": f"Op{n}", "nodes": 1, "ms": 1.0, "share": 0.05} for n in range(12)]
    node = {"node": "MatMul_3", "type": "MatMul", "ms": 0.5, "share": 0.25}
    large["operators"] = {"ms": 4.0, "windows": 20, "types": types, "slowest": [node]}
    small["operators"] = {"missing": "LiteRT has no operator profiler"}
    (text, rows), (why, none) = tables.operator_parts(result)
    assert "4.00 ms per window" in text
    assert len(rows) == tables.TYPES_SHOWN + 1
    assert rows[0] == ["Op0", "1", "1.00", "5.0%"]
    assert rows[-1] == ["MatMul_3 (MatMul)", "", "0.500", "25.0%"]
    assert why.endswith("LiteRT has no operator profiler")
    assert none == []


def test_an_earlier_result_beside_this_one_comes_last(result: dict[str, Any]) -> None:
    compared = {"source": "old.json", "rows": []}
    assert (
        tables.sections(result | {"comparisons": [compared]})[-1].title == "Compared with old.json"
    )
