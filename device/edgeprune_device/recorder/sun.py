"""Dawn, sunrise, sunset and dusk of a place, by NOAA's solar equations, without tables.

The equations are those of NOAA's Solar Calculator (gml.noaa.gov/grad/solcalc/calcdetails.html),
after Meeus, Astronomical Algorithms (1991), ch. 25: accurate to a minute between the polar circles.
Sunrise and sunset are those of the upper limb with mean refraction (altitude -0.833 degrees), dawn
and dusk those of civil twilight (-6 degrees).

If the sun stays above such an altitude all day, its rise is set to the solar midnight before, its
setting to the one after; if it stays below, both are set to solar noon. These are the limits of the
times as days grow to 24 hours or shrink to none, so ``dawn..dusk`` is then the whole day, or empty.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

EVENTS = {  # altitude of the sun's centre in degrees, and which way it goes
    "dawn": (-6.0, -1), "sunrise": (-0.833, -1), "sunset": (-0.833, 1), "dusk": (-6.0, 1),
}  # fmt: skip
EPOCH = datetime(2000, 1, 1, 12, tzinfo=UTC)
CENTURY_DAYS = 36525.0
MINUTES_PER_DEGREE = 4.0
ROUNDS = 3  # iterations with the event's own time in the equations


@dataclass(frozen=True)
class SunEvent:
    """Time at which the sun passes an altitude."""

    at: datetime
    """UTC."""
    kind: str = ""
    """Empty; ``above`` or ``below`` if the sun stays so all day and ``at`` is a substitute."""


def sun_event(name: str, day: date, latitude: float, longitude: float) -> SunEvent:
    """Return a day's dawn, sunrise, sunset or dusk.

    Parameters
    ----------
    name : str
        One of ``EVENTS``.
    day : date
        Date of the mean solar time at the longitude: the events are those around its noon.
    latitude, longitude : float
        Degrees north (-90 to 90) and east (-180 to 180).

    Returns
    -------
    SunEvent

    """
    altitude, way = EVENTS[name]
    noon = solar_noon(day, longitude)
    at = noon
    for _ in range(ROUNDS):
        declination, _equation = _sun(at)
        cosine = _cosine_of_hour_angle(altitude, latitude, declination)
        if abs(cosine) > 1:
            break
        minutes = math.degrees(math.acos(cosine)) * MINUTES_PER_DEGREE
        at = solar_noon(day, longitude, at) + way * timedelta(minutes=minutes)
    else:
        return SunEvent(at)
    if cosine > 1:
        return SunEvent(noon, "below")
    return SunEvent(noon + way * timedelta(hours=12), "above")


def solar_noon(day: date, longitude: float, near: datetime | None = None) -> datetime:
    """Return the UTC time of solar noon on a day of mean solar time."""
    mean = datetime(day.year, day.month, day.day, 12, tzinfo=UTC) - timedelta(
        minutes=MINUTES_PER_DEGREE * longitude
    )
    return mean - timedelta(minutes=_sun(near or mean)[1])


def solar_day(moment: datetime, longitude: float) -> date:
    """Return the date of the mean solar time at a longitude."""
    return (moment.astimezone(UTC) + timedelta(minutes=MINUTES_PER_DEGREE * longitude)).date()


def _cosine_of_hour_angle(altitude: float, latitude: float, declination: float) -> float:
    """Return the cosine of the angle from noon at which the sun is at an altitude; all degrees."""
    place = math.radians(max(-89.999, min(89.999, latitude)))  # at a pole every direction is south
    height, tilt = math.radians(altitude), math.radians(declination)
    return (math.sin(height) - math.sin(place) * math.sin(tilt)) / (
        math.cos(place) * math.cos(tilt)
    )


def _sun(moment: datetime) -> tuple[float, float]:
    """Return the sun's declination in degrees and the equation of time in minutes."""
    t = (moment - EPOCH) / timedelta(days=CENTURY_DAYS)
    length = (280.46646 + t * (36000.76983 + 0.0003032 * t)) % 360
    anomaly = 357.52911 + t * (35999.05029 - 0.0001537 * t)
    eccentricity = 0.016708634 - t * (0.000042037 + 0.0000001267 * t)
    centre = (
        _sine(anomaly) * (1.914602 - t * (0.004817 + 0.000014 * t))
        + _sine(2 * anomaly) * (0.019993 - 0.000101 * t)
        + _sine(3 * anomaly) * 0.000289
    )
    node = 125.04 - 1934.136 * t
    apparent = length + centre - 0.00569 - 0.00478 * _sine(node)
    mean_obliquity = 23 + (26 + (21.448 - t * (46.815 + t * (0.00059 - 0.001813 * t))) / 60) / 60
    obliquity = mean_obliquity + 0.00256 * _cosine(node)
    declination = math.degrees(math.asin(_sine(obliquity) * _sine(apparent)))
    y = math.tan(math.radians(obliquity / 2)) ** 2
    equation = (
        y * _sine(2 * length) - 2 * eccentricity * _sine(anomaly)
        + 4 * eccentricity * y * _sine(anomaly) * _cosine(2 * length)
        - 0.5 * y * y * _sine(4 * length) - 1.25 * eccentricity**2 * _sine(2 * anomaly)
    )  # fmt: skip
    return declination, MINUTES_PER_DEGREE * math.degrees(equation)


def _in_degrees(function: Callable[[float], float]) -> Callable[[float], float]:
    return lambda degrees: function(math.radians(degrees))


_sine, _cosine = _in_degrees(math.sin), _in_degrees(math.cos)
