"""How a benchmark's figures are worded: numbers, names, the machine and the method in a line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeprune_device.bench_statistics import thread_text


@dataclass(frozen=True)
class Section:
    """One table with its title and a sentence on how it is to be read."""

    title: str
    text: str
    headings: Sequence[str] = ()
    words: int = 1
    """Columns of text, to the left; the rest are numbers, to the right."""
    rows: Sequence[Sequence[str]] = ()


def number(value: float) -> str:
    """Write a positive number with three digits that count, without an exponent.

    >>> number(1234.5), number(12.345), number(0.0123456)
    ('1234', '12.3', '0.0123')
    """
    if value <= 0:
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(float(f"{value:.3g}"))))  # 9.996 becomes 10.0
    return f"{value:.{digits}f}"


def shown_name(one: Mapping[str, Any]) -> str:
    """Write a variant's name and threads."""
    return f"{one['name']}, {thread_text(one['threads'])}"


def machine_line(result: Mapping[str, Any]) -> str:
    """Say in one line what the machine is; facts that are not known are left out."""
    machine, used = result["machine"], sorted({one["runtime"] for one in result["variants"]})
    before, after = machine["before"], machine["after"]
    warm = [state["temperature_c"] for state in (before, after)]
    parts = [
        machine["model"],
        machine["architecture"],
        f"{machine['cores']} cores",
        machine["memory_mb"] and f"{machine['memory_mb'] / 1000:.1f} GB",
        machine["os"],
        machine["kernel"] and f"kernel {machine['kernel']}",
        f"Python {machine['python']}",
        *used,
        machine["governors"] and f"governor {', '.join(machine['governors'])}",
        None if None in warm else f"{warm[0]:.0f} °C before, {warm[1]:.0f} °C after",
    ]
    return ", ".join(str(part) for part in parts if part)


def method_line(result: Mapping[str, Any]) -> str:
    """Say in a few sentences what the numbers of the table are."""
    first = result["variants"][0]
    sounds = [one["sound"] for one in result["variants"] if one["sound"]]
    heard = (
        ", ".join(dict.fromkeys(f"{one['kind']}: {one['name']}" for one in sounds)) or "not told"
    )
    return (
        f"Single windows of sound ({heard}), back to back, {result['rounds']} rounds of "
        f"{result['seconds']:g} s for each row in shuffled order, each in a process of its own. "
        f"Real-time factor: median latency / duration of a hop; under 1 keeps up. "
        f"In brackets: lowest to highest of the rounds' medians "
        f"({first['p50_interval_coverage']:.1%} interval); for the speed-up over "
        f"{first['baseline']} at the same threads, 95 % bootstrap interval over paired rounds. "
        f"MB are 1e6 bytes; peak: memory of the whole process; model's share: "
        "over what Python and the runtime hold before the bundle is read."
    )


def median(found: Mapping[str, Any] | None) -> str:
    """Write a phase's median; nothing where it was not measured."""
    return number(found["median"]) if found and found["n"] else ""


def percentile(found: Mapping[str, Any]) -> str:
    """Write a percentile (``bench_numbers.describe``), or that there are too few samples for it."""
    return "too few" if found["ms"] is None else number(found["ms"])
