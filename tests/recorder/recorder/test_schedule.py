"""When a recorder listens: by the clock, by the sun, over midnight, in spring and in autumn."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune_device.errors import EdgepruneError
from edgeprune_device.recorder.schedule import ListeningSchedule, local_zone, parse_time_range
from edgeprune_device.recorder.sun import sun_event
from edgeprune_device.settings import Schedule as Entries

BERLIN = ZoneInfo("Europe/Berlin")
HERE = (52.52, 13.405)
TROMSO = (69.6492, 18.9553)


def at(text: str, zone: ZoneInfo = BERLIN, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold)


def schedule(
    *listen: str, quiet: tuple[str, ...] = (), place: tuple[float, float] | None = None
) -> ListeningSchedule:
    latitude, longitude = place or (None, None)
    return ListeningSchedule(Entries(listen, quiet, latitude, longitude), BERLIN)


def test_without_entries_it_listens_always_and_nothing_changes() -> None:
    found = schedule()
    assert found.always
    assert found.listening(at("2025-06-21 03:00"))
    assert found.next_change(at("2025-06-21 03:00")) is None


@pytest.mark.parametrize(
    ("entry", "clock", "listens"),
    [
        ("05:00-09:00", "04:59:59", False), ("05:00-09:00", "05:00", True),
        ("05:00-09:00", "08:59:59", True), ("05:00-09:00", "09:00", False),
        ("22:00-04:30", "23:00", True), ("22:00-04:30", "04:29", True),
        ("22:00-04:30", "04:30", False), ("22:00-04:30", "21:59", False),
        ("00:00-24:00", "00:00", True), ("00:00-24:00", "23:59:59", True),
        ("20:00..23:00", "21:00", True),
    ],
)  # fmt: skip
def test_the_begin_counts_and_the_end_does_not(entry: str, clock: str, listens: bool) -> None:
    assert schedule(entry).listening(at(f"2025-01-15 {clock}")) == listens


def test_quiet_hours_win_and_stand_alone_too() -> None:
    both = schedule("05:00-09:00", quiet=("08:00-20:00",))
    assert both.listening(at("2025-01-15 07:59"))
    assert not both.listening(at("2025-01-15 08:00"))
    alone = schedule(quiet=("08:00-20:00",))
    assert alone.listening(at("2025-01-15 20:00"))
    assert alone.next_change(at("2025-01-15 20:00")) == at("2025-01-16 08:00")


def test_dawn_and_dusk_follow_the_sun_with_their_offsets() -> None:
    found = schedule("dawn-1h..dusk+0:30", place=HERE)
    for day in (date(2025, 1, 15), date(2025, 6, 21)):
        begin = sun_event("dawn", day, *HERE).at - timedelta(hours=1)
        end = sun_event("dusk", day, *HERE).at + timedelta(minutes=30)
        second = timedelta(seconds=1)
        assert [found.listening(t) for t in (begin - second, begin, end - second, end)] == [
            False, True, True, False,
        ]  # fmt: skip
        assert found.next_change(begin - second) == begin
        assert found.next_change(begin) == end


@pytest.mark.parametrize("text", ["dawn-1h", "dawn - 60m", "dawn-1:00", "dawn-60min", "DAWN-0h60m"])
def test_an_offset_may_be_written_in_several_ways(text: str) -> None:
    assert parse_time_range(f"{text}..dusk").begin.minutes == -60


def test_a_mixed_stretch_is_empty_where_its_order_is_turned_round() -> None:
    early = schedule("05:00..sunrise", place=HERE)
    assert early.listening(at("2025-01-15 07:00"))  # the sun rises after eight
    assert not any(early.listening(at(f"2025-06-21 {hour:02d}:30")) for hour in range(24))
    night = schedule("dusk+3h..dawn-3h", place=HERE)
    assert night.listening(at("2025-01-15 00:30"))
    assert not any(night.listening(at(f"2025-06-21 {hour:02d}:30")) for hour in range(24))
    noon = schedule("dawn+5h..dusk-5h", place=HERE)
    assert not any(noon.listening(at(f"2025-01-15 {hour:02d}:30")) for hour in range(24))


def test_an_evening_goes_on_until_the_next_dawn() -> None:
    found = schedule("20:00..dawn", place=HERE)
    assert found.listening(at("2025-01-15 23:00"))
    assert found.listening(at("2025-01-15 06:00"))
    assert not found.listening(at("2025-01-15 12:00"))


def test_the_polar_day_is_one_long_daylight_and_has_no_night() -> None:
    light, dark = schedule("dawn..dusk", place=TROMSO), schedule("dusk..dawn", place=TROMSO)
    half_hours = [at("2025-06-20 00:00") + timedelta(minutes=30 * n) for n in range(96)]
    assert all(light.listening(moment) for moment in half_hours)
    assert not any(dark.listening(moment) for moment in half_hours)
    change = dark.next_change(half_hours[0])
    assert change is not None
    assert change.month == 8  # the first night with its dusk
    assert light.notes(date(2025, 6, 21)) == [
        "On 2025-06-21 the sun stays above 6 degrees below the horizon at 69.6492, 18.9553: "
        f"{name} is assumed at solar midnight." for name in ("dawn", "dusk")
    ]  # fmt: skip


def test_the_polar_night_has_no_daylight_but_offsets_around_noon() -> None:
    sun, dark = schedule("sunrise..sunset", place=TROMSO), schedule("sunset..sunrise", place=TROMSO)
    half_hours = [at("2025-12-20 00:00") + timedelta(minutes=30 * n) for n in range(96)]
    assert not any(sun.listening(moment) for moment in half_hours)
    assert all(dark.listening(moment) for moment in half_hours)
    around = schedule("sunrise-1h..sunset+1h", place=TROMSO)
    assert sum(around.listening(moment) for moment in half_hours) == 8  # two hours a day
    assert "stays below the horizon" in sun.notes(date(2025, 12, 21))[0]


def test_a_day_on_which_the_sun_rises_has_no_notes() -> None:
    assert schedule("dawn..dusk", place=HERE).notes(date(2025, 6, 21)) == []
    assert schedule("05:00-09:00").notes(date(2025, 6, 21)) == []


def test_in_spring_a_stretch_over_the_change_is_an_hour_shorter() -> None:
    """In Berlin 30 March 2025 goes from 02:00 to 03:00, and 26 October from 03:00 to 02:00."""
    found = schedule("01:00-05:00")
    begin = at("2025-03-30 01:00")
    end = found.next_change(begin)
    assert end == at("2025-03-30 05:00")
    assert end.astimezone(UTC) - begin.astimezone(UTC) == timedelta(hours=3)
    autumn = at("2025-10-26 01:00")
    end = found.next_change(autumn)
    assert end == at("2025-10-26 05:00")
    assert end.astimezone(UTC) - autumn.astimezone(UTC) == timedelta(hours=5)


def test_a_time_that_is_skipped_comes_as_far_after_the_change_and_a_repeated_one_first() -> None:
    found = schedule("02:30-04:00")
    assert found.next_change(at("2025-03-30 01:00")) == at("2025-03-30 03:30")
    first = found.next_change(at("2025-10-26 01:00"))
    assert first is not None
    assert first.astimezone(UTC) == datetime(2025, 10, 26, 0, 30, tzinfo=UTC)
    assert found.listening(at("2025-10-26 02:15", fold=1))  # it has begun, and goes on


@given(
    st.sampled_from([("05:00-09:00",), ("22:00-04:30", "12:00-13:00"), ("dawn-1h..dusk+0:30",),
                     ("20:00..dawn",), ("dusk..23:00", "03:00..sunrise")]),
    st.sampled_from([(), ("08:30-20:00",), ("23:30-00:30",)]),
    st.datetimes(datetime(2025, 1, 1), datetime(2026, 12, 31)),
)  # fmt: skip
def test_between_a_moment_and_the_next_change_nothing_changes(
    listen: tuple[str, ...], quiet: tuple[str, ...], moment: datetime
) -> None:
    found = schedule(*listen, quiet=quiet, place=HERE)
    here = moment.replace(tzinfo=UTC)
    now, change = found.listening(here), found.next_change(here)
    assert change is not None
    span = change.astimezone(UTC) - here
    assert timedelta(0) < span <= timedelta(hours=25)
    for part in range(20):
        assert found.listening(here + span * part / 20) == now
    assert found.listening(change) != now


def test_only_the_instant_counts_and_not_the_zone_it_is_given_in() -> None:
    found = schedule("05:00-09:00")
    assert found.listening(datetime(2025, 1, 15, 4, 30, tzinfo=UTC))  # 05:30 in Berlin
    assert not found.listening(datetime(2025, 1, 15, 8, 30, tzinfo=UTC))
    with pytest.raises(ValueError, match="has no time zone"):
        found.listening(datetime(2025, 1, 15, 8, 30))


def test_where_the_calendar_is_a_day_ahead_of_the_sun_its_day_counts() -> None:
    """Kiritimati keeps UTC+14 at 157 degrees west: a date ahead of its sun."""
    island = ZoneInfo("Pacific/Kiritimati")
    found = ListeningSchedule(Entries(("05:00..sunrise",), (), 1.87, -157.43), island)
    change = found.next_change(at("2025-03-10 05:30", island))
    assert change is not None
    assert (change.date(), change.hour) == (date(2025, 3, 10), 6)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("five to nine", "has 'five to nine', which is not a time range"),
        *((entry, "which is not a time range") for entry in
          ("05:00", "05:00-09:60", "24:30-09:00", "dawn-dusk", "dawn-13h..dusk", "down..dusk",
           "dawn-1x..dusk", "", "dawn..noon..dusk")),
        ("05:00-05:00", "begins and ends at the same time"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named_in_one_sentence(entry: str, said: str) -> None:
    with pytest.raises(EdgepruneError, match=said) as error:
        schedule(entry, place=HERE)
    assert "schedule.listen" in str(error.value)
    assert error.value.hint


def test_the_sun_needs_a_place() -> None:
    with pytest.raises(EdgepruneError, match=r"schedule\.quiet has 'dawn\.\.dusk', but dawn needs"):
        schedule(quiet=("dawn..dusk",))


def test_the_local_zone_is_that_of_tz_or_of_etc_localtime(tmp_path: Path) -> None:
    assert local_zone({"TZ": ":Europe/Berlin"}) == BERLIN
    assert local_zone({}, tmp_path) is UTC
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/localtime").symlink_to("/usr/share/zoneinfo/Europe/Berlin")
    moment = datetime(2025, 7, 1, tzinfo=UTC).astimezone(local_zone({}, tmp_path))
    assert moment.utcoffset() == timedelta(hours=2)
    with pytest.raises(EdgepruneError, match="TZ = 'Mars/Olympus' is not a known time zone"):
        local_zone({"TZ": "Mars/Olympus"})
