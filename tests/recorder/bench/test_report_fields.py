"""Every field of bench.json is described, and whatever is null says why."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench_rounds import measured_without_a_clock
from repository import ROOT

from edgeprune_device.bench.check import BenchOptions
from edgeprune_device.bench.report import markdown_text, terminal_text
from edgeprune_device.bench.runner import bench

PAGE = ROOT / "docs" / "reference" / "bench-json.md"
NOT_ASKED = {"command", "note", "wav", "watts", "paced", "sustained"}
"""Null where an option was not given."""
NOT_SAID = {"quantization", "parameters", "layers"}
"""Null where the bundle does not say."""
OWN_KEYS = {"execution", "runtimes", "missing"}
"""Their keys are names of formats, packages and fields."""


@pytest.fixture(scope="module", params=["made", pytest.param("real", marks=pytest.mark.slow)])
def result(
    request: pytest.FixtureRequest, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Give a run with everything in it: of latencies that are made up, and a real one."""
    out = tmp_path_factory.mktemp("fields")
    if request.param == "made":
        measured_without_a_clock([tiny_bundle], out / "first")
        return measured_without_a_clock(
            [tiny_bundle], out / "second", earlier=(out / "first" / "bench.json",)
        )
    plain: dict[str, Any] = {"threads": (1,), "seconds": 0.05, "rounds": 3, "say": lambda _: None}
    bench([tiny_bundle], out / "first", **plain)
    more = BenchOptions(paced=True, sustained_minutes=0.02, watts=(2.0, 4.0), note="in a box",
                  earlier=(out / "first" / "bench.json",))  # fmt: skip
    return bench([tiny_bundle], out / "second", profile=True, options=more, **plain)


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object, however deep."""
    if isinstance(value, dict):
        yield value
        for key, held in value.items():
            if key not in OWN_KEYS:
                yield from objects(held)
    elif isinstance(value, list):
        for held in value:
            yield from objects(held)


def test_every_field_is_described(result: dict[str, Any]) -> None:
    described = set(re.findall(r"`([a-z0-9_]+)`", PAGE.read_text("utf-8")))
    found = {key for one in objects(result) for key in one}
    assert {key for key in found if not key.endswith("_missing")} - described == set()


def test_whatever_is_null_says_why(result: dict[str, Any]) -> None:
    series = {id(point) for point in result["environment"]["series"]}
    for one in objects(result):
        for key, value in one.items():
            if value is not None or key in NOT_ASKED | NOT_SAID or id(one) in series:
                continue
            reasons = one.get("missing", {})
            told = reasons if isinstance(reasons, str) else reasons.get(key)
            assert told or one.get(f"{key}_missing"), (
                f"{key} of {sorted(one)} is null without a reason"
            )


def test_every_part_that_was_asked_for_is_in_the_tables(result: dict[str, Any]) -> None:
    for text in (markdown_text(result), terminal_text(result)):
        for title in ("Real-time factor and stability", "Inference", "Start-up",
                      "From the last sample of a window to disk", "Paced", "Sustained", "Memory",
                      "Machine state", "Energy", "Compared with "):  # fmt: skip
            assert title in text


def test_a_run_beside_its_own_bundle_on_this_machine_is_comparable(result: dict[str, Any]) -> None:
    [compared] = result["comparisons"]
    assert compared["rows"][0]["not_comparable"] == []
    assert compared["rows"][0]["p50"]["ratio"] > 0


def test_the_fields_that_live_statistics_share_are_flat_in_a_variant(
    result: dict[str, Any],
) -> None:
    [one] = result["variants"]
    shared = ("n", "p50_ms", "p90_ms", "p99_ms", "mean_ms", "min_ms", "max_ms", "real_time_factor")
    assert all(isinstance(one[key], int | float) for key in shared)
    assert len(one["samples_ms"]) == min(one["n"], 20_000)
