"""Which alarms stand, by what was noted."""

from __future__ import annotations

import pytest

from edgeprune_device.monitoring.alarms import Alarms
from edgeprune_device.stream import Notice


@pytest.mark.parametrize(
    ("begins", "ends"),
    [
        (Notice("health-silent", "x"), Notice("health-silent-cleared", "y")),
        (Notice("scores-constant", "x"), Notice("scores-constant-cleared", "y")),
        (Notice("microphone-lost", "x"), Notice("microphone-back", "y")),
        (Notice("microphone-stalled", "x"), Notice("microphone-back", "y")),
        (Notice("clips-lost", "x"), Notice("clips-back", "y")),
        (Notice("disk-full", "x", {"raised": True}), Notice("disk-full", "y", {"raised": False})),
        (Notice("load-exceeded", "x"), Notice("load-restored", "y")),
        (Notice("clock-unsynchronised", "x"), Notice("clock-synchronised", "y")),
    ],
    ids=lambda notice: notice.kind,
)
def test_an_alarm_stands_from_its_notice_to_the_one_that_ends_it(
    begins: Notice, ends: Notice
) -> None:
    alarms = Alarms()
    alarms.take(begins)
    alarms.take(begins)
    assert alarms.active == {begins.kind: "x"}
    alarms.take(Notice("load-shed", "something else"))
    assert alarms.active == {begins.kind: "x"}
    alarms.take(ends)
    assert alarms.active == {}
    assert alarms.raised == {begins.kind: 1}


@pytest.mark.parametrize(
    "kind", ["load-shed", "ballast", "paused", "clock-jumped", "clips-deleted"]
)
def test_news_are_no_alarms(kind: str) -> None:
    alarms = Alarms()
    alarms.take(Notice(kind, "x"))
    assert not alarms.active
