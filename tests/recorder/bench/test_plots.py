"""The pictures of a benchmark: everything within its axes, a mark for each figure."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

from edgeprune_device.bench import plots


@pytest.mark.parametrize(("low", "high"), [(0.013, 0.017), (0.9, 1400.0), (41.0, 44.0), (1.0, 9.0)])
def test_axis_has_ticks_within_it(low: float, high: float) -> None:
    found = plots.ticks(low, high)
    assert 3 <= len(found) <= 20
    assert low <= min(found) < max(found) <= high


def drawn(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def test_a_strip_has_a_dot_for_each_round_and_a_line_at_the_median(made: dict[str, Any]) -> None:
    picture = drawn(plots.picture(made))
    assert len(picture.findall("circle")) == 2 * 3
    low, high = plots.axis_ends(made)
    wanted = [plots.LEFT + plots.WIDTH * np.log(one["p50_ms"] / low) / np.log(high / low)
              for one in made["variants"]]  # fmt: skip
    lines = [
        path.get("d", "") for path in picture.findall("path") if path.get("stroke") == "var(--ink)"
    ]
    assert [float(d[1:].split()[0]) for d in lines] == pytest.approx(wanted, abs=0.06)


@pytest.mark.parametrize("draw", [plots.picture, plots.curves, plots.timeline])
def test_nothing_is_drawn_outside_the_picture(draw: Any, made: dict[str, Any]) -> None:
    """Not even a window that took a hundred times as long."""
    far = {"samples_ms": [*made["variants"][0]["samples_ms"], 4000.0],
           "timeline": [*made["variants"][0]["timeline"], (3.0, 40.0, 4000.0)] * 100,
           "sustained": None}  # fmt: skip
    picture = drawn(draw(made | {"variants": [made["variants"][0] | far, made["variants"][1]]}))
    _, _, width, height = map(float, picture.get("viewBox", "").split())
    places = [(float(c.get("cx", 0)), float(c.get("cy", 0))) for c in picture.iter("circle")]
    places += [(float(t.get("x", 0)), float(t.get("y", 0))) for t in picture.iter("text")]
    for line in picture.iter("polyline"):
        places += [tuple(map(float, pair.split(","))) for pair in line.get("points", "").split()]  # type: ignore[misc]
    assert len(places) > 10
    assert all(0 <= x <= width and 0 <= y <= height for x, y in places)


def test_a_curve_rises_from_none_to_all_of_the_windows(made: dict[str, Any]) -> None:
    for line in drawn(plots.curves(made)).findall("polyline"):
        points = [tuple(map(float, pair.split(","))) for pair in line.get("points", "").split()]
        xs, ys = zip(*points, strict=True)
        assert list(xs) == sorted(xs)
        assert list(ys) == sorted(ys, reverse=True)
        assert (ys[0], ys[-1]) == (192.0, 12.0)


def test_names_are_escaped_and_shortened_from_the_front(made: dict[str, Any]) -> None:
    one = made["variants"][0] | {"name": "/very/long/path/to/a/bundle<&>.zip"}
    svg = plots.picture(made | {"variants": [one]})
    assert "bundle&lt;&amp;&gt;.zip, 1 thr." in svg
    assert "/very/long" not in svg


def test_a_seventh_colour_is_the_first_one_dashed(made: dict[str, Any]) -> None:
    seven = made | {"variants": [made["variants"][0]] * 7}
    lines = drawn(plots.curves(seven)).findall("polyline")
    assert [line.get("stroke") for line in lines] == [f"var(--c{n % 6})" for n in range(7)]
    assert [line.get("stroke-dasharray") is not None for line in lines] == [False] * 6 + [True]


def test_the_axis_ends_at_the_highest_p99_and_what_lies_beyond_is_said() -> None:
    one = {"min_ms": 1.0, "p99_ms": 10.0, "round_medians_ms": [4.0, 5.0],
           "samples_ms": [1.0] * 98 + [50.0, 60.0]}  # fmt: skip
    assert plots.axis_ends({"variants": [one]}) == pytest.approx((0.97, 10.3))
    assert plots.beyond({"variants": [one]}) == "2.0%"
    slow = {**one, "round_medians_ms": [40.0]}
    assert plots.axis_ends({"variants": [one, slow]})[1] == pytest.approx(41.2)


def test_without_moments_there_is_no_timeline(made: dict[str, Any]) -> None:
    untimed = [one | {"timeline": [], "sustained": None} for one in made["variants"]]
    assert plots.timeline(made | {"variants": untimed}) == ""


def test_a_line_over_time_breaks_where_other_variants_were_measured(made: dict[str, Any]) -> None:
    points = [(1.0, 5.0, 6.0), (2.0, 5.0, 6.0), (20.0, 5.0, 6.0), (21.0, 5.0, 6.0)]
    one = made["variants"][0] | {"timeline": points, "sustained": None}
    svg = drawn(plots.timeline(made | {"variants": [one], "environment": {"series": []}}))
    assert [len(line.get("points", "").split()) for line in svg.findall("polyline")] == [2, 2]
    assert plots.points_of(one) == points


@pytest.mark.parametrize(
    ("temperature", "frequency", "load", "title"),
    [([50, 50], [600, 1500], [1, 2], "temperature, °C"),
     ([None, None], [600, 1500], [1, 2], "frequency, MHz"),
     ([None, None], [600, 600], [1, 2], "load average"), ([None, None], [600, 600], [1, 1], "")],
)  # fmt: skip
def test_below_stands_the_first_thing_that_is_known_and_changes(
    temperature: list[Any], frequency: list[Any], load: list[Any], title: str, made: dict[str, Any]
) -> None:
    """The temperature stands there even if it does not change."""
    points = [(at, 5.0, 6.0) for at in (1.0, 2.0)]
    one = made["variants"][0] | {"timeline": points, "sustained": None}
    seen = [{"at_seconds": at, "temperature_c": temperature[n], "frequency_mhz": frequency[n],
             "load_average": load[n]} for n, at in enumerate((1.0, 2.0))]  # fmt: skip
    svg = plots.timeline(made | {"variants": [one], "environment": {"series": seen}})
    titles = [text for _, text in plots.BESIDE if text in svg]
    assert titles == ([title] if title else [])
