"""Housekeeping: what a live recorder does besides listening, and that nothing of it stops it."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from journal_rows import NOON, ask
from listener_fixture import Manager
from live_sessions import BLOCKS, ends, events
from tiny_recordings import RATE

from edgeprune_device.clips.clip_files import to_flac, write_clip
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.choose_variant import ChosenVariant
from edgeprune_device.journal.journal import Journal
from edgeprune_device.monitoring.status import read_status
from edgeprune_device.recorder import housekeeping
from edgeprune_device.recorder import listen as module
from edgeprune_device.recorder.housekeeping import PeriodicTimer, check_sinks
from edgeprune_device.recorder.listen import listen
from edgeprune_device.settings import Operate, Retention, Settings, Webhook
from edgeprune_device.sinks.delivery import Sinks
from edgeprune_device.stream import Block, Notice
from edgeprune_device.system.clock import ClockState


def test_what_the_sinks_say_last_is_in_the_journal(
    sound: list[Callable[[], None]],
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def last(_self: Sinks, _seconds: float) -> list[Notice]:
        return [Notice("sink-failing", "webhook: gone. Detections wait until it works again.")]

    monkeypatch.setattr(Sinks, "close", last)
    listen(tiny_bundle, tmp_path / "j", source="microphone", say=lambda _: None)
    assert (1, "sink-failing") in events(tmp_path / "j")
    assert ends(tmp_path / "j") == [(1, 1)]


def test_a_start_in_a_scheduled_pause_is_a_start(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else ``systemctl start`` would wait for the dawn."""

    def paused(*_: Any, **__: Any) -> Iterator[Notice | Block]:
        yield Notice("paused", "The schedule pauses recording.")
        yield Block(np.empty(0, np.float32), RATE, "schedule")

    monkeypatch.setattr(module, "open_source", paused)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    manager = Manager(tmp_path / "notify")
    listen(tiny_bundle, tmp_path / "j", source="microphone", say=lambda _: None)
    lines = [line for _, line in manager.listen().heard]
    manager.close()
    assert lines.count("READY=1") == 1


def test_a_start_that_cannot_send_what_it_should_leaves_no_journal(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    """systemd tries again every five seconds, for months."""
    settings = Settings(webhook=Webhook("http://127.0.0.1:1/", token_env="EDGEPRUNE_NO_SUCH"))
    with pytest.raises(EdgepruneError, match="not set"):
        listen(tiny_bundle, tmp_path / "j", settings, source="microphone", say=lambda _: None)
    assert not (tmp_path / "j").exists()


def test_a_port_that_is_taken_is_an_alarm_and_nobody_goes_unheard(
    sound: list[Callable[[], None]], tiny_bundle: Path, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(operate=Operate(metrics_port=taken.getsockname()[1]))
        stats = listen(tiny_bundle, tmp_path / "j", settings, source="microphone",
                       say=lambda _: None)  # fmt: skip
    assert stats["captured_seconds"] == BLOCKS / 10
    assert "used by another program" in stats["alarms"]["metrics-off"]


def test_what_a_failing_disk_keeps_a_live_recorder_from_reading_or_writing_stops_it_not(
    sound: list[Callable[[], None]], tiny_bundle: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def unreadable(*_: object) -> list[Any]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def unwritable(*_: object) -> None:
        raise EdgepruneError("variant.json cannot be written: No space left on device.")

    monkeypatch.setattr(housekeeping, "unrecorded", unreadable)
    monkeypatch.setattr(ChosenVariant, "remember", unwritable)
    said: list[str] = []
    stats = listen(tiny_bundle, tmp_path / "j", source="microphone", say=said.append)
    assert stats["captured_seconds"] == BLOCKS / 10
    assert (1, "clips-unread") in events(tmp_path / "j")
    assert "variant.json cannot be written: No space left on device." in said


def test_what_is_due_every_so_often_is_due_at_once_and_then_not_before_its_time() -> None:
    every = PeriodicTimer(5.0)
    assert [every.due(now) for now in (100.0, 100.0, 104.9, 105.0, 109.0, 130.0, 134.9)] == [
        True, False, False, True, False, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [(Settings(webhook=Webhook("ftp://x")), "is not an http:// or https:// address"),
     (Settings(webhook=Webhook("http://x", token_env="EDGEPRUNE_NO_SUCH")), "is not set")],
)  # fmt: skip
def test_an_outlet_that_cannot_work_is_found_before_anything_is_begun(
    settings: Settings, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(EdgepruneError, match=sentence):
        check_sinks(settings, tmp_path / "j")
    assert not (tmp_path / "j").exists()
    check_sinks(Settings(), tmp_path / "j")


PATHS = [f"clips/2026-05-01/owl/12000{number}_a{number}.flac" for number in range(3)]


def test_clips_without_a_row_get_one_and_rows_without_a_clip_go(
    sound: list[Callable[[], None]], tiny_bundle: Path, tmp_path: Path
) -> None:
    """A crash came between a clip and its row; a person deleted another clip's file."""
    journal = tmp_path / "j"
    with Journal(journal, "b", "d", "s", live=True, clock=lambda: NOON) as book:
        for number in (0, 1):
            book.clip(f"a{number}", PATHS[number], 0, 100, 900)
        book.close({})
    tags = {"label": "owl", "score": 0.9, "utc": None, "first_sample": 7, "samples": 100, "cut": []}
    for number in (1, 2):
        data = to_flac(np.zeros(100, np.int16), RATE, {"id": f"a{number}", **tags})
        write_clip(journal, PATHS[number], data)
    (journal / "clips" / ".store").write_text("the same disk")
    listen(tiny_bundle, journal, source="microphone", say=lambda _: None)
    rows = ask(journal, "SELECT path, detection, first_sample, bytes FROM clips ORDER BY path")
    assert [row["path"] for row in rows] == PATHS[1:]
    assert rows[1] == {"path": PATHS[2], "detection": "a2", "first_sample": 7,
                       "bytes": (journal / PATHS[2]).stat().st_size}  # fmt: skip
    (told,) = ask(journal, "SELECT details FROM events WHERE kind = 'clips-mended'")
    assert json.loads(told["details"]) == {"found": 1, "gone": 1}


@pytest.mark.parametrize("synchronised", [True, None, False])
def test_old_clips_go_with_their_rows_unless_the_clock_is_known_to_be_wrong(
    synchronised: bool | None, sound: list[Callable[[], None]], tiny_bundle: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A clip of a long-gone day, with a limit of a week."""
    for place in (housekeeping, module):
        monkeypatch.setattr(place, "clock_state", lambda: ClockState(synchronised, "kernel"))
    settings = Settings(retention=Retention(days=7, free_megabytes=0, ballast_megabytes=0))
    journal, path = tmp_path / "j", "clips/2025-02-01/owl/120000_a0.flac"
    with Journal(journal, "b", "d", "s", live=True, clock=lambda: NOON) as book:
        book.clip("a0", path, 0, 100, 900)
        book.close({})
    write_clip(journal, path, b"fLaC")
    listen(tiny_bundle, journal, settings, source="microphone", say=lambda _: None)
    stays = synchronised is False
    assert (journal / path).exists() is stays
    assert len(ask(journal, "SELECT * FROM clips")) == stays


def test_at_each_heartbeat_the_coverage_is_in_the_journal_and_the_status_on_the_disk(
    sound: list[Callable[[], None]], tiny_bundle: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    seen = list[tuple[Any, Any]]()

    def look() -> None:
        covered = ask(tmp_path / "j", "SELECT sum(samples) AS samples FROM coverage")
        seen.append((read_status(tmp_path / "j"), covered[0]["samples"]))

    monkeypatch.setattr(housekeeping, "PeriodicTimer", Always)
    sound.append(look)  # in the middle of the sound
    stats = listen(tiny_bundle, tmp_path / "j", source="microphone", say=lambda _: None)
    ((status, covered),) = seen
    assert (status["state"], status["bundle"]) == ("listening", "tiny")
    assert 0 < covered <= stats["position_samples"] / 2
    assert status["free_disk_mb"] > 0
    assert status["machine"]["missing"] is not None
    end = read_status(tmp_path / "j")
    assert (end["state"], end["text"]) == ("stopped", "end of file")
    whole = ask(tmp_path / "j", "SELECT sum(samples) AS samples FROM coverage")[0]["samples"]
    assert whole == stats["position_samples"] == BLOCKS * RATE // 10


class Always(PeriodicTimer):
    """Due each time it is asked."""

    def due(self, now: float) -> bool:
        return True
