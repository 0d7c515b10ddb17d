"""The sun's times against an astronomical library, printed almanacs, and symmetries."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune_device.recorder.sun import EVENTS, solar_day, solar_noon, sun_event

# Computed once with PyEphem 4.2.1 (libastro: VSOP87, nutation, aberration), no pressure, horizons of
# -6 and -0:50 degrees for the sun's centre: a theory of its own, not NOAA's equations.
EPHEM = [  # place, latitude, longitude, day; UTC of dawn, sunrise, sunset, dusk
    ("Copenhagen", 55.6761, 12.5683, "2024-03-20",
     ["2024-03-20T04:34:16", "2024-03-20T05:11:01", "2024-03-20T17:24:14", "2024-03-20T18:01:08"]),
    ("Copenhagen", 55.6761, 12.5683, "2025-06-21",
     ["2025-06-21T01:24:12", "2025-06-21T02:25:22", "2025-06-21T19:57:45", "2025-06-21T20:58:54"]),
    ("Copenhagen", 55.6761, 12.5683, "2026-12-21",
     ["2026-12-21T06:50:18", "2026-12-21T07:37:09", "2026-12-21T14:38:22", "2026-12-21T15:25:14"]),
    ("Singapore", 1.3521, 103.8198, "2024-03-20",
     ["2024-03-19T22:48:12", "2024-03-19T23:08:52", "2024-03-20T11:15:22", "2024-03-20T11:36:02"]),
    ("Singapore", 1.3521, 103.8198, "2025-06-21",
     ["2025-06-20T22:37:55", "2025-06-20T23:00:29", "2025-06-21T11:12:32", "2025-06-21T11:35:06"]),
    ("Singapore", 1.3521, 103.8198, "2026-12-21",
     ["2026-12-20T22:38:42", "2026-12-20T23:01:14", "2026-12-21T11:04:02", "2026-12-21T11:26:34"]),
    ("Sydney", -33.8688, 151.2093, "2024-03-20",
     ["2024-03-19T19:33:25", "2024-03-19T19:58:21", "2024-03-20T08:06:18", "2024-03-20T08:31:11"]),
    ("Sydney", -33.8688, 151.2093, "2025-06-21",
     ["2025-06-20T20:32:16", "2025-06-20T21:00:00", "2025-06-21T06:53:51", "2025-06-21T07:21:35"]),
    ("Sydney", -33.8688, 151.2093, "2026-12-21",
     ["2026-12-20T18:11:29", "2026-12-20T18:40:38", "2026-12-21T09:05:24", "2026-12-21T09:34:34"]),
    ("Tromso", 69.6492, 18.9553, "2024-03-20",
     ["2024-03-20T03:41:32", "2024-03-20T04:41:44", "2024-03-20T17:03:27", "2024-03-20T18:04:08"]),
    ("Tromso", 69.6492, 18.9553, "2025-06-21",
     ["above", "above", "above", "above"]),
    ("Tromso", 69.6492, 18.9553, "2025-09-05",
     ["2025-09-05T02:09:04", "2025-09-05T03:18:22", "2025-09-05T18:04:36", "2025-09-05T19:12:51"]),
    ("Tromso", 69.6492, 18.9553, "2026-12-21",
     ["2026-12-21T08:31:15", "below", "below", "2026-12-21T12:53:09"]),
    ("Tromso", 69.6492, 18.9553, "2030-02-11",
     ["2030-02-11T06:23:16", "2030-02-11T07:33:56", "2030-02-11T14:24:10", "2030-02-11T15:34:59"]),
    ("Quito", -0.1807, -78.4678, "2024-03-20",
     ["2024-03-20T10:57:12", "2024-03-20T11:17:52", "2024-03-20T23:24:21", "2024-03-20T23:45:01"]),
    ("Quito", -0.1807, -78.4678, "2025-06-21",
     ["2025-06-21T10:49:52", "2025-06-21T11:12:24", "2025-06-21T23:19:08", "2025-06-21T23:41:40"]),
    ("Quito", -0.1807, -78.4678, "2026-12-21",
     ["2026-12-21T10:45:26", "2026-12-21T11:07:58", "2026-12-21T23:16:06", "2026-12-21T23:38:38"]),
    ("Honolulu", 21.3069, -157.8583, "2024-03-20",
     ["2024-03-20T16:12:35", "2024-03-20T16:34:46", "2024-03-21T04:42:45", "2024-03-21T05:04:57"]),
    ("Honolulu", 21.3069, -157.8583, "2025-06-21",
     ["2025-06-21T15:25:34", "2025-06-21T15:50:26", "2025-06-22T05:16:19", "2025-06-22T05:41:11"]),
    ("Honolulu", 21.3069, -157.8583, "2026-12-21",
     ["2026-12-21T16:40:20", "2026-12-21T17:04:36", "2026-12-22T03:54:49", "2026-12-22T04:19:05"]),
    ("Kiritimati", 1.8721, -157.4278, "2024-03-20",
     ["2024-03-20T16:12:56", "2024-03-20T16:33:36", "2024-03-21T04:40:11", "2024-03-21T05:00:52"]),
    ("Kiritimati", 1.8721, -157.4278, "2025-06-21",
     ["2025-06-21T16:02:09", "2025-06-21T16:24:44", "2025-06-22T04:38:35", "2025-06-22T05:01:09"]),
    ("Kiritimati", 1.8721, -157.4278, "2026-12-21",
     ["2026-12-21T16:04:57", "2026-12-21T16:27:29", "2026-12-22T04:28:29", "2026-12-22T04:51:01"]),
    ("Ushuaia", -54.8019, -68.303, "2024-03-20",
     ["2024-03-20T09:59:25", "2024-03-20T10:35:28", "2024-03-20T22:44:19", "2024-03-20T23:20:14"]),
    ("Ushuaia", -54.8019, -68.303, "2025-06-21",
     ["2025-06-21T12:13:39", "2025-06-21T12:58:54", "2025-06-21T20:11:19", "2025-06-21T20:56:34"]),
    ("Ushuaia", -54.8019, -68.303, "2025-09-05",
     ["2025-09-05T10:27:48", "2025-09-05T11:03:51", "2025-09-05T22:00:39", "2025-09-05T22:36:48"]),
    ("Ushuaia", -54.8019, -68.303, "2026-12-21",
     ["2026-12-21T06:53:57", "2026-12-21T07:51:26", "2026-12-22T01:11:18", "2026-12-22T02:08:47"]),
    ("Ushuaia", -54.8019, -68.303, "2030-02-11",
     ["2030-02-11T08:36:53", "2030-02-11T09:18:33", "2030-02-12T00:14:54", "2030-02-12T00:56:15"]),
]  # fmt: skip
PRINTED = [  # place, zone, latitude, longitude, day, sunrise, sunset: what almanacs print (to a minute)
    ("London", "Europe/London", 51.5074, -0.1278, "2024-06-20", "04:43", "21:21"),
    ("London", "Europe/London", 51.5074, -0.1278, "2023-12-21", "08:04", "15:53"),
    ("New York", "America/New_York", 40.7128, -74.006, "2024-06-20", "05:25", "20:30"),
    ("New York", "America/New_York", 40.7128, -74.006, "2024-12-21", "07:17", "16:32"),
    ("Berlin", "Europe/Berlin", 52.52, 13.405, "2024-06-21", "04:43", "21:33"),
    ("Sydney", "Australia/Sydney", -33.8688, 151.2093, "2024-12-21", "05:41", "20:05"),
    ("Reykjavik", "Atlantic/Reykjavik", 64.1466, -21.9426, "2024-06-21", "02:55", "00:03"),
]


@pytest.mark.parametrize(("place", "latitude", "longitude", "day", "times"), EPHEM)
def test_an_astronomical_library_agrees_to_ten_seconds(
    place: str, latitude: float, longitude: float, day: str, times: list[str]
) -> None:
    for name, expected in zip(EVENTS, times, strict=True):
        found = sun_event(name, date.fromisoformat(day), latitude, longitude)
        if expected in ("above", "below"):
            assert found.kind == expected, name
            continue
        assert found.kind == ""
        apart = found.at - datetime.fromisoformat(expected).replace(tzinfo=UTC)
        assert abs(apart.total_seconds()) < 10, f"{place} {name}"


@pytest.mark.parametrize(
    ("place", "zone", "latitude", "longitude", "day", "sunrise", "sunset"), PRINTED
)
def test_printed_almanacs_agree_to_two_minutes(
    place: str, zone: str, latitude: float, longitude: float, day: str, sunrise: str, sunset: str
) -> None:
    for name, printed in (("sunrise", sunrise), ("sunset", sunset)):
        found = sun_event(name, date.fromisoformat(day), latitude, longitude).at
        local = found.astimezone(ZoneInfo(zone))
        shown = datetime.combine(local.date(), datetime.strptime(printed, "%H:%M").time())
        apart = (local.replace(tzinfo=None) - shown).total_seconds()
        assert abs(apart) < 120, f"{place} {name} {local:%H:%M:%S}"


LATITUDES = st.floats(-90, 90)
LONGITUDES = st.floats(-180, 180)
DAYS = st.dates(date(2000, 1, 1), date(2060, 12, 31))


@given(LATITUDES, LONGITUDES, DAYS)
def test_the_four_come_in_their_order_around_noon_everywhere(
    latitude: float, longitude: float, day: date
) -> None:
    dawn, sunrise, sunset, dusk = (sun_event(name, day, latitude, longitude).at for name in EVENTS)
    slack = timedelta(minutes=2)  # on the days on which a pole's night begins
    assert dawn <= sunrise + slack
    assert sunrise <= sunset
    assert sunset <= dusk + slack
    assert dusk - dawn <= timedelta(hours=24, minutes=2)
    assert solar_day(solar_noon(day, longitude), longitude) == day


@given(st.floats(-60, 60), LONGITUDES, DAYS)
def test_morning_and_evening_lie_alike_around_solar_noon(
    latitude: float, longitude: float, day: date
) -> None:
    noon = solar_noon(day, longitude)
    for early, late in (("dawn", "dusk"), ("sunrise", "sunset")):
        before = noon - sun_event(early, day, latitude, longitude).at
        after = sun_event(late, day, latitude, longitude).at - noon
        assert abs((before - after).total_seconds()) < 240  # the declination moves in between


@given(DAYS)
def test_at_the_equator_a_day_is_always_twelve_hours_and_seven_minutes(day: date) -> None:
    length = sun_event("sunset", day, 0, 0).at - sun_event("sunrise", day, 0, 0).at
    assert abs(length.total_seconds() / 60 - 727) < 1.5


@given(st.floats(0, 55), st.integers(2000, 2059))
def test_the_longest_day_here_is_the_longest_night_of_the_other_hemisphere(
    latitude: float, year: int
) -> None:
    def daylight(day: date, where: float) -> float:
        rise, fall = (sun_event(name, day, where, 0).at for name in ("sunrise", "sunset"))
        return (fall - rise).total_seconds() / 60

    summer, winter = date(year, 6, 21), date(year, 12, 21)
    assert abs(daylight(summer, latitude) - daylight(winter, -latitude)) < 2
    # Refraction and the radius of the sun make every day longer: the two come to over 24 hours.
    assert 1440 <= daylight(summer, latitude) + daylight(winter, latitude) < 1480


def test_in_tromso_the_sun_stays_up_from_late_may_and_down_from_late_november() -> None:
    """The printed dates: midnight sun 20 May to 22 July, polar night 27 November to 15 January."""
    days = [date(2025, 1, 1) + timedelta(n) for n in range(365)]
    kinds = {day: sun_event("sunrise", day, 69.6492, 18.9553).kind for day in days}
    up = [day for day, kind in kinds.items() if kind == "above"]
    down = [day for day, kind in kinds.items() if kind == "below" and day.month > 6]
    assert abs((up[0] - date(2025, 5, 19)).days) <= 2
    assert abs((up[-1] - date(2025, 7, 24)).days) <= 2
    assert abs((down[0] - date(2025, 11, 28)).days) <= 2
