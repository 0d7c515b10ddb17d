"""The tables of a compress report: what each cell says, read back from the numbers."""

from __future__ import annotations

from typing import Any

import pytest
from compress_report_fixture import LABELS, make_report

from edgeprune.core.tables import Table
from edgeprune.quantization.methods import METHODS
from edgeprune.reports.compress_tables import (
    OTHER,
    QUANTIZED,
    ROWS,
    TITLES,
    least_threads,
    make_tables,
    requested_and_removed,
)


def column(shown: Table, header: str) -> list[str]:
    return [row[shown.headers.index(header)] for row in shown.rows]


def with_shares(r: dict[str, Any]) -> dict[str, Any]:
    """Add a step ``reconstruct`` that tried two shares to the first seed of a report."""
    tried = [
        {
            "ratio": 0.4,
            "valid_score": 0.95,
            "loss": -0.0056,
            "standard_error": 0.0028,
            "held": True,
        },
        {"ratio": 0.6, "valid_score": 0.92, "loss": 0.022, "standard_error": 0.01, "held": False},
    ]
    step = {"step": "reconstruct", "of": "macs", "requested": 0.4, "reached": {"macs": 0.4}}
    r["seeds"][0]["steps"].append({**r["seeds"][0]["steps"][-1], **step, "tried": tried})
    return r


def test_every_table_has_a_cell_for_every_header() -> None:
    for task in ("classes", "tags"):
        for name, shown in make_tables(with_shares(make_report(task))).items():
            assert {len(row) for row in shown.rows} == {len(shown.headers)}, name


def test_before_and_after_are_rows_and_the_bundle_is_the_one_that_matters() -> None:
    shown = make_tables(make_report())["summary"]
    assert column(shown, "") == ["teacher, float32", "student, float32", "bundle, onnx, int8"]
    assert shown.rows[shown.main][0].startswith("bundle")
    assert shown.rows[-1][1:] == (
        "6", "47.50 M", "95.0 MB", "93.0 % [90.0, 95.0]", "-2.00", "97.0 %",
        "10.0 / 44.0 / 60.5", "4.00 x", "512 MB",
    )  # fmt: skip
    teacher = dict(zip(shown.headers, shown.rows[0], strict=True))
    assert (teacher["change (pp)"], teacher["agreement"]) == ("", ""), (
        "it is not held against itself"
    )
    assert teacher["speedup"] == "1.00 x"


def test_of_two_formats_both_are_named() -> None:
    shown = make_tables(make_report(names=(*ROWS, OTHER)))["summary"]
    assert column(shown, "")[2:] == ["bundle, onnx, int8", "other format, tflite, int8"]


def test_every_method_has_a_name_for_people() -> None:
    assert set(QUANTIZED) == {name for methods in METHODS.values() for name in methods}
    assert set(TITLES) == {*ROWS, OTHER}


def test_every_metric_of_a_task_is_a_row_with_its_interval() -> None:
    shown = make_tables(make_report())["metrics"]
    assert column(shown, "metric (test clips)") == ["accuracy", "balanced accuracy", "macro F1"]
    assert column(shown, "bundle [95 %]")[1] == "92.0 % [89.0, 94.0]"


def test_the_seed_that_is_delivered_is_said_to_be_it() -> None:
    shown = make_tables(make_report())["seeds"]
    assert column(shown, "") == ["seed 0", "seed 1 (delivered)"]
    assert column(shown, "layers kept") == ["6 of 12"] * 2
    assert column(shown, "export vs torch") == ["3e-06"] * 2


def test_every_step_tells_its_share_of_the_teachers_work() -> None:
    shown = make_tables(make_report())["steps"]
    assert column(shown, "") == ["seed 0", "", "", "seed 1", "", ""]
    assert column(shown, "step")[:3] == ["teach", "depth", "trim"]
    assert column(shown, "% of teacher")[:3] == ["100 %", "50 %", "25 %"]
    assert column(shown, "requested / removed")[:3] == ["", "", "50 % / 49.8 % of macs"]


@pytest.mark.parametrize(
    ("step", "text"),
    [({"step": "depth"}, ""),
     ({"requested": 0.3, "of": "latency", "reached": {"latency": 0.312, "macs": 0.5}},
      "30 % / 31.2 % of latency")],
)  # fmt: skip
def test_only_what_was_asked_for_a_share_says_what_it_reached(
    step: dict[str, object], text: str
) -> None:
    assert requested_and_removed(step) == text


def test_layer_subsets_are_listed_in_the_order_they_were_tried_with_their_result() -> None:
    shown = make_tables(make_report())["candidates"]
    assert column(shown, "layers kept")[:2] == ["6 of 12", "2 of 12"]
    assert column(shown, "result")[:2] == ["accepted, chosen", "rejected"]
    assert column(shown, "convexity")[:2] == ["80.0 %", ""]
    without = make_report()
    for seed in without["seeds"]:
        seed["steps"] = seed["steps"][::2]
    assert not make_tables(without)["candidates"].rows


def test_shares_of_a_reconstruction_are_listed_with_what_they_lose() -> None:
    assert not make_tables(make_report())["shares"].rows
    r = with_shares(make_report())
    shown = make_tables(r)["shares"]
    assert column(shown, "removed") == ["40 % of macs", "60 % of macs"]
    assert column(shown, "loss ± standard error (pp)") == ["-0.56 ± 0.28", "+2.20 ± 1.00"]
    assert column(shown, "result") == ["accepted, chosen", "rejected"]


def test_candidate_files_say_what_they_lose_and_why_one_was_chosen() -> None:
    shown = make_tables(make_report())["files"]
    assert column(shown, "") == ["onnx, int8", "onnx, float32"]
    assert column(shown, "change (pp)") == ["-0.40", "+0.00"]
    assert column(shown, "reason chosen") == ["fastest here", ""]
    assert shown.title == "Candidate files; target: here"


def test_the_smallest_thread_count_is_the_one_compared_and_all_are_listed() -> None:
    r = make_report()
    assert least_threads(r["bench"]) == 1
    shown = make_tables(r)["speed"]
    assert column(shown, "threads") == ["2"] * 3 + ["1"] * 3
    assert column(shown, "p50 ms")[-1] == "40.00"


@pytest.mark.parametrize(
    ("task", "headers"),
    [("classes", ["recall, teacher", "recall, student", "recall, bundle", "precision, bundle"]),
     ("tags", ["average precision, teacher", "average precision, student",
               "average precision, bundle", "recall, bundle", "precision, bundle"])],
)  # fmt: skip
def test_every_label_has_what_its_task_counts(task: str, headers: list[str]) -> None:
    shown = make_tables(make_report(task))["labels"]
    assert list(shown.headers) == ["label", *headers]
    assert column(shown, "label") == list(LABELS)
    assert column(shown, "precision, bundle") == ["80.0 %"] * 3
