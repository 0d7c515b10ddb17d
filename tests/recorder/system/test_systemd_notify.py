"""The watchdog's contract, heard by a socket that stands for systemd."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults_table import Tally
from hypothesis import given
from hypothesis import strategies as st

from edgeprune_device.errors import EdgepruneError
from edgeprune_device.system.systemd_notify import Notifier, WatchdogGate


class Manager:
    """What systemd does with the socket: it takes datagrams."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        """Return what has come since the last time, a datagram each."""
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return found


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Manager, str]]:
    if request.param == "path":
        named = address = str(tmp_path / "notify")
    else:
        name = f"edgeprune-test-{os.getpid()}"
        named, address = "@" + name, "\0" + name
    made = Manager(address)
    yield made, named
    made.socket.close()


def test_the_words_are_those_of_the_protocol(manager: tuple[Manager, str]) -> None:
    heard, place = manager
    told = Notifier({"NOTIFY_SOCKET": place})
    sent = [told.ready("listening"), told.watchdog(), told.status("two\nlines"),
            told.extend(1.5), told.stopping()]  # fmt: skip
    assert all(sent)
    assert heard.heard() == [
        "READY=1\nSTATUS=listening", "WATCHDOG=1", "STATUS=two lines",
        "EXTEND_TIMEOUT_USEC=1500000", "STOPPING=1",
    ]  # fmt: skip


def test_without_a_socket_nothing_is_sent_and_nothing_fails() -> None:
    told = Notifier({"WATCHDOG_USEC": "1000000"})
    assert told.watchdog_seconds is None
    assert not any([told.ready(), told.watchdog(), told.status("x"), told.extend(1)])


def test_a_manager_that_has_gone_or_listens_no_more_does_not_stop_the_recorder(
    tmp_path: Path,
) -> None:
    assert not Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).watchdog()
    busy = Manager(str(tmp_path / "busy"))
    told = Notifier({"NOTIFY_SOCKET": str(tmp_path / "busy")})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgeprune_device.system.systemd_notify.SEND_SECONDS", 0.01)
        sent = [told.watchdog() for _ in range(100)]
        assert not sent[-1]  # its queue is full: the loop waits a moment, and goes on
    assert sum(sent) == len(busy.heard())
    busy.socket.close()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_asked_of_the_process_it_names(
    environ: dict[str, str], seconds: float | None
) -> None:
    assert Notifier({"NOTIFY_SOCKET": "/run/x", **environ}).watchdog_seconds == seconds


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"WATCHDOG_USEC": "soon"}, "WATCHDOG_USEC = 'soon' is not"),
        ({"WATCHDOG_USEC": "0"}, "WATCHDOG_USEC = '0' is not"),
        ({"WATCHDOG_USEC": "5", "WATCHDOG_PID": "-1"}, "WATCHDOG_PID = '-1' is not"),
        ({"NOTIFY_SOCKET": "vsock:2:1234"}, "NOTIFY_SOCKET = 'vsock:2:1234' is not"),
    ],
)
def test_what_is_out_of_range_is_named(environ: dict[str, str], said: str) -> None:
    with pytest.raises(EdgepruneError, match=said):
        Notifier({"NOTIFY_SOCKET": "/run/x", **environ})


@pytest.mark.fault("F21")
@pytest.mark.parametrize("halted", [0, 1, 2], ids=["captured", "analysed", "committed"])
def test_the_beats_end_when_one_of_the_three_stages_halts(
    manager: tuple[Manager, str], halted: int, tally: Tally
) -> None:
    """Three halts, through two kinds of socket: no beat after any; nothing is lost."""
    heard, place = manager
    told = Notifier({"NOTIFY_SOCKET": place, "WATCHDOG_USEC": "30000000"})
    pulse, beats = WatchdogGate(told.watchdog_seconds), []
    for second in range(100):  # the stage halts at 50
        stamps = [float(second)] * 3
        stamps[halted] = min(stamps[halted], 50.0)
        if pulse.alive(second + 0.5, *stamps):
            told.watchdog()
        beats += heard.heard()
    assert beats == ["WATCHDOG=1"] * 51
    tally(1, 0, "no beat after a stage halts")


@pytest.mark.fault("F21")
def test_before_the_first_window_and_commit_there_is_no_beat(tally: Tally) -> None:
    """One start: the beats begin with the first commit and not before."""
    pulse = WatchdogGate(30)
    assert not pulse.alive(1, None, None, None)
    assert not pulse.alive(2, 1.5, None, None)
    assert not pulse.alive(3, 2.5, 2.5, None)
    assert pulse.alive(4, 3.5, 3.5, 3.9)
    tally(1, 0)


@pytest.mark.fault("F21")
def test_a_pause_of_the_schedule_counts_as_going_on_and_its_end_does_not(tally: Tally) -> None:
    """One night: beats go on in it; a microphone that is dead after it gets none."""
    pulse = WatchdogGate(30)
    assert pulse.alive(1, 1, 1, 1)
    assert pulse.alive(3600, 1, 1, 1, paused=True)
    assert not pulse.alive(3601, 1, 1, 3601)
    assert pulse.alive(3602, 3602, 3602, 3602)
    tally(1, 0)


def test_nobody_asks_so_there_is_no_beat() -> None:
    assert not WatchdogGate(None).alive(1, 1, 1, 1)


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_between_two_beats_every_stage_has_gone_on(steps: list[tuple[bool, bool, bool]]) -> None:
    pulse = WatchdogGate(30)
    stamps, at_beat = [0.0, 0.0, 0.0], None
    for second, going in enumerate(steps, start=1):
        stamps = [float(second) if on else at for on, at in zip(going, stamps, strict=True)]
        if pulse.alive(second, *stamps):
            assert at_beat is None or all(a > b for a, b in zip(stamps, at_beat, strict=True))
            at_beat = list(stamps)
        else:
            assert at_beat is not None
            assert any(a == b for a, b in zip(stamps, at_beat, strict=True))


def test_systemds_own_tool_understands_the_same_socket(tmp_path: Path) -> None:
    """The oracle: systemd-notify sends to our socket what our notifier sends."""
    tool = "/usr/bin/systemd-notify"
    if not os.path.exists(tool):
        pytest.skip("systemd-notify is not installed: apt-get install systemd")
    manager = Manager(str(tmp_path / "notify"))
    place = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    subprocess.run(
        [tool, "--no-block", "--ready", "--status=listening"], env={**os.environ, **place},
        check=True, timeout=10,
    )  # fmt: skip
    theirs = manager.heard()
    Notifier(place).ready("listening")
    assert set(manager.heard()[0].split("\n")) <= set(theirs[0].split("\n"))
    manager.socket.close()


def test_a_child_that_inherits_the_environment_is_not_the_one_that_is_watched(
    tmp_path: Path,
) -> None:
    code = "from edgeprune_device.system.systemd_notify import Notifier; print(Notifier().watchdog_seconds)"
    environ = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "x"), "WATCHDOG_USEC": "1000000",
               "WATCHDOG_PID": str(os.getpid()), "PYTHONPATH": os.pathsep.join(sys.path)}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "None"
