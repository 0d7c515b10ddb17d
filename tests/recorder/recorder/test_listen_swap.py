"""A listener whose bundle is swapped, and how its sessions end: all in the journal, nothing killed."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from listener_fixture import Manager
from tiny_bundle import make_bundle
from tiny_recordings import RATE

from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.choose_variant import Picked
from edgeprune_device.recorder import housekeeping
from edgeprune_device.recorder import listen as module
from edgeprune_device.recorder.listen import listen
from edgeprune_device.settings import Decide, Operate, Settings, Webhook
from edgeprune_device.sinks.delivery import Sinks
from edgeprune_device.stream import Block, Notice

BLOCKS = 30


def events(journal: Path) -> list[tuple[int, str]]:
    with closing(sqlite3.connect(journal / "journal.sqlite")) as database:
        return database.execute("SELECT session, kind FROM events ORDER BY seq").fetchall()


def ends(journal: Path) -> list[tuple[int, int]]:
    with closing(sqlite3.connect(journal / "journal.sqlite")) as database:
        return database.execute("SELECT id, clean FROM sessions ORDER BY id").fetchall()


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """Noise in place of the microphone; what the list holds is done in the middle of it, once."""
    todo: list[Callable[[], None]] = []

    def source(*_: Any, **__: Any) -> Iterator[Block]:
        noise = np.random.default_rng(0).normal(size=(BLOCKS, RATE // 10)).astype(np.float32) / 100
        for number, block in enumerate(noise):
            if number == BLOCKS // 2 and todo:
                todo.pop()()
            yield Block(block)

    monkeypatch.setattr(module, "open_source", source)
    monkeypatch.setattr(housekeeping, "STATE_SECONDS", 0.0)
    return todo


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return a link to the first of two bundles, the second of which has other labels."""
    make_bundle(tmp_path / "one")
    make_bundle(tmp_path / "two", labels=("low", "high"))
    (tmp_path / "current").symlink_to("one")
    return tmp_path / "current"


def swap(store: Path) -> None:
    new = store.with_name("new")
    new.symlink_to("two")
    new.replace(store)


def test_a_swap_is_no_end_to_the_service_manager(
    sound: list[Callable[[], None]], store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd kills a service that has said STOPPING=1 and goes on."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    manager = Manager(tmp_path / "notify")
    sound.append(lambda: swap(store))
    listen(store, tmp_path / "j", source="microphone", say=lambda _: None)
    lines = [line for _, line in manager.listen().heard]
    manager.close()
    assert ends(tmp_path / "j") == [(1, 1), (2, 1)]
    assert lines.count("READY=1") == 2
    assert lines.count("STOPPING=1") == 1
    assert lines.index("STOPPING=1") > len(lines) - 1 - lines[::-1].index("READY=1")


def test_a_bundle_that_the_settings_do_not_fit_is_refused_and_the_old_one_listens_on(
    sound: list[Callable[[], None]], store: Path, tmp_path: Path
) -> None:
    sound.append(lambda: swap(store))
    settings = Settings(decide=Decide(thresholds={"middle": 0.9}))
    stats = listen(store, tmp_path / "j", settings, source="microphone", say=lambda _: None)
    assert ends(tmp_path / "j") == [(1, 1)]
    assert (1, "bundle-refused") in events(tmp_path / "j")
    assert stats["captured_seconds"] == BLOCKS / 10


def test_what_the_sinks_say_last_is_in_the_journal(
    sound: list[Callable[[], None]], store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def last(_self: Sinks, _seconds: float) -> list[Notice]:
        return [Notice("sink-failing", "webhook: gone. Detections wait.")]

    monkeypatch.setattr(Sinks, "close", last)
    listen(store, tmp_path / "j", source="microphone", say=lambda _: None)
    assert (1, "sink-failing") in events(tmp_path / "j")
    assert ends(tmp_path / "j") == [(1, 1)]


def test_a_start_in_a_scheduled_pause_is_a_start(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else ``systemctl start`` would wait for the dawn."""

    def paused(*_: Any, **__: Any) -> Iterator[Notice | Block]:
        yield Notice("paused", "The schedule pauses listening.")
        yield Block(np.empty(0, np.float32), RATE, "schedule")

    monkeypatch.setattr(module, "open_source", paused)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    manager = Manager(tmp_path / "notify")
    listen(tiny_bundle, tmp_path / "j", source="microphone", say=lambda _: None)
    lines = [line for _, line in manager.listen().heard]
    manager.close()
    assert lines.count("READY=1") == 1


def test_a_listener_that_is_told_to_end_while_it_swaps_begins_no_other_session(
    sound: list[Callable[[], None]], store: Path, tmp_path: Path
) -> None:
    def both() -> None:
        swap(store)
        signal.raise_signal(signal.SIGTERM)

    sound.append(both)
    stats = listen(store, tmp_path / "j", source="microphone", say=lambda _: None)
    assert stats["reason"] == "interrupted"
    assert ends(tmp_path / "j") == [(1, 1)]


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
    assert "taken by another program" in stats["alarms"]["metrics-off"]


def test_a_second_recorder_on_a_journal_is_refused_and_leaves_no_trace(
    sound: list[Callable[[], None]], tiny_bundle: Path, tmp_path: Path
) -> None:
    said: list[str] = []

    def second() -> None:
        with pytest.raises(EdgepruneError, match="Another recorder writes to") as error:
            listen(tiny_bundle, tmp_path / "j", source="stdin", say=lambda _: None)
        said.append(error.value.hint)

    listen(tiny_bundle, tmp_path / "j", source="microphone", say=lambda _: None)
    sound.append(second)
    listen(tiny_bundle, tmp_path / "j", source="microphone", say=lambda _: None)
    assert said
    assert ends(tmp_path / "j") == [(1, 1), (2, 1)]


def test_what_a_failing_disk_keeps_a_live_recorder_from_reading_or_writing_stops_it_not(
    sound: list[Callable[[], None]], tiny_bundle: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def unreadable(*_: object) -> list[Any]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def unwritable(*_: object) -> None:
        raise EdgepruneError("variant.json cannot be written: No space left on device.")

    monkeypatch.setattr(housekeeping, "unrecorded", unreadable)
    monkeypatch.setattr(Picked, "remember", unwritable)
    said: list[str] = []
    stats = listen(tiny_bundle, tmp_path / "j", source="microphone", say=said.append)
    assert stats["captured_seconds"] == BLOCKS / 10
    assert (1, "clips-unread") in events(tmp_path / "j")
    assert "variant.json cannot be written: No space left on device." in said
