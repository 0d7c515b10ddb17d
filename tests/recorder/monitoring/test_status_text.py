"""A status as a person reads it: every line, and what is not known."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from running_status import RUNNING

from edgeprune_device.monitoring.status import (
    Status,
    StatusFile,
    Verdict,
    judge,
    read_status,
)
from edgeprune_device.monitoring.status_text import coverage_text, screen, share_text, span_text
from edgeprune_device.sinks.delivery import DeliveryStats as SinkAccount


def test_a_share_that_is_not_all_is_not_written_as_all() -> None:
    assert [share_text(s) for s in (0, 1e-6, 0.5, 0.9999, 1)] == [
        "0.0 %", "< 0.1 %", "50.0 %", "> 99.9 %", "100.0 %",
    ]  # fmt: skip


def test_the_screen_says_what_a_person_asks(tmp_path: Path) -> None:
    StatusFile(tmp_path, {}).write(RUNNING)
    found = read_status(tmp_path)
    text = screen(found, judge(found, time.monotonic()))
    for line in (
        "listening  microphone USB, birds 3f2a91c0",
        "coverage   4.2 days: 97.0 % analysed; 2.0 % not captured (microphone lost 2.0 %); "
        "1.0 % dropped (backlog 1.0 %)",
        "detections 1200 (robin 800, wren 400); last robin 0.93 at 2026-05-01T05:12:33+00:00",
        "latency    p50 41.0, p90 56.2, p99 59.6, max 60.0 ms of the last 3 windows; "
        "0.082 of real time",
        "backlog    0.0 s, load not reduced",
        "sink       mqtt: 1230 sent, 4 waiting",
        "board      61.3 C, under-voltage since boot, throttled since boot, 12,346 MB of disk free",
        "clock      synchronised within 0.01 s (kernel)",
    ):
        assert line in text.splitlines(), text
    assert coverage_text({}, 16_000) == "nothing yet"


def test_the_screen_says_why_detections_wait_for_a_receiver(tmp_path: Path) -> None:
    file = StatusFile(tmp_path, {})
    for waiting, said in ((4, "4 waiting; broker:1883 cannot be reached"), (0, "0 waiting")):
        account = asdict(SinkAccount(3, waiting, last_error="broker:1883 cannot be reached"))
        file.write(replace(RUNNING, sinks={"mqtt": account}))
        found = read_status(tmp_path)
        lines = screen(found, judge(found, time.monotonic())).splitlines()
        assert next(line for line in lines if "mqtt" in line).endswith(f"mqtt: 3 sent, {said}")


def test_a_recorder_that_has_just_started_has_a_screen_too(tmp_path: Path) -> None:
    StatusFile(tmp_path, {}).write(Status("starting"))
    found = read_status(tmp_path)
    text = screen(found, judge(found, time.monotonic()))
    assert "no window yet" in text
    assert "unknown whether it is synchronised" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (119.94, "119.9 s"), (120, "2.0 min"), (7199, "120.0 min"), (7200, "2.0 h"),
     (172_799, "48.0 h"), (172_800, "2.0 days")],
)  # fmt: skip
def test_a_duration_is_in_the_largest_unit_of_which_there_are_two(
    seconds: float, text: str
) -> None:
    assert span_text(seconds) == text


def test_coverage_begins_with_the_largest_share_and_reasons_follow_their_kind() -> None:
    found = {
        "analysed": {"": 600},
        "dropped": {"load": 10, "backlog": 290},
        "invalid": {"stuck": 100},
    }
    assert coverage_text(found, 10) == (
        "100.0 s: 60.0 % analysed; 30.0 % dropped (backlog 29.0 %, load 1.0 %); 10.0 % invalid "
        "(stuck 10.0 %)"
    )
    assert coverage_text(found, 0) == "nothing yet"


def lines(**changes: Any) -> dict[str, str]:
    """Return a screen's lines by their first word."""
    status = replace(RUNNING, **changes).as_dict() | {"written_monotonic": 0.0}
    text = screen(status, Verdict("listening", "", 12.4))
    return {line[:11].strip(): line[11:] for line in text.splitlines()}


def test_of_many_labels_four_are_named_and_the_others_counted() -> None:
    counts = {f"label {n}": n for n in range(1, 8)}
    found = lines(detections=counts, last_detection=None)["detections"]
    assert found == "28 (label 7 7, label 6 6, label 5 5, label 4 4, 3 others 6)"
    assert lines(detections={}, last_detection=None)["detections"] == "none"


def test_what_was_reduced_and_what_waits_is_said() -> None:
    found = lines(load="longer-hop", backlog_seconds=12.34, journal_pending=7)["backlog"]
    assert found == "12.3 s, load reduced: longer-hop; 7 detections wait to be written to disk"


def test_what_the_board_does_not_tell_is_called_unknown() -> None:
    found = lines(machine={"temperature_c": None, "throttled": None}, free_disk_mb=None)["board"]
    assert found == "temperature unknown, free disk space unknown"
    assert lines(machine={"temperature_c": 40.04, "throttled": 0})["board"].startswith(
        "40.0 C, never throttled, "
    )


@pytest.mark.parametrize(
    ("clock", "text"),
    [({"synchronised": None, "source": "unknown"}, "unknown whether it is synchronised"),
     ({"synchronised": False, "source": "calendar", "offset_bound_seconds": 0.5},
      "not synchronised (calendar)"),
     ({"synchronised": True, "source": "timesyncd", "offset_bound_seconds": None},
      "synchronised (timesyncd)")],
)  # fmt: skip
def test_a_clock_that_is_not_known_or_not_set_is_not_called_synchronised(
    clock: dict[str, Any], text: str
) -> None:
    assert lines(clock=clock)["clock"] == text


def test_alarms_the_schedule_and_an_earlier_boot_have_their_lines() -> None:
    status = replace(
        RUNNING, alarms={"dead": "Silent."}, next_change="05:00", reconnects=1
    ).as_dict()
    text = screen(status, Verdict("dead", "It has ended.", None)).splitlines()
    assert text[0] == "dead       It has ended."
    assert "alarm      dead: Silent." in text
    assert text[-1] == "schedule   changes at 05:00"
    assert any(line.endswith("written of an earlier boot, 1 reconnection") for line in text)
