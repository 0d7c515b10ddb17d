"""The benchmark: one real run, and what it refuses."""

from __future__ import annotations

import csv
import itertools
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_rounds import WINDOW, Ran, a_round, make_bundle

from edgeprune_device.bench import runner as bench_module
from edgeprune_device.bench import statistics, tables, worker_client
from edgeprune_device.bench.runner import bench
from edgeprune_device.bench.worker_client import Round
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.errors import EdgepruneError

FILES = {"bench.json", "bench.csv", "bench.md", "bench.html"}


def silent(_: str) -> None:
    pass


def no_child(*_: object) -> Round:
    raise AssertionError("a child was started")


# The child


# A real run


def test_result_holds_every_variant_with_what_it_was_measured_on(
    ran: Ran, two_bundles: list[Path]
) -> None:
    result, _, said = ran
    large, small = result["variants"]
    assert [large["name"], small["name"]] == ["large", "small"]
    for one, path in ((large, two_bundles[0]), (small, two_bundles[1])):
        bundle = read_bundle(path)
        assert one["digest"] == bundle.digest
        assert one["model_bytes"] == len((path / "model.onnx").read_bytes())
        assert one["bundle_bytes"] > one["model_bytes"]
        assert one["n"] >= 3 * worker_client.FEWEST_WINDOWS
        assert len(one["round_medians_ms"]) == 3
        assert len(one["samples_ms"]) == min(one["n"], statistics.KEPT_SAMPLES)
        assert 0 < one["min_ms"] <= one["p50_ms"] <= one["p90_ms"] <= one["p99_ms"] <= one["max_ms"]
        assert one["real_time_factor"] == pytest.approx(2 * one["share_of_window"])
        assert 0 < one["model_rss_mb"] < one["peak_rss_mb"] < 1000
        assert 0 <= one["golden_difference"] <= 1e-4
        assert one["load_ms"] > 0 < one["cpu_ms_per_window"]
    assert (large["speedup"], large["speedup_interval"]) == (1, [1, 1])
    assert large["parameters"] == 1500 * (WINDOW + 2)
    assert result["machine"]["cores"] >= 1
    assert len(said) == 6
    assert re.fullmatch(r"round 1 of 3, \w+, 1 thread: median \S+ ms, about \d+ s left", said[0])


def test_files_are_written_whole_and_say_the_same(
    ran: Ran,
) -> None:
    result, out, _ = ran
    assert {path.name for path in out.iterdir()} == FILES
    assert json.loads((out / "bench.json").read_text("utf-8")) == result
    with (out / "bench.csv").open(encoding="utf-8", newline="") as opened:
        lines = list(csv.DictReader(opened))
    assert [line["name"] for line in lines] == ["large", "small"]
    for line, one in zip(lines, result["variants"], strict=True):
        assert float(line["p50_ms"]) == one["p50_ms"]
        assert float(line["speedup_interval_high"]) == one["speedup_interval"][1]
        assert float(line["phases.inference.p90"]) == one["phases"]["inference"]["p90"]["ms"]
        assert line["phases.load.p99"] == ""  # three rounds: absent, not 0
    whole = (out / "bench.md").read_text("utf-8").partition("\n\n")[0]
    table = whole.splitlines()
    assert {row.count("|") for row in table} == {len(tables.HEADINGS) + 1}
    assert [row.split("|")[1].strip() for row in table[2:]] == ["large", "small"]
    page = (out / "bench.html").read_text("utf-8")
    assert not re.search(r"<script|<link|src=|https?://", page)
    strips, curves, over_time = [
        ET.fromstring(one) for one in re.findall(r"<svg.*?</svg>", page, re.S)
    ]
    assert len(strips.findall("circle")) == 2 * 3
    assert len(curves.findall("polyline")) == 2
    assert len(over_time.findall("polyline")) >= 2


def test_recorders_half_is_measured_without_the_workstations_libraries(
    two_bundles: list[Path],
) -> None:
    code = (
        "import sys; import edgeprune_device.bench.runner; "
        "print({'torch', 'rich', 'psutil', 'jinja2', 'matplotlib', 'scipy'} & set(sys.modules))"
    )
    home = Path(bench_module.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=home
    )
    assert done.stdout.strip() == "set()"


# Bad input


@pytest.mark.parametrize(("change", "message"), [
    ({"bundles": []}, "No bundle was given"),
    ({"bundles": [Path("nowhere")]}, "no bundle at nowhere"),
    ({"threads": ()}, "No thread count"),
    ({"threads": (1, 0)}, "--threads 0 is out of range"),
    ({"threads": (100_000,)}, "100000 threads requested, but this process may use only"),
    ({"seconds": 0.0}, "--seconds 0 is out of range"),
    ({"seconds": float("nan")}, "--seconds nan is out of range"),
    ({"rounds": 2}, "--rounds 2 is out of range"),
    ({"names": ["one"]}, "2 different names are needed, one per model file"),
    ({"names": ["one", "one"]}, "2 different names are needed, one per model file"),
])  # fmt: skip
def test_bad_input_is_refused_before_anything_is_measured(
    change: dict[str, Any],
    message: str,
    two_bundles: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bench_module, "run_child", no_child)
    given: dict[str, Any] = {"bundles": two_bundles, "out": tmp_path / "out", "threads": (1,)}
    given |= change
    with pytest.raises(EdgepruneError, match=message) as caught:
        bench(given.pop("bundles"), given.pop("out"), say=silent, **given)
    assert caught.value.status == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_file_where_the_folder_should_be_is_refused(
    below: str, two_bundles: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(EdgepruneError, match="is a file, not a folder"):
        bench(two_bundles, tmp_path / "file" / below, threads=(1,), say=silent)
    assert (tmp_path / "file").read_text() == "mine"


def test_the_same_bundle_twice_is_refused_and_namesakes_are_told_apart_by_path(
    two_bundles: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EdgepruneError, match="given more than once"):
        bench([two_bundles[0]] * 2, tmp_path / "out", threads=(1,), say=silent)
    monkeypatch.setattr(bench_module, "run_child", lambda *_: a_round(np.full(40, 2.0)))
    namesake = make_bundle(tmp_path / "namesake", "large", 3)
    result = bench([two_bundles[0], namesake], tmp_path / "out", threads=(1,), say=silent)
    shown = [one["name"] for one in result["variants"]]
    assert shown == [str(two_bundles[0]), str(namesake)]


def test_bundle_that_computes_something_else_ends_the_run_and_writes_nothing(
    tmp_path: Path,
) -> None:
    wrong = make_bundle(tmp_path / "wrong", "wrong", 4, golden_shift=0.5)
    with pytest.raises(EdgepruneError, match=r"golden score is off by 0\.5") as caught:
        bench([wrong], tmp_path / "out", threads=(1,), seconds=0.1, say=silent)
    assert caught.value.status == 1
    assert not (tmp_path / "out").exists()


def test_interrupted_run_leaves_no_file_and_an_earlier_one_as_it_was(
    two_bundles: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bench.md").write_text("earlier")
    turns = itertools.count()

    def interrupted(*_: object) -> Round:
        if next(turns) == 4:
            raise KeyboardInterrupt
        return a_round(np.full(40, 2.0))

    monkeypatch.setattr(bench_module, "run_child", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench(two_bundles, tmp_path, threads=(1,), say=silent)
    assert [path.name for path in tmp_path.iterdir()] == ["bench.md"]
    assert (tmp_path / "bench.md").read_text() == "earlier"
