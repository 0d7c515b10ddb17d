"""The benchmark: its arithmetic against other arithmetic, one real run, and what it refuses."""

from __future__ import annotations

import csv
import itertools
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import scipy.stats
from numpy.typing import NDArray

from edgeprune_device.bench import plots, report, statistics, tables, wording, worker_client
from edgeprune_device.bench import runner as bench_module
from edgeprune_device.bench.runner import bench
from edgeprune_device.bench.worker_client import Round
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.bundle.writer import golden_files, write_bundle
from edgeprune_device.errors import EdgepruneError

RATE, WINDOW, LABELS = 1000, 500, ["blackbird", "robin"]
Ran = tuple[dict[str, Any], Path, list[str]]
FILES = {"bench.json", "bench.csv", "bench.md", "bench.html"}


def make_bundle(folder: Path, name: str, hidden: int, golden_shift: float = 0.0) -> Path:
    """Write a bundle whose model is two matrix products; half a second, hop a quarter."""
    rng = np.random.default_rng(hidden)
    first = rng.normal(size=(WINDOW, hidden)).astype(np.float32) / 30
    second = rng.normal(size=(hidden, len(LABELS))).astype(np.float32) / 30
    shapes = {"samples": [1, WINDOW], "scores": [1, len(LABELS)]}
    source, target = (
        onnx.helper.make_tensor_value_info(key, onnx.TensorProto.FLOAT, shape)
        for key, shape in shapes.items()
    )
    nodes = [
        onnx.helper.make_node("MatMul", ["samples", "first"], ["inside"]),
        onnx.helper.make_node("MatMul", ["inside", "second"], ["scores"]),
    ]
    weights = [onnx.numpy_helper.from_array(first, "first"),
               onnx.numpy_helper.from_array(second, "second")]  # fmt: skip
    graph = onnx.helper.make_graph(nodes, "tiny", [source], [target], weights)
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    sound = (rng.standard_normal(WINDOW) / 10).astype(np.float32)
    scores = np.asarray(sound @ first @ second + golden_shift, np.float32)
    files, entries = golden_files([sound], [scores], 1e-4)
    manifest = {
        "name": name,
        "labels": LABELS,
        "activation": "softmax",
        "audio": {"sample_rate": RATE, "window_seconds": WINDOW / RATE, "hop_seconds": 0.25},
        "decision": {"thresholds": dict.fromkeys(LABELS, 0.5), "smoothing_windows": 1,
                     "refractory_seconds": 1.0, "ignore": []},
        "golden": entries,
        "model": {
            "file": "model.onnx", "format": "onnx", "quantization": "float32", "layers": 2,
            "parameters": first.size + second.size,
            "input": {"name": "samples", "shape": [1, WINDOW], "dtype": "float32"},
            "output": {"name": "scores", "shape": [1, len(LABELS)]},
        },
    }  # fmt: skip
    write_bundle(folder, manifest, {"model.onnx": model.SerializeToString(), **files})
    return folder


def a_round(latencies_ms: NDArray[np.float64], **other: Any) -> Round:
    given: dict[str, Any] = {
        "cpu_ms_per_window": 2.0, "load_ms": 5.0, "first_ms": 9.0, "peak_rss_bytes": 80_000_000,
        "before_rss_bytes": 50_000_000, "golden_difference": 0.0,
    }  # fmt: skip
    return Round(latencies_ms=latencies_ms, **(given | other))


def rounds_of(seed: int, scale: float, rounds: int = 4) -> list[Round]:
    rng = np.random.default_rng(seed)
    return [a_round(scale * rng.gamma(9.0, size=rng.integers(21, 60))) for _ in range(rounds)]


def latencies(measured: list[Round]) -> list[NDArray[np.float64]]:
    return [one.latencies_ms for one in measured]


@pytest.fixture(scope="module")
def two_bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    home = tmp_path_factory.mktemp("bundles")
    return [make_bundle(home / "large", "large", 1500), make_bundle(home / "small", "small", 8)]


@pytest.fixture(scope="module")
def ran(two_bundles: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Ran:
    out, said = tmp_path_factory.mktemp("bench") / "new" / "folder", list[str]()
    return bench(two_bundles, out, threads=(1,), seconds=0.2, rounds=3, say=said.append), out, said


def silent(_: str) -> None:
    pass


def no_child(*_: object) -> Round:
    raise AssertionError("a child was started")


# Arithmetic


def test_percentiles_are_those_of_the_sorted_windows_of_all_rounds() -> None:
    measured = rounds_of(1, 3.0)
    found = statistics.summarize(measured, 0.25, 0.5)
    every = sorted(value for one in latencies(measured) for value in one)
    for key, share in (("p50_ms", 0.5), ("p90_ms", 0.9), ("p99_ms", 0.99)):
        assert found[key] == pytest.approx(scipy.stats.mstats.mquantiles(every, share, 1, 1)[0])
    assert (found["n"], found["min_ms"], found["max_ms"]) == (len(every), every[0], every[-1])
    assert found["mean_ms"] == pytest.approx(sum(every) / len(every))


def test_real_time_factor_is_of_the_hop_and_the_share_of_the_window() -> None:
    found = statistics.summarize([a_round(np.full(20, 50.0))] * 3, 0.25, 0.5)
    assert found["real_time_factor"] == pytest.approx(0.2)
    assert found["share_of_window"] == pytest.approx(0.1)


def test_memory_is_the_highest_peak_and_the_models_share_leaves_out_python() -> None:
    steady = np.full(20, 1.0)
    measured = [a_round(steady, peak_rss_bytes=peak) for peak in (70e6, 90e6, 80e6)]
    found = statistics.summarize(measured, 1.0, 1.0)
    assert (found["peak_rss_mb"], found["model_rss_mb"]) == (90.0, 30.0)
    untold = [a_round(steady, before_rss_bytes=None)] * 3
    assert statistics.summarize(untold, 1.0, 1.0)["model_rss_mb"] is None


@pytest.mark.parametrize("rounds", [3, 5, 6])
def test_interval_of_the_median_covers_as_often_as_it_says(rounds: int) -> None:
    # The sign test's interval: both tails of a binomial, none or all of the rounds below.
    expected = 1 - 2 * scipy.stats.binom.pmf(0, rounds, 0.5)
    assert statistics.order_coverage(rounds) == pytest.approx(expected)
    drawn = np.random.default_rng(0).exponential(size=(20_000, rounds))
    inside = (drawn.min(1) < np.log(2)) & (np.log(2) < drawn.max(1))
    assert inside.mean() == pytest.approx(expected, abs=0.01)


def test_median_lies_in_its_interval_which_spans_the_rounds_medians() -> None:
    measured = rounds_of(2, 1.0, rounds=5)
    found = statistics.summarize(measured, 1.0, 1.0)
    low, high = found["p50_interval_ms"]
    assert low <= found["p50_ms"] <= high
    assert [low, high] == [min(found["round_medians_ms"]), max(found["round_medians_ms"])]


@pytest.mark.parametrize("rounds", [3, 4])
def test_speed_up_interval_is_that_of_every_resample_written_out(rounds: int) -> None:
    base, own = latencies(rounds_of(3, 4.0, rounds)), latencies(rounds_of(4, 1.5, rounds))
    ratios = [
        np.median(np.concatenate([base[i] for i in picked]))
        / np.median(np.concatenate([own[i] for i in picked]))
        for picked in itertools.product(range(rounds), repeat=rounds)
    ]
    expected = np.percentile(ratios, (2.5, 97.5), method="inverted_cdf")
    assert statistics.speedup_interval(base, own, 0.95) == pytest.approx(tuple(expected))


def test_speed_up_of_a_variant_that_is_always_twice_as_fast_is_two_without_spread() -> None:
    base = rounds_of(5, 4.0)
    half = [a_round(one.latencies_ms / 2) for one in base]
    found = statistics.speedup(base, half)
    assert found["speedup"] == pytest.approx(2)
    assert found["speedup_interval"] == pytest.approx([2, 2])


def test_pairing_the_rounds_takes_out_what_slowed_both() -> None:
    base = rounds_of(6, 4.0)
    drifting = [a_round(one.latencies_ms * (1 + turn)) for turn, one in enumerate(base)]
    half = [a_round(one.latencies_ms / 2) for one in drifting]
    low, high = statistics.speedup(drifting, half)["speedup_interval"]
    assert high - low < 1e-9


def test_rounds_that_are_not_paired_are_refused() -> None:
    with pytest.raises(ValueError, match="3 rounds of the baseline, 4"):
        statistics.speedup_interval([np.ones(3)] * 3, [np.ones(3)] * 4, 0.95)


def test_every_variant_is_measured_once_in_a_round_and_the_order_changes() -> None:
    orders = statistics.round_orders(6, 5)
    assert all(sorted(order) == list(range(6)) for order in orders)
    assert len({tuple(order) for order in orders}) == 5
    assert orders == statistics.round_orders(6, 5)


def test_unsteady_and_few_windows_are_noted_and_steady_ones_are_not() -> None:
    entry = {"name": "bats", "threads": 1, "n": 662, "round_medians_ms": [10.0, 10.4, 10.9]}
    assert statistics.sample_notes([entry]) == []
    unsteady = entry | {"round_medians_ms": [10.0, 10.4, 11.9], "n": 60}
    drift, few = statistics.sample_notes([unsteady])
    assert "bats at 1 thread: the rounds' medians lie 18% apart" in drift
    assert few == "A p99 needs 662 windows; too few had: bats at 1 thread (60)."


@pytest.mark.parametrize(("low", "high"), [(0.013, 0.017), (0.9, 1400.0), (41.0, 44.0), (1.0, 9.0)])
def test_axis_has_ticks_within_it(low: float, high: float) -> None:
    found = plots.ticks(low, high)
    assert 3 <= len(found) <= 20
    assert low <= min(found) < max(found) <= high


@pytest.mark.parametrize(("value", "text"), [(1234.5, "1234"), (9.996, "10.0"), (0.012345, "0.0123"),
                                             (99.96, "100"), (0.0, "0")])  # fmt: skip
def test_numbers_are_written_with_three_digits_and_no_exponent(value: float, text: str) -> None:
    assert wording.number(value) == text


# The child


def test_warm_up_ends_when_the_latency_has_settled_and_at_the_bound_if_it_never_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = FakeClock(monkeypatch)
    noise, steady = (lambda: np.zeros(1, np.float32)), clock.taking(lambda turn: 10.0)
    assert worker_client.warm_up(steady, noise, 5.0) == 6
    settling = clock.taking(lambda turn: 100.0 if turn < 4 else 10.0)
    assert worker_client.warm_up(settling, noise, 5.0) > 6
    growing = clock.taking(lambda turn: 1.2**turn)
    assert 6 < worker_client.warm_up(growing, noise, 5.0) < 50
    assert worker_client.warm_up(clock.taking(lambda turn: 9000.0), noise, 5.0) == 3


def test_windows_are_timed_until_the_time_is_up_at_least_twenty_unless_the_cap_comes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, noise = FakeClock(monkeypatch), (lambda: np.zeros(1, np.float32))
    taken, cpu_ms = worker_client.time_windows(clock.taking(lambda turn: 10.0), noise, 2.0)
    assert cpu_ms == pytest.approx(20)
    assert len(taken) == pytest.approx(200, abs=1)
    assert set(taken) == {10_000_000}
    taken, _ = worker_client.time_windows(clock.taking(lambda turn: 1000.0), noise, 2.0)
    assert len(taken) == 20
    taken, _ = worker_client.time_windows(clock.taking(lambda turn: 9000.0), noise, 2.0)
    assert len(taken) == 7  # 63 s: the first to pass the cap of 60 s


class FakeClock:
    """Time that passes only in a model's run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ns = 0
        clocks = SimpleNamespace(
            perf_counter_ns=lambda: self.ns,
            perf_counter=lambda: self.ns / 1e9,
            process_time_ns=lambda: 2 * self.ns,
        )
        monkeypatch.setattr(worker_client, "time", clocks)

    def taking(self, cost_ms: Callable[[int], float]) -> worker_client.Run:
        turns = itertools.count()

        def run(samples: NDArray[np.float32]) -> NDArray[np.float32]:
            self.ns += round(cost_ms(next(turns)) * 1e6)
            return samples

        return run


def test_memory_is_read_in_bytes_and_absent_where_the_system_does_not_tell(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tx\nVmHWM:\t    2184 kB\nVmRSS:\t    1000 kB\n")
    assert worker_client.status_bytes("VmHWM", tmp_path / "status") == 2184 * 1024
    assert worker_client.status_bytes("VmSwap", tmp_path / "status") is None
    assert worker_client.status_bytes("VmHWM", tmp_path / "none") is None
    assert worker_client.peak_bytes() > 10_000_000


def test_child_that_fails_is_told_in_its_last_words(two_bundles: list[Path]) -> None:
    with pytest.raises(EdgepruneError, match=r"was changed while it was measured\.$") as caught:
        worker_client.run_child(two_bundles[0], "onnx", "0" * 64, 1, 0.1)
    assert caught.value.status == 1


@pytest.mark.parametrize(("code", "stderr", "words"), [
    (1, "Traceback\n  File\nValueError: no\n\n", "ValueError: no"),
    (-9, "", "ended by SIGKILL (out of memory?)."),
    (-11, "noise", "ended by SIGSEGV."),
    (3, "", "status 3, without a word."),
])  # fmt: skip
def test_last_words_say_how_a_child_ended(code: int, stderr: str, words: str) -> None:
    done = subprocess.CompletedProcess([], code, "", stderr)
    assert worker_client.last_words(done) == words


# The machine


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


def test_names_are_escaped_on_the_page_and_in_the_table(
    ran: Ran,
) -> None:
    result = ran[0] | {"variants": [ran[0]["variants"][0] | {"name": "<b>a|b</b>"}]}
    assert "<b>" not in report.html_text(result)
    assert "| <b>a\\|b</b> |" in report.markdown_text(result)


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
    ({"threads": (1, 0)}, "0 threads"),
    ({"threads": (100_000,)}, "100000 threads were asked for, and this process may use"),
    ({"seconds": 0.0}, "0 seconds"),
    ({"seconds": float("nan")}, "nan seconds"),
    ({"rounds": 2}, "2 rounds"),
    ({"names": ["one"]}, "2 model files need as many different names"),
    ({"names": ["one", "one"]}, "2 model files need as many different names"),
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
