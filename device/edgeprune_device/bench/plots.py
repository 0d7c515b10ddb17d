"""Draws the plots of a benchmark as inline SVG: latencies on one logarithmic axis, and over time.

One histogram per variant, and all as cumulative curves, in the colours that the page's style sheet
names (``--ink``, ``--soft``, ``--line``, ``--fill``, ``--c0`` to ``--c5``), so that they follow the
page in dark mode.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

LEFT, WIDTH, ROW, AXIS, BINS = 210, 720, 46, 34, 90  # px, px, px, px, bars of a strip
POINTS, COLOURS, ACROSS, LINE = (
    200,
    6,
    3,
    20,
)  # per curve, in the style sheet, names per line, px


def picture(result: Mapping[str, Any]) -> str:
    """Return an SVG with a histogram of each variant's latencies."""
    variants = result["variants"]
    low, high = axis_ends(result)
    height = ROW * len(variants) + AXIS

    def place(value: float) -> float:
        return LEFT + WIDTH * float(np.log(value / low) / np.log(high / low))

    edges = np.geomspace(low, high, BINS + 1)
    parts = [f'<svg viewBox="0 0 {LEFT + WIDTH + 30} {height}" role="img" '
             f'width="{LEFT + WIDTH + 30}" aria-label="Latency distributions">']  # fmt: skip
    for tick in ticks(low, high):
        x = place(tick)
        parts.append(
            f'<path d="M{x:.1f} 0V{height - AXIS + 5}" stroke="var(--line)"/><text class="soft" '
            f'x="{x:.1f}" y="{height - AXIS + 20}" text-anchor="middle">{tick:g}</text>'
        )
    for row, one in enumerate(variants):
        base = ROW * (row + 1) - 6
        counts = np.histogram(one["samples_ms"], edges)[0]
        tops = base - (ROW - 12) * counts / max(1, counts.max())
        steps = "".join(
            f"L{place(a):.1f} {y:.1f}L{place(b):.1f} {y:.1f}"
            for a, b, y in zip(edges[:-1], edges[1:], tops, strict=True)
        )
        name = html.escape(f"{one['name'][-24:]}, {one['threads']} thr.")
        parts.append(
            f'<text x="{LEFT - 12}" y="{base - 10}" text-anchor="end">{name}</text>'
            f'<path d="M{LEFT} {base}{steps}L{LEFT + WIDTH} {base}Z" fill="var(--fill)" '
            f'fill-opacity=".45" stroke="var(--fill)" stroke-width=".7"/>'
            f'<path d="M{place(one["p50_ms"]):.1f} {base}v{12 - ROW}" stroke="var(--ink)"/>'
        )
        gap = (ROW - 14) / len(one["round_medians_ms"])
        parts += [
            f'<circle cx="{place(median):.1f}" cy="{base - ROW + 15 + gap * (turn + 0.5):.1f}" '
            f'r="2" fill="var(--ink)"/>'
            for turn, median in enumerate(one["round_medians_ms"])
        ]
    return "\n".join([*parts, "</svg>"])


def curves(result: Mapping[str, Any]) -> str:
    """Return an SVG with the cumulative distribution of each variant's latencies, same axis."""
    variants, (low, high) = result["variants"], axis_ends(result)
    top, tall = 12, 180
    below = top + tall

    def place(value: float) -> float:
        return LEFT + WIDTH * float(np.log(value / low) / np.log(high / low))

    height = below + AXIS + LINE * -(-len(variants) // ACROSS)
    parts = [f'<svg viewBox="0 0 {LEFT + WIDTH + 30} {height}" role="img" '
             f'width="{LEFT + WIDTH + 30}" aria-label="Cumulative distributions of latency">']  # fmt: skip
    for share in (0.0, 0.5, 0.9, 1.0):
        y = below - tall * share
        parts.append(f'<path d="M{LEFT} {y:.1f}h{WIDTH}" stroke="var(--line)"/><text class="soft" '
                     f'x="{LEFT - 12}" y="{y + 4:.1f}" text-anchor="end">{share:.0%}</text>')  # fmt: skip
    for tick in ticks(low, high):
        parts.append(f'<text class="soft" x="{place(tick):.1f}" y="{below + 18}" '
                     f'text-anchor="middle">{tick:g}</text>')  # fmt: skip
    for row, one in enumerate(variants):
        shares = np.linspace(0, 1, POINTS)
        values = np.clip(np.quantile(one["samples_ms"], shares), low, high).tolist()
        line = " ".join(
            f"{place(value):.1f},{below - tall * part:.1f}"
            for value, part in zip(values, shares.tolist(), strict=True)
        )
        colour = f"var(--c{row % COLOURS})"
        dash = "" if row < COLOURS else ' stroke-dasharray="5 3"'
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" '
                     f'stroke-width="1.6"{dash}/>')  # fmt: skip
    return "\n".join([*parts, legend(variants, below + AXIS + 4), "</svg>"])


def legend(variants: Any, top: float) -> str:
    """Return SVG elements with the names of the variants and their colours, three per line."""
    parts = []
    for row, one in enumerate(variants):
        x, y = LEFT + WIDTH // ACROSS * (row % ACROSS), top + LINE * (row // ACROSS)
        name = html.escape(f"{one['name'][-24:]}, {one['threads']} thr.")
        dash = "" if row < COLOURS else ' stroke-dasharray="5 3"'
        parts.append(f'<path d="M{x} {y:.1f}h20" stroke="var(--c{row % COLOURS})" '
                     f'stroke-width="3"{dash}/><text x="{x + 26}" y="{y + 4:.1f}">{name}</text>')  # fmt: skip
    return "\n".join(parts)


def axis_ends(result: Mapping[str, Any]) -> tuple[float, float]:
    """Return the ends of the plot's axis in ms: the lowest latency, the highest p99 or median."""
    variants = result["variants"]
    low = min(one["min_ms"] for one in variants)
    high = max(max(one["p99_ms"], *one["round_medians_ms"]) for one in variants)
    return 0.97 * low, 1.03 * high


def beyond(result: Mapping[str, Any]) -> str:
    """Return the share of the samples beyond the axis, as text."""
    samples = np.concatenate([np.asarray(one["samples_ms"]) for one in result["variants"]])
    return f"{float((samples > axis_ends(result)[1]).mean()):.1%}"


def ticks(low: float, high: float) -> list[float]:
    """Return 1, 2, 5 times powers of ten between two numbers; finer steps on a short axis."""
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    for steps in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9), np.arange(10, 100) / 10):
        found = [float(f"{step * 10.0**p:.4g}") for p in powers for step in steps]
        found = [tick for tick in found if low <= tick <= high]
        if len(found) >= 3:
            break
    return found


TALL, TOP, AXIS, LOW = 220, 14, 40, 90  # px; LOW is the height of the lower panel
GAP_SECONDS = 5.0
"""Longest time between two connected points; in longer gaps other variants were measured."""
BESIDE = (
    ("temperature_c", "temperature, °C"), ("frequency_mhz", "frequency, MHz"),
    ("load_average", "load average"),
)  # fmt: skip
ALWAYS = "temperature_c"
Points = Sequence[tuple[float, float]]


def timeline(result: Mapping[str, Any]) -> str:
    """Return an SVG of medians (lines) and slowest windows (dots) over time; empty if unknown."""
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
    """Return the series drawn below the latencies: the first known and changing of `BESIDE`."""
    for key, title in BESIDE:
        told = [(one["at_seconds"], one[key]) for one in series if one[key] is not None]
        if (told and key == ALWAYS) or len({value for _, value in told}) > 1:
            return title, told
    return "", []


def points_of(variant: Mapping[str, Any]) -> list[tuple[float, float, float]]:
    """Return a variant's points: (seconds, median in ms, slowest window in ms)."""
    run = variant["sustained"]
    if run is not None:
        return [(one["at_seconds"], one["p50_ms"], one["max_ms"]) for one in run["slices"]]
    return [(at, median, slowest) for at, median, slowest in variant["timeline"]]


def _unbroken(points: Points) -> list[list[tuple[float, float]]]:
    """Split a line at gaps in which something else was measured."""
    pieces: list[list[tuple[float, float]]] = []
    for point in points:
        if pieces and point[0] - pieces[-1][-1][0] <= GAP_SECONDS:
            pieces[-1].append(point)
        else:
            pieces.append([point])
    return pieces


def _lower(beside: Points, title: str, top: float, x_of: Any) -> str:
    """Return the lower panel: the machine's state during the measurement."""
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
    """Return the time axis, in seconds or minutes."""
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
