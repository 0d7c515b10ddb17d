"""A listener whose bundle is swapped, and how its sessions end: all in the journal, nothing killed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from listener_fixture import Manager
from live_sessions import BLOCKS, ends, events
from tiny_bundle import make_bundle

from edgeprune_device.errors import EdgepruneError
from edgeprune_device.recorder.listen import listen
from edgeprune_device.settings import Decide, Settings


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
