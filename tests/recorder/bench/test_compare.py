"""A benchmark beside an earlier one: the ratio's interval, what is not compared, the exit status."""

from __future__ import annotations

import copy
import itertools
import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_rounds import measured_without_a_clock
from receivers import wait_for

from edgeprune_device.bench.compare import check_gate, compare, ratio_of_medians, read_earlier
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.percentiles import interval

MACHINE = {"model": "Raspberry Pi 5", "architecture": "aarch64", "cores": 4, "memory_mb": 8000.0,
           "kernel": "6.12", "governors": ["ondemand"]}  # fmt: skip


def row(scale: float = 1.0, n: int = 1000, **changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    rounds = [scale * rng.normal(10, 0.2, n // 5) for _ in range(5)]
    samples = np.concatenate(rounds)
    p50, p99 = np.percentile(samples, (50, 99))
    return {
        "name": "birds", "threads": 1, "digest": "a" * 64, "file": "model.onnx", "n": len(samples),
        "runtime": "onnxruntime 1.31", "hop_seconds": 1.0, "sound": {"kind": "golden"},
        "p50_ms": float(p50), "p99_ms": float(p99), "samples_ms": [float(ms) for ms in samples],
        "round_medians_ms": [float(np.median(one)) for one in rounds],
    } | changes  # fmt: skip


def result(*rows: dict[str, Any], **changes: Any) -> dict[str, Any]:
    environment = {"temperature_c": {"highest": 55}, "throttled": {"during": 0}}
    return {"schema": 2, "machine": MACHINE, "edgeprune_version": "1", "variants": list(rows),
            "environment": environment} | changes  # fmt: skip


def earlier(held: Any, tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "bench.json").write_text(json.dumps(held))
    return read_earlier(tmp_path / "bench.json")


@pytest.mark.parametrize("rounds", [3, 4])
def test_interval_of_the_ratio_is_that_of_every_resample_written_out(rounds: int) -> None:
    rng = np.random.default_rng(1)
    old, new = rng.gamma(20, size=rounds).tolist(), rng.gamma(24, size=rounds).tolist()
    medians = [
        [np.median([values[i] for i in picked])
         for picked in itertools.product(range(rounds), repeat=rounds)] for values in (old, new)
    ]  # fmt: skip
    ratios = np.divide.outer(np.array(medians[1]), np.array(medians[0])).ravel()
    expected = np.percentile(ratios, (2.5, 97.5), method="inverted_cdf")
    assert ratio_of_medians(old, new) == pytest.approx(tuple(expected))


def test_a_run_beside_itself_differs_by_nothing(tmp_path: Path) -> None:
    one = result(row())
    [found] = compare(one, earlier(one, tmp_path))["rows"]
    assert (found["not_comparable"], found["differs"]) == ([], [])
    for key in ("p50", "p99"):
        assert found[key]["ratio"] == 1
        assert found[key]["interval"][0] <= 1 <= found[key]["interval"][1]
    check_gate(compare(one, earlier(one, tmp_path)), 0)


def test_a_slower_run_fails_the_gate_by_the_lower_end_of_its_interval(tmp_path: Path) -> None:
    old, new = result(row()), result(row(1.2))
    compared = compare(new, earlier(old, tmp_path))
    found = compared["rows"][0]["p50"]
    assert found["ratio"] == pytest.approx(1.2)
    assert found["interval"][0] < 1.2 < found["interval"][1]
    with pytest.raises(
        EdgepruneError, match=r"birds at threads 1 is slower than in .*: p50"
    ) as caught:
        check_gate(compared, 10)
    assert caught.value.status == 1
    check_gate(compared, 100 * (found["interval"][1] - 1) + 5)
    check_gate(compare(old, earlier(new, tmp_path)), 0)  # faster is no failure


def test_a_tail_that_grows_fails_the_gate_though_the_median_stays(tmp_path: Path) -> None:
    old, new = row(), row()
    for place in range(
        0, len(new["samples_ms"]), 25
    ):  # 4 % of the windows take three times as long
        new["samples_ms"][place] *= 3
    new["p99_ms"] = float(np.percentile(new["samples_ms"], 99))
    compared = compare(result(new), earlier(result(old), tmp_path))
    with pytest.raises(EdgepruneError, match="p99"):
        check_gate(compared, 20)


def test_the_p99_of_too_few_windows_is_not_compared(tmp_path: Path) -> None:
    compared = compare(result(row(2.0, n=100)), earlier(result(row()), tmp_path))
    assert compared["rows"][0]["p99"] == {"missing": "100 samples; 662 are needed"}


@pytest.mark.parametrize(("change", "machine", "words"), [
    ({"digest": "b" * 64}, {}, "another bundle with the same name"),
    ({"threads": 2}, {}, "has no birds at threads 1"),
    ({"name": "bats"}, {}, "has no birds at threads 1"),
    ({"file": "model.tflite"}, {}, "it was the file model.tflite"),
    ({}, {"model": "Raspberry Pi 4"}, "another machine (model: Raspberry Pi 4 then"),
    ({}, {"cores": 2}, "another machine (cores: 2 then, 4 now)"),
])  # fmt: skip
def test_another_machine_bundle_or_thread_count_is_not_compared_and_the_gate_says_so(
    change: dict[str, Any], machine: dict[str, Any], words: str, tmp_path: Path
) -> None:
    old = result(row(**change), machine=MACHINE | machine)
    compared = compare(result(row()), earlier(old, tmp_path))
    assert words in compared["rows"][0]["not_comparable"][0]
    assert "p50" not in compared["rows"][0]
    with pytest.raises(EdgepruneError, match="cannot be compared with") as caught:
        check_gate(compared, 50)
    assert caught.value.status == 2


def test_what_may_explain_a_difference_is_named(tmp_path: Path) -> None:
    old = result(row(runtime="onnxruntime 1.20", sound={"kind": "noise"}),
                 machine=MACHINE | {"governors": ["performance"], "memory_mb": 8010.0},
                 environment={"temperature_c": {"highest": 81}, "throttled": {"during": 4}})  # fmt: skip
    [found] = compare(result(row()), earlier(old, tmp_path))["rows"]
    assert found["not_comparable"] == []  # 0.1 % of memory more is the same board
    text = "; ".join(found["differs"])
    for words in ("governors: performance then, ondemand now", "runtime: onnxruntime 1.20 then",
                  "sound: noise then, golden now", "81 °C then, 55 °C now", "0x4 then, 0x0 now"):  # fmt: skip
        assert words in text


def test_live_statistics_of_a_recorder_are_compared_wherever_they_stand(tmp_path: Path) -> None:
    live = row(1.5)
    held = {
        "bundle": {"name": "birds", "digest": "a" * 64}, "threads": 1,
        "recorder": {"state": "listening", "latency": {
            key: live[key] for key in ("n", "p50_ms", "p99_ms", "samples_ms")
        }},
    }  # fmt: skip
    one = result(row())
    compared = compare(one, earlier(held, tmp_path))
    assert compared["live"]
    [found] = compared["rows"]
    assert found["p50"]["ratio"] == pytest.approx(1 / 1.5)
    new, old = (interval(np.array(x["samples_ms"]), 0.5) for x in (row(), live))
    assert new is not None
    assert old is not None
    assert found["p50"]["interval"] == pytest.approx([new[0] / old[1], new[1] / old[0]])
    assert "live windows are one hop apart" in found["differs"][0]


def test_the_status_of_a_recorder_says_what_may_explain_its_latencies(tmp_path: Path) -> None:
    live = row(2.0)
    held = {
        "schema": 1, "state": "listening", "bundle": "birds", "digest": "a" * 64, "load": "skip",
        "machine": {"temperature_c": 81.5, "throttled": 4, "load_average": 3.1,
                    "frequency_mhz": None},
        "latency": {key: live[key] for key in ("n", "p50_ms", "p99_ms", "samples_ms")},
    }  # fmt: skip
    [found] = compare(result(row()), earlier(held, tmp_path))["rows"]
    assert found["not_comparable"] == []
    assert found["differs"][-1] == (
        "the recorder reported: temperature 81.5 °C; load 3.1; throttled now; load reduced: skip"
    )


def test_a_gate_that_fails_on_an_unstable_run_says_so(tmp_path: Path) -> None:
    shaky = result(row(1.5), verdict={"stable": False, "reasons": ["a fan stood still"]})
    with pytest.raises(EdgepruneError) as caught:
        check_gate(compare(shaky, earlier(result(row()), tmp_path)), 5)
    assert "A run was unstable" in caught.value.hint


@pytest.mark.parametrize("held", [
    "nonsense", [], {}, {"variants": []}, {"variants": [{"name": "x"}]}, {"variants": ["x"]},
    {"variants": [{"name": "x", "n": 1, "p50_ms": 0, "p99_ms": 1, "samples_ms": [1]}]},
    {"variants": [{"name": "x", "n": 1, "p50_ms": 1, "p99_ms": "1", "samples_ms": [1]}]},
    {"latency": {"n": 1, "p50_ms": 1.0, "p99_ms": 1.0, "samples_ms": []}},
])  # fmt: skip
def test_a_file_that_has_no_statistics_is_refused_in_a_sentence(held: Any, tmp_path: Path) -> None:
    with pytest.raises(EdgepruneError, match="has no benchmark and no live statistics") as caught:
        earlier(held, tmp_path)
    assert caught.value.status == 2


def test_a_file_that_is_not_there_or_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgepruneError, match="cannot be read"):
        read_earlier(tmp_path / "none.json")
    (tmp_path / "half.json").write_text('{"variants": [')
    with pytest.raises(EdgepruneError, match="is not JSON"):
        read_earlier(tmp_path / "half.json")


def test_a_result_of_schema_1_can_still_be_a_baseline(tmp_path: Path) -> None:
    old = row()
    del old["sound"], old["runtime"]
    held = {"schema": 1, "machine": MACHINE, "variants": [old]}
    assert compare(result(row()), earlier(held, tmp_path))["rows"][0]["p50"]["ratio"] == 1


# The command


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgeprune.cli", "bench", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_the_command_prints_its_tables_and_ends_with_the_gates_status(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    """Beside a run that was a thousand times faster: this one cannot pass, and is written all the same."""
    fast = measured_without_a_clock([tiny_bundle], tmp_path / "fast")
    for key in ("p50_ms", "p99_ms"):
        fast["variants"][0][key] /= 100_000
    for key in ("samples_ms", "round_medians_ms"):
        fast["variants"][0][key] = [ms / 100_000 for ms in fast["variants"][0][key]]
    (tmp_path / "fast.json").write_text(json.dumps(fast))
    done = run(tiny_bundle, "--threads", 1, "--seconds", 0.05, "--rounds", 3, "--paced", "--note",
               "bare board", "--baseline", tmp_path / "fast.json", "--fail-over", 50,
               "-o", tmp_path / "out")  # fmt: skip
    assert done.returncode == 1
    assert "is slower than in" in done.stderr
    for words in (
        "keeps up",
        "From the last sample of a window to disk",
        "Paced",
        "Compared with ",
    ):
        assert words in done.stdout
    held = json.loads((tmp_path / "out/bench.json").read_text("utf-8"))
    assert held["machine"]["note"] == "bare board"
    assert held["command"].startswith("edgeprune bench ")
    assert (tmp_path / "out/bench.html").exists()


@pytest.mark.slow
def test_the_command_prints_tables_compares_and_ends_with_the_gates_status(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    quick = (tiny_bundle, "--threads", 1, "--seconds", 0.05, "--rounds", 3)
    first = run(*quick, "-o", tmp_path / "first", "--paced", "--note", "bare board, no fan")
    assert first.returncode == 0, first.stderr
    for words in ("keeps up", "From the last sample of a window to disk", "Paced", "p90 bound"):
        assert words in first.stdout
    held = json.loads((tmp_path / "first/bench.json").read_text("utf-8"))
    assert held["machine"]["note"] == "bare board, no fan"
    assert held["command"].startswith("edgeprune bench ")
    [one] = held["variants"]
    assert one["paced"]["n"] >= 3
    assert one["phases"]["end_to_end"]["n"] >= 15
    # A baseline that was a thousand times faster: this one cannot pass.
    fast = copy.deepcopy(held)
    for key in ("p50_ms", "p99_ms"):
        fast["variants"][0][key] /= 1000
    for key in ("samples_ms", "round_medians_ms"):
        fast["variants"][0][key] = [ms / 1000 for ms in fast["variants"][0][key]]
    (tmp_path / "fast.json").write_text(json.dumps(fast))
    compared = ("--baseline", tmp_path / "fast.json", "-o", tmp_path / "second")
    assert run(*quick, *compared).returncode == 0
    gated = run(*quick, *compared, "--fail-over", 50)
    assert gated.returncode == 1
    assert "is slower than in" in gated.stderr
    assert (tmp_path / "second/bench.html").exists()  # the report is there all the same
    slow = run(*quick, "--baseline", tmp_path / "first/bench.json", "--fail-over", 1e6,
               "-o", tmp_path / "third")  # fmt: skip
    assert slow.returncode == 0, slow.stderr


@pytest.mark.parametrize(("options", "words"), [
    (["--fail-over", "5"], "--fail-over needs something to compare with"),
    (["--baseline", "none.json"], "none.json cannot be read"),
    (["--wav", "none.wav"], "no sound file none.wav"),
    (["--watts", "3"], "'3' is not two numbers"),
    (["--watts", "5,3"], "--watts 5,3 is out of range"),
    (["--sustained", "-1"], "--sustained -1 is out of range"),
    (["--threads", "a"], "'a' is not a list of whole numbers"),
    (["--rounds", "9"], "--rounds 9 is out of range"),
])  # fmt: skip
def test_bad_options_are_one_sentence_and_nothing_is_written(
    options: list[str], words: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    done = run(tiny_bundle, "-o", tmp_path / "out", *options)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") <= 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("child", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_ctrl_c_writes_nothing_and_leaves_nothing(
    child: int, tiny_bundle: Path, tmp_path: Path
) -> None:
    """In its first round and in a later one: the signal goes to the whole group, as a terminal sends it."""
    command = [sys.executable, "-m", "edgeprune.cli", "bench", str(tiny_bundle), "-o",
               str(tmp_path / "out"), "--seconds", "2", "--threads", "1"]  # fmt: skip
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's & would ignore it
    started = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=heard,
    )  # fmt: skip
    wait_for(lambda: bool(list(tmp_path.glob(f".edgeprune-bench-*/{child}"))))  # a child's folder
    os.killpg(started.pid, signal.SIGINT)
    _, said = started.communicate(timeout=60)
    assert started.returncode == 130, said
    assert "Interrupted" in said
    assert list(tmp_path.iterdir()) == []
