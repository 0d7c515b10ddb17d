"""What a person sees of a listener, and what happens when nobody can see it any more."""

from __future__ import annotations

import errno
import os
import sys

import pytest

from edgeprune_device.monitoring import terminal as module
from edgeprune_device.monitoring.terminal import TerminalOutput


def refuse(_text: str) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("terminal", [False, True])
def test_a_terminal_that_has_gone_or_a_full_disk_behind_it_stops_nobody(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(module, "LIVE_SECONDS", 0.0)
    screen = TerminalOutput(refuse)
    screen.live = terminal
    monkeypatch.setattr(sys.stderr, "write", refuse)
    screen.show(lambda: "00:00:01  -40 dBFS")
    screen.line("00:00:01  owl  0.93")
    screen.end()


def test_where_a_service_manager_shows_how_things_are_only_what_happens_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.0)
    said: list[str] = []
    for watched in (False, True):
        screen = TerminalOutput(said.append, watched=watched)
        screen.live = False
        screen.show(lambda: "live")
        screen.line("owl")
    assert said == ["live", "owl", "owl"]
