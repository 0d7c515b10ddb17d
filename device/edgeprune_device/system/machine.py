"""Facts about the machine (processor, memory, runtimes) and its state during a measurement.

`machine_facts` does not change during a benchmark; `machine_state` does and is read before, during
and after it. A fact that the system does not report is None, with the reason under `missing`: never
an error and never a made-up 0. All files are read below `root`, so that a test can describe a board
by a folder.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path("/")
RUNTIMES = ("onnxruntime", "ai-edge-litert", "numpy")
# Processor flags that affect the speed of int8 or float32 matrix products.
INSTRUCTIONS = (
    "asimd", "asimddp", "asimdhp", "i8mm", "sve", "bf16",
    "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8",
)  # fmt: skip
# Raspberry Pi firmware, get_throttled: bits 0 to 3 are the present, bits 16 to 19 the same since boot.
THROTTLE_BITS = {
    0: "under-voltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
}
SINCE_BOOT = 16
LOAD_LIMIT = 0.5  # per core, before the start
KIB_PER_MB = 1_000_000 / 1024
NO_CPUFREQ = "there is no cpufreq in /sys/devices/system/cpu"
REASONS = {
    "model": "neither /proc/device-tree/model nor /proc/cpuinfo names one",
    "soc": "there is no /proc/device-tree/compatible: the machine has no device tree",
    "memory_mb": "there is no MemTotal in /proc/meminfo",
    "instructions": "/proc/cpuinfo lists no flags or features",
    "governors": NO_CPUFREQ,
    "libc": "Python does not know its C library",
    "load_average": "there is no /proc/loadavg",
    "temperature_c": "there is no thermal zone in /sys/class/thermal",
    "throttled": "there is no Raspberry Pi firmware that reports get_throttled",
    "frequency_mhz": "neither cpufreq nor /proc/cpuinfo gives one",
    "swap_used_mb": "there is no SwapTotal in /proc/meminfo",
    "swap_in_pages": "there is no pswpin in /proc/vmstat",
    "swap_out_pages": "there is no pswpout in /proc/vmstat",
}
"""Key of a fact -> why it is not known."""


def usable_cores() -> int:
    """Return the number of cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine_facts(root: Path = ROOT) -> dict[str, Any]:
    """Describe the machine.

    Parameters
    ----------
    root : Path
        Root folder below which /proc, /sys and /etc are read.

    Returns
    -------
    dict
        `model`, `architecture`, `cores` (that this process may use), `cores_of_machine`,
        `soc` (from the device tree), `memory_mb` (1e6 bytes), `os`, `kernel`, `libc`, `python`,
        `runtimes` (name -> version), `instructions` (processor flags), `governors` (distinct),
        `frequency_mhz` (lowest and highest possible), `nice` and `affinity` (cores) of this
        process, `timer` (name and `resolution_ns`), and `missing` (reasons for what is None).

    """
    processor = _text(root / "proc/cpuinfo") or ""
    policies = _policies(root)
    return with_reasons({
        "model": _model(root, processor),
        "soc": _soc(root),
        "architecture": platform.machine() or None,
        "cores": usable_cores(),
        "cores_of_machine": os.cpu_count() or 1,
        "memory_mb": _memory_mb(_text(root / "proc/meminfo") or ""),
        "os": _system(_text(root / "etc/os-release") or ""),
        "kernel": platform.release() or None,
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "python": platform.python_version(),
        "runtimes": {name: _version(name) for name in RUNTIMES},
        "instructions": _instructions(processor),
        "governors": _each_once([_text(place / "scaling_governor") for place in policies]),
        "frequency_mhz": _frequencies(policies),
        "nice": os.nice(0),
        "affinity": _affinity(),
        "timer": _timer(),
    })  # fmt: skip


def machine_state(root: Path = ROOT, firmware: bool = True) -> dict[str, Any]:
    """Describe the current state of the machine.

    Parameters
    ----------
    root : Path
        Root folder below which /proc and /sys are read.
    firmware : bool
        Whether to run ``vcgencmd`` if no file has the firmware's flags.

    Returns
    -------
    dict
        `load_average` (1 minute, of the whole machine), `temperature_c` (of the warmest zone),
        `frequency_mhz` (current, of the fastest core), `throttled` (the Raspberry Pi's flags as a
        number), `swap_used_mb` (1e6 bytes), `swap_in_pages` and `swap_out_pages` (since boot), and
        `missing` (reasons for values that are None).

    """
    memory, counters = _text(root / "proc/meminfo") or "", _text(root / "proc/vmstat") or ""
    zones = [_number(zone / "temp") for zone in (root / "sys/class/thermal").glob("thermal_zone*")]
    degrees = [millidegrees / 1000 for millidegrees in zones if millidegrees is not None]
    return with_reasons({
        "load_average": _load(root),
        "temperature_c": max(degrees, default=None),
        "frequency_mhz": _frequency_now(root),
        "throttled": _throttled(root, firmware),
        "swap_used_mb": _swap_mb(memory),
        "swap_in_pages": _counter("pswpin", counters),
        "swap_out_pages": _counter("pswpout", counters),
    })  # fmt: skip


def with_reasons(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return facts with `missing`, the reason for each fact that is None."""
    missing = {
        key: REASONS[key] for key, value in found.items() if value is None and key in REASONS
    }
    return {**found, "missing": missing}


def cpu_times(root: Path = ROOT) -> tuple[int, int] | None:
    """Return the idle ticks and the total ticks of all cores; None if not reported."""
    line = (_text(root / "proc/stat") or "").partition("\n")[0].split()
    if len(line) < 6 or line[0] != "cpu":
        return None
    ticks = [int(word) for word in line[1:9]]  # guest time is in user time already
    return ticks[3] + ticks[4], sum(ticks)


def idle_share(before: tuple[int, int] | None, after: tuple[int, int] | None) -> float | None:
    """Return the share (0 to 1) of all cores' time between two ``cpu_times`` that was idle."""
    if before is None or after is None or after[1] <= before[1]:
        return None
    return (after[0] - before[0]) / (after[1] - before[1])


def throttle_reasons(flags: int) -> list[str]:
    """Return the Raspberry Pi's get_throttled flags in words.

    >>> throttle_reasons(0x50001)
    ['under-voltage now', 'under-voltage since boot', 'throttled since boot']
    """
    return [
        f"{reason} {when}"
        for shift, when in ((0, "now"), (SINCE_BOOT, "since boot"))
        for bit, reason in THROTTLE_BITS.items()
        if flags >> (bit + shift) & 1
    ]


def state_notes(
    machine: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any]
) -> list[str]:
    """Return a sentence for each aspect of the machine's state that makes timings unreliable."""
    notes = []
    load, cores = before["load_average"], machine["cores_of_machine"]
    if load is not None and load > LOAD_LIMIT * cores:
        notes.append(f"The load average was {load:.2f} on {cores} cores before the start.")
    slow = [governor for governor in machine["governors"] or () if governor != "performance"]
    if slow:
        notes.append(f"The frequency governor was {', '.join(slow)}, not performance.")
    flags = (before["throttled"] or 0) | (after["throttled"] or 0)
    if reasons := throttle_reasons(flags):
        notes.append(f"The board reports {', '.join(reasons)} ({flags:#x}).")
    return notes


def _model(root: Path, processor: str) -> str | None:
    board = _text(root / "proc/device-tree/model")
    names = re.findall(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", processor, re.MULTILINE)
    return board or (names[0].strip() if names else platform.processor() or None)


def _soc(root: Path) -> str | None:
    """Return the most general compatible name of the device tree, such as ``brcm,bcm2711``."""
    names = [
        name for name in (_text(root / "proc/device-tree/compatible") or "").split("\0") if name
    ]
    return names[-1] if names else None


def _affinity() -> list[int] | None:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _timer() -> dict[str, Any]:
    clock = time.get_clock_info("perf_counter")
    return {"name": clock.implementation, "resolution_ns": clock.resolution * 1e9}


def _policies(root: Path) -> list[Path]:
    return sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq"))


def _frequency_now(root: Path) -> float | None:
    found = [khz for place in _policies(root) if (khz := _number(place / "scaling_cur_freq"))]
    if found:
        return max(found) / 1000
    told = re.findall(r"^cpu MHz\s*:\s*([\d.]+)", _text(root / "proc/cpuinfo") or "", re.MULTILINE)
    return max(float(mhz) for mhz in told) if told else None


def _swap_mb(meminfo: str) -> float | None:
    found = dict(re.findall(r"^(SwapTotal|SwapFree):\s+(\d+) kB", meminfo, re.MULTILINE))
    if len(found) < 2:
        return None
    return round((int(found["SwapTotal"]) - int(found["SwapFree"])) / KIB_PER_MB, 1)


def _counter(name: str, vmstat: str) -> int | None:
    found = re.search(rf"^{name} (\d+)$", vmstat, re.MULTILINE)
    return int(found[1]) if found else None


def _system(release: str) -> str | None:
    pretty = re.search(r'^PRETTY_NAME="?([^"\n]+)', release, re.MULTILINE)
    return pretty[1] if pretty else platform.system() or None


def _memory_mb(meminfo: str) -> float | None:
    total = re.search(r"^MemTotal:\s+(\d+) kB", meminfo, re.MULTILINE)
    return round(int(total[1]) / KIB_PER_MB, 1) if total else None


def _instructions(processor: str) -> list[str] | None:
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", processor, re.MULTILINE)
    return [one for one in INSTRUCTIONS if one in flags[1].split()] if flags else None


def _frequencies(policies: list[Path]) -> list[float] | None:
    low = [khz for place in policies if (khz := _number(place / "cpuinfo_min_freq")) is not None]
    high = [khz for place in policies if (khz := _number(place / "cpuinfo_max_freq")) is not None]
    return [min(low) / 1000, max(high) / 1000] if low and high else None


def _load(root: Path) -> float | None:
    if text := _text(root / "proc/loadavg"):
        return float(text.split()[0])
    try:
        return os.getloadavg()[0] if root == ROOT else None
    except OSError:
        return None


def _throttled(root: Path, firmware: bool) -> int | None:
    """Read the flags from the firmware's file, otherwise from vcgencmd."""
    text = _text(root / "sys/devices/platform/soc/soc:firmware/get_throttled")
    if text is None and firmware and root == ROOT and (tool := shutil.which("vcgencmd")):
        try:
            done = subprocess.run(
                [tool, "get_throttled"], capture_output=True, text=True, timeout=5, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        text = done.stdout.partition("=")[2].strip()
    try:
        return int(text, 16) if text else None
    except ValueError:
        return None


def _each_once(found: list[str | None]) -> list[str] | None:
    return sorted({one for one in found if one}) or None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _number(path: Path) -> int | None:
    try:
        return int(_text(path) or "")
    except ValueError:
        return None


def _text(path: Path) -> str | None:
    """Read a small file; device-tree strings end with a NUL."""
    try:
        return path.read_text("utf-8", "replace").strip("\0\n ") or None
    except OSError:
        return None
