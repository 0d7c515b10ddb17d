"""Latency over time, with the temperature (or else the load) beside it, as inline SVG.

Of a sustained run its curve, otherwise the pieces of every round where they lie on the clock: a
board that grows warm and slow shows as lines that rise together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgeprune_device.bench_picture import COLOURS, LEFT, LINE, WIDTH, legend, ticks

TALL, TOP, AXIS, LOW = 220, 14, 40, 90  # px; the last is the lower panel's
GAP_SECONDS = 5.0
"""Between points of a line, beyond which it breaks: other variants were measured meanwhile."""
BESIDE = (
    ("temperature_c", "temperature, °C"), ("frequency_mhz", "frequency, MHz"),
    ("load_average", "load average"),
)  # fmt: skip
ALWAYS = "temperature_c"
Points = Sequence[tuple[float, float]]


def timeline(result: Mapping[str, Any]) -> str:
    """Draw medians (lines) and slowest windows (dots) over time; empty where no time is known."""
    lines = [points_of(one) for one in result["variants"]]
    values = [value for line in lines for _, *both in line for value in both]
    if not values:
        return ""
    series = result["environment"]["series"]
    times = [at for line in lines for at, *_ in line]
    begin, end = max(0.0, min(times) - 1), max(times)
    low, high = 0.9 * min(values), 1.1 * float(np.percentile(values, 99.5))
    title, beside = _beside([one for one in series if begin <= one["at_seconds"] <= end + 1])
    below = TOP + TALL
    bottom = below + (LOW + 24 if beside else 0)
    names = LINE * -(-len(lines) // 3)

    def x_of(at: float) -> float:
        return LEFT + WIDTH * min(1.0, (at - begin) / (end - begin))

    def y_of(value: float) -> float:
        share = float(np.log(min(max(value, low), high) / low) / np.log(high / low))
        return below - TALL * share

    parts = [f'<svg viewBox="0 0 {LEFT + WIDTH + 30} {bottom + AXIS + names}" role="img" '
             f'width="{LEFT + WIDTH + 30}" aria-label="Latency over time">']  # fmt: skip
    for tick in ticks(low, high):
        parts.append(f'<path d="M{LEFT} {y_of(tick):.1f}h{WIDTH}" stroke="var(--line)"/><text '
                     f'class="soft" x="{LEFT - 12}" y="{y_of(tick) + 4:.1f}" '
                     f'text-anchor="end">{tick:g} ms</text>')  # fmt: skip
    for row, line in enumerate(lines):
        colour = f"var(--c{row % COLOURS})"
        for piece in _unbroken([(at, median) for at, median, _ in line]):
            parts.append(_line([(x_of(at), y_of(value)) for at, value in piece], colour))
        parts += [
            f'<circle cx="{x_of(at):.1f}" cy="{y_of(slowest):.1f}" r="1.8" fill="{colour}" '
            f'fill-opacity=".8"/>' for at, _, slowest in line
        ]  # fmt: skip
    if beside:
        parts.append(_lower(beside, title, below + 24, x_of))
    parts += _seconds(begin, end, bottom, x_of)
    return "\n".join([*parts, legend(result["variants"], bottom + AXIS), "</svg>"])


def _beside(series: Sequence[Mapping[str, Any]]) -> tuple[str, list[tuple[float, float]]]:
    """Return what is drawn under the latencies: the first of `BESIDE` that is known and changes."""
    for key, title in BESIDE:
        told = [(one["at_seconds"], one[key]) for one in series if one[key] is not None]
        if (told and key == ALWAYS) or len({value for _, value in told}) > 1:
            return title, told
    return "", []


def points_of(variant: Mapping[str, Any]) -> list[tuple[float, float, float]]:
    """Return a variant's points: seconds, median and slowest window in ms."""
    run = variant["sustained"]
    if run is not None:
        return [(one["at_seconds"], one["p50_ms"], one["max_ms"]) for one in run["slices"]]
    return [(at, median, slowest) for at, median, slowest in variant["timeline"]]


def _unbroken(points: Points) -> list[list[tuple[float, float]]]:
    """Cut a line where time was spent on something else."""
    pieces: list[list[tuple[float, float]]] = []
    for point in points:
        if pieces and point[0] - pieces[-1][-1][0] <= GAP_SECONDS:
            pieces[-1].append(point)
        else:
            pieces.append([point])
    return pieces


def _lower(beside: Points, title: str, top: float, x_of: Any) -> str:
    """Draw the lower panel: what the machine did meanwhile."""
    values = [value for _, value in beside]
    low, high = min(values), max(values)
    spread = (high - low) or 1.0

    def y_of(value: float) -> float:
        return top + LOW - (LOW - 16) * (value - low) / spread

    line = _line([(x_of(at), y_of(value)) for at, value in beside], "var(--warm)")
    marks = "".join(
        f'<path d="M{LEFT} {y_of(value):.1f}h{WIDTH}" stroke="var(--line)"/><text class="soft" '
        f'x="{LEFT - 12}" y="{y_of(value) + 4:.1f}" text-anchor="end">{value:.4g}</text>'
        for value in dict.fromkeys((low, high))
    )
    return (f'{marks}{line}<text x="{LEFT + WIDTH}" y="{top + 6:.1f}" text-anchor="end" '
            f'style="fill:var(--warm)">{title}</text>')  # fmt: skip


def _seconds(begin: float, end: float, bottom: float, x_of: Any) -> list[str]:
    """Draw the axis of time, in seconds or minutes."""
    unit, name = (60.0, "min") if end > 300 else (1.0, "s")
    steps = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1440]
    step = next((one for one in steps if (end - begin) / unit / one <= 10), steps[-1])
    marks = np.arange(np.ceil(begin / unit / step), np.floor(end / unit / step) + 1) * step
    return [
        f'<path d="M{x_of(mark * unit):.1f} {bottom}v5" stroke="var(--soft)"/><text class="soft" '
        f'x="{x_of(mark * unit):.1f}" y="{bottom + 20}" text-anchor="middle">{mark:g} {name}</text>'
        for mark in marks
    ]


def _line(points: Points, colour: str) -> str:
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    if len(points) == 1:
        ((x, y),) = points
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{colour}"/>'
    return f'<polyline points="{text}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
