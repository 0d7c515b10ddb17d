"""How figures are worded: numbers, names, and tables of memory, machine, energy and comparison."""

from __future__ import annotations

from typing import Any

import pytest

from edgeprune_device.bench import wording


@pytest.mark.parametrize(("value", "text"), [(1234.5, "1234"), (9.996, "10.0"), (0.012345, "0.0123"),
                                             (99.96, "100"), (0.0, "0")])  # fmt: skip
def test_numbers_are_written_with_three_digits_and_no_exponent(value: float, text: str) -> None:
    assert wording.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(-0.5, "-0.5"), (1e-9, "0.00000000100"), (999.5, "1000")]
)
def test_numbers_at_the_edges_keep_their_digits_or_their_sign(value: float, text: str) -> None:
    assert wording.number(value) == text


def test_a_phase_that_was_not_measured_is_empty_and_a_percentile_of_few_says_so() -> None:
    assert wording.median({"n": 3, "median": 12.34}) == "12.3"
    assert wording.median({"n": 0, "missing": "nothing"}) == wording.median(None) == ""
    assert wording.percentile({"ms": 0.5}) == "0.500"
    assert wording.percentile({"ms": None, "needs": 662}) == "too few"


MACHINE = {
    "model": "Raspberry Pi 5", "architecture": "aarch64", "cores": 4, "memory_mb": 8000.0,
    "os": "Debian 12", "kernel": "6.12", "python": "3.11.2", "governors": ["ondemand"],
    "before": {"temperature_c": 45.4}, "after": {"temperature_c": 61.0},
}  # fmt: skip


def test_the_machine_in_a_line_leaves_out_what_is_not_known() -> None:
    variants = [{"runtime": "onnxruntime 1.31"}, {"runtime": "ai-edge-litert 2.1"},
                {"runtime": "onnxruntime 1.31"}]  # fmt: skip
    assert wording.machine_line({"machine": MACHINE, "variants": variants}) == (
        "Raspberry Pi 5, aarch64, 4 cores, 8.0 GB, Debian 12, kernel 6.12, Python 3.11.2, "
        "ai-edge-litert 2.1, onnxruntime 1.31, governor ondemand, 45 °C before, 61 °C after"
    )
    bare = MACHINE | dict.fromkeys(("model", "memory_mb", "os", "kernel", "governors")) | {
        "after": {"temperature_c": None}}  # fmt: skip
    assert wording.machine_line({"machine": bare, "variants": []}) == (
        "aarch64, 4 cores, Python 3.11.2"
    )


def test_the_method_names_what_was_heard_once_and_how_sure_the_brackets_are(
    made: dict[str, Any],
) -> None:
    line = wording.method_line(made)
    assert "Single windows of audio (golden: 1 golden inputs), back to back, 3 rounds of" in line
    assert "(75.0% interval)" in line
    assert "speed-up over large" in line
    untold = made | {"variants": [one | {"sound": None} for one in made["variants"]]}
    assert "(unknown)" in wording.method_line(untold)


def test_memory_that_is_not_told_is_an_empty_cell(made: dict[str, Any]) -> None:
    one = made["variants"][0]
    held = one | {"memory": one["memory"] | {"pss_mb": None}}
    (row,) = wording.memory(made | {"variants": [held]}).rows
    assert row == ["large, 1 thread", "50.0", "60.0", "70.0", "", "80.0", "0.0"]


def test_what_the_machine_did_is_said_or_why_it_is_not_known() -> None:
    calm = {"seconds": 12.5, "temperature_c": {"before": 45, "lowest": 45, "highest": 61.5, "after": 60},
            "frequency_mhz": None, "load_average": None, "throttled": {"before": 0x50000, "during": 0,
            "after": None}, "swap": {"in": 3, "out": 0}, "top_process": None, "others_cores": 0.25,
            "missing": {"frequency_mhz": "no cpufreq", "top_process": "nobody"}}  # fmt: skip
    found = wording.environment({"environment": calm})
    assert found.text == "Read once a second for 12.5 s."
    assert [list(row) for row in found.rows] == [
        ["temperature", "", "45 °C", "61.5 °C", "60 °C"], ["frequency", "no cpufreq", "", "", ""],
        ["load average", "", "", "", ""],
        ["throttling", "", "under-voltage since boot, throttled since boot", "none", ""],
        ["swap", "3 pages in, 0 out", "", "", ""],
        ["other processes", "kept 0.25 cores busy", "", "", ""], ["busiest process", "nobody", "", "", ""],
    ]  # fmt: skip


def test_energy_stands_only_where_a_meter_was_read(made: dict[str, Any]) -> None:
    found = wording.energy(made)
    assert found is not None
    assert "From 2 W idle and 5 W busy" in found.text
    large = made["variants"][0]  # 3 W more for its median; an hour of sound is 14,400 hops
    joules = 3.0 * large["p50_ms"] / 1000
    assert found.rows[0][1] == wording.number(joules)
    assert float(found.rows[0][2]) == pytest.approx(2 * 3600 + 14_400 * joules, abs=0.5)
    without = [one | {"energy": {"missing": "no meter"}} for one in made["variants"]]
    assert wording.energy(made | {"variants": without}) is None


def test_a_comparison_shows_the_change_with_its_sign_or_why_there_is_none() -> None:
    same = {"name": "birds", "threads": 2, "differs": ["load: 1 then, 3 now"], "not_comparable": []}
    rows = [
        {**same, "p50": {"before_ms": 10.0, "now_ms": 12.0, "ratio": 1.2, "interval": [1.1, 1.35]},
         "p99": {"missing": "100 samples; 662 are needed"}},
        {**same, "not_comparable": ["another bundle"], "differs": []},
        {**same, "p50": {"before_ms": 10.0, "now_ms": 9.0, "ratio": 0.9, "interval": None},
         "p99": {"before_ms": 1.0, "now_ms": 1.0, "ratio": 1.0, "interval": None}},
    ]  # fmt: skip
    found = wording.comparison({"source": "old.json", "rows": rows})
    assert found.title == "Compared with old.json"
    assert found.text.endswith("Other differences: load: 1 then, 3 now.")
    assert [list(row)[1:] for row in found.rows] == [
        ["p50", "10.0", "12.0", "+20.0 %", "+10.0 to +35.0 %"],
        ["p99: 100 samples; 662 are needed", "", "", "", ""],
        ["not comparable: another bundle", "", "", "", ""],
        ["p50", "10.0", "9.00", "-10.0 %", ""], ["p99", "1.00", "1.00", "+0.0 %", ""],
    ]  # fmt: skip
