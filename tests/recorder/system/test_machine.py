"""The machine: facts and state from its files, and never a made-up 0."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from edgeprune_device.system import machine


def test_facts_of_a_board_are_read_from_its_files(tmp_path: Path) -> None:
    for name, text in {
        "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
        "proc/device-tree/compatible": "raspberrypi,4-model-b\0brcm,bcm2711\0",
        "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\n",
        "proc/meminfo": "MemTotal:        3884360 kB\nSwapTotal: 102396 kB\nSwapFree: 100000 kB\n",
        "proc/vmstat": "pgpgin 1\npswpin 12\npswpout 345\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1500000\n",
        "proc/loadavg": "2.52 0.58 0.59 1/971 26213\n",
        "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n',
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
        "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_min_freq": "600000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "1800000\n",
        "sys/class/thermal/thermal_zone0/temp": "48686\n",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    facts, state = machine.machine_facts(tmp_path), machine.machine_state(tmp_path)
    assert facts["model"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert facts["memory_mb"] == pytest.approx(3884360 * 1024 / 1e6, abs=0.05)
    assert facts["os"] == "Debian GNU/Linux 12 (bookworm)"
    assert (facts["governors"], facts["frequency_mhz"]) == (["ondemand"], [600, 1800])
    assert facts["soc"] == "brcm,bcm2711"
    assert facts["instructions"] == ["asimd"]
    assert state == {
        "load_average": 2.52, "temperature_c": 48.686, "throttled": 0x50005, "frequency_mhz": 1500,
        "swap_used_mb": 2.5, "swap_in_pages": 12, "swap_out_pages": 345, "missing": {},
    }  # fmt: skip
    notes = machine.state_notes(facts | {"cores_of_machine": 4}, state, state)
    assert notes == [
        "The load average was 2.52 on 4 cores before the start.",
        "The frequency governor was ondemand, not performance.",
        "The board reports under-voltage now, throttled now, under-voltage since boot, "
        "throttled since boot (0x50005).",
    ]


def test_facts_that_are_not_told_are_none_and_raise_no_note(tmp_path: Path) -> None:
    facts, state = machine.machine_facts(tmp_path), machine.machine_state(tmp_path)
    for key in ("soc", "memory_mb", "governors", "frequency_mhz", "instructions"):
        assert facts[key] is None
        assert facts["missing"][key]
    reasons = state.pop("missing")
    assert set(state) == set(reasons)
    assert set(state.values()) == {None}  # and no made-up 0
    assert all(reasons.values())
    assert machine.state_notes(facts, state, state) == []


def board(root: Path, **files: str) -> Path:
    """Write a board's files; ``__`` stands for a slash."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_idle_time_is_that_of_all_cores_and_waiting_for_the_disk_is_idle(tmp_path: Path) -> None:
    """user nice system idle iowait irq softirq steal; guest time is in user time already."""
    board(tmp_path, proc__stat="cpu  100 20 30 400 50 0 5 6 70 0\ncpu0 1 2\n")
    assert machine.cpu_times(tmp_path) == (450, 611)
    assert machine.idle_share((450, 611), (500, 711)) == pytest.approx(0.5)
    assert machine.idle_share((450, 611), (450, 611)) is None
    assert machine.idle_share(None, (450, 611)) is None
    assert machine.cpu_times(board(tmp_path, proc__stat="intr 5\n")) is None


def test_the_warmest_zone_and_the_fastest_core_count(tmp_path: Path) -> None:
    cpus = "sys__devices__system__cpu__cpu{}__cpufreq__scaling_cur_freq"
    board(tmp_path, **{cpus.format(0): "600000", cpus.format(3): "1800000"},
          sys__class__thermal__thermal_zone0__temp="41000",
          sys__class__thermal__thermal_zone1__temp="63500")  # fmt: skip
    state = machine.machine_state(tmp_path)
    assert (state["temperature_c"], state["frequency_mhz"]) == (63.5, 1800)


def test_a_pc_tells_its_processors_name_flags_and_frequency(tmp_path: Path) -> None:
    board(tmp_path, proc__cpuinfo="model name\t: A Processor @ 2 GHz\ncpu MHz\t\t: 2000.5\n"
          "flags\t\t: fpu avx2 avx512f fma\n\ncpu MHz\t\t: 3100.0\n")  # fmt: skip
    facts, state = machine.machine_facts(tmp_path), machine.machine_state(tmp_path)
    assert facts["model"] == "A Processor @ 2 GHz"
    assert facts["instructions"] == ["avx2", "fma", "avx512f"]
    assert state["frequency_mhz"] == 3100


def test_an_instruction_is_a_whole_word_of_the_list(tmp_path: Path) -> None:
    board(tmp_path, proc__cpuinfo="Features\t: asimddp sve2 fma4\n")
    assert machine.machine_facts(tmp_path)["instructions"] == ["asimddp"]


@pytest.mark.parametrize(("text", "flags"), [("0", 0), ("50005\n", 0x50005), ("nonsense", None)])
def test_the_firmwares_flags_are_hexadecimal(tmp_path: Path, text: str, flags: int | None) -> None:
    board(tmp_path, **{"sys__devices__platform__soc__soc:firmware__get_throttled": text})
    assert machine.machine_state(tmp_path)["throttled"] == flags


@pytest.mark.parametrize(
    ("flags", "reasons"),
    [(0, []), (0x1, ["under-voltage now"]), (0x80008, ["soft temperature limit now",
                                                      "soft temperature limit since boot"]),
     (0x60002, ["frequency capped now", "frequency capped since boot", "throttled since boot"])],
)  # fmt: skip
def test_flags_are_spelt_out_now_and_since_boot(flags: int, reasons: list[str]) -> None:
    assert machine.throttle_reasons(flags) == reasons


def test_this_machine_is_described_as_the_system_says() -> None:
    facts, state = machine.machine_facts(), machine.machine_state(firmware=False)
    assert facts["cores"] == len(os.sched_getaffinity(0)) == len(facts["affinity"])
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert facts["memory_mb"] == pytest.approx(pages / 1e6, rel=0.01)
    assert facts["runtimes"]["numpy"] == np.__version__
    assert facts["kernel"] == os.uname().release
    assert facts["nice"] == os.nice(0)
    assert state["load_average"] >= 0
    for found in (facts, state):  # no null without a reason
        assert {key for key, value in found.items() if value is None} <= set(found["missing"])
