"""The recorder as its user runs it, a process: told to end, killed, hanging, locked out, watched."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from faults_table import Tally
from listener_fixture import END_SECONDS, Listen, Listener, Manager, locked
from pulse_fixture import Pulse

SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


def taken_in(listen_to: Listen, listener: Listener, song_file: Path) -> None:
    """Start once more on the journal, so that what waited beside it is taken in."""
    stats = listener.stats
    again = listen_to("--from-wav", str(song_file), "--seconds", "1", name="again",
                      journal=listener.journal)  # fmt: skip
    again.wait()
    (listener.journal / "stats.json").write_text(json.dumps(stats))


@pytest.mark.fault("F20")
@SIGNALS
@pytest.mark.parametrize("seconds", [0.5, 2.0])
def test_it_ends_in_time_while_the_model_is_at_work_on_one_of_many_windows(
    number: signal.Signals, seconds: float, pulse: Pulse, song_file: Path, listen_to: Listen,
    tally: Tally,
) -> None:  # fmt: skip
    """Once each: a model of 0.5 or 2 s a window with windows every 0.05 s; lost: nothing."""
    listener = listen_to(environment=pulse.environment, stub=True)
    pulse.play(song_file)
    listener.until(listener.more(1))
    (listener.folder / "model-seconds").write_text(str(seconds))
    time.sleep(1.5)
    taken = listener.end(number)
    assert taken < END_SECONDS
    stats = listener.balanced()
    assert stats["analysed_seconds"] > 0
    tally(1, 0, f"{number.name} during a window of {seconds:g} s: ended after {taken:.1f} s")


@pytest.mark.fault("F20")
@SIGNALS
@pytest.mark.parametrize("released", [True, False])
def test_it_ends_in_time_while_another_program_holds_the_journal(
    number: signal.Signals, released: bool, pulse: Pulse, song_file: Path, listen_to: Listen,
    tally: Tally,
) -> None:  # fmt: skip
    """Once each: the lock goes on until after its end, or is released 1 s after the signal."""
    listener = listen_to(environment=pulse.environment)
    pulse.play(song_file)
    listener.until(listener.more(1))
    before = listener.count()
    with ExitStack() as held:
        held.enter_context(locked(listener.journal))
        time.sleep(2.5)  # two detections or three wait
        listener.process.send_signal(number)
        began = time.monotonic()
        if released:
            time.sleep(1)
            held.close()
        assert listener.process.wait(30) == 0
        taken = time.monotonic() - began
    assert taken < END_SECONDS, listener.said
    assert "Traceback" not in listener.said
    if not released:
        assert listener.count() == before
        taken_in(listen_to, listener, song_file)
    stats = listener.stats
    live = listener.rows("SELECT count(*) FROM detections WHERE session = 1")[0][0]
    assert live == sum(stats["detections"].values()) >= before + 2
    assert listener.rows("SELECT clean FROM sessions WHERE id = 1") == [(1,)]
    total = listener.rows("SELECT sum(samples) FROM coverage WHERE session = 1")[0][0]
    assert total == stats["position_samples"]
    tally(1, 0, f"{number.name} while the journal was locked: ended after {taken:.1f} s")


@pytest.mark.fault("F20")
@SIGNALS
@pytest.mark.parametrize("how", ["unloaded", "frozen"])
def test_it_ends_in_time_while_the_microphone_is_lost(
    number: signal.Signals, how: str, pulse: Pulse, song_file: Path, listen_to: Listen,
    tally: Tally,
) -> None:  # fmt: skip
    """Once each: the source is gone, or the sound server is frozen; lost: nothing."""
    listener = listen_to(environment=pulse.environment, settings="[audio]\nstall_seconds = 1.0\n")
    pulse.play(song_file)
    listener.until(listener.more(1))
    if how == "unloaded":
        pulse.unload()
        listener.until(listener.noted("microphone-lost"))
    else:
        pulse.freeze()
        listener.until(listener.noted("microphone-stalled"))
        time.sleep(1.5)  # the next capture process hangs in its start
    time.sleep(1)
    taken = listener.end(number)
    pulse.thaw()
    assert taken < END_SECONDS
    stats = listener.balanced()
    assert set(stats["coverage"]["not captured"]) == {
        "microphone lost" if how == "unloaded" else "stalled"
    }
    assert not pulse.capture_processes()
    tally(1, 0, f"{number.name} with the microphone {how}: ended after {taken:.1f} s")


@pytest.mark.fault("F20")
@SIGNALS
def test_it_ends_in_time_while_it_waits_for_a_microphone(
    number: signal.Signals, pulse: Pulse, listen_to: Listen, tally: Tally
) -> None:
    """Once each: there has been no microphone since its start."""
    pulse.unload()
    listener = listen_to("--wait", environment=pulse.environment)
    listener.until(listener.noted("microphone-absent"))
    time.sleep(3)
    taken = listener.end(number)
    assert taken < END_SECONDS
    stats = listener.balanced()
    assert stats["captured_seconds"] == 0
    assert set(stats["coverage"]["not captured"]) == {"absent"}
    assert not pulse.capture_processes()
    tally(1, 0, f"{number.name} while it waited for a microphone: ended after {taken:.1f} s")


@pytest.mark.fault("F20")
@SIGNALS
def test_it_ends_in_time_in_a_scheduled_pause(
    number: signal.Signals, pulse: Pulse, listen_to: Listen, tally: Tally
) -> None:
    """Once each: quiet hours at its start."""
    now = datetime.now(UTC)
    begin, end = (f"{now + timedelta(hours=h):%H:%M}" for h in (-2, 2))
    listener = listen_to(environment={**pulse.environment, "TZ": "UTC"},
                         settings=f'[schedule]\nquiet = ["{begin}-{end}"]\n')  # fmt: skip
    listener.until(listener.noted("paused"))
    time.sleep(1.5)
    assert not pulse.capture_processes()
    taken = listener.end(number)
    assert taken < END_SECONDS
    stats = listener.balanced()
    assert list(stats["coverage"]["not captured"]) == ["schedule"]
    assert stats["coverage"]["not captured"]["schedule"] == stats["position_samples"] > 16000
    tally(1, 0, f"{number.name} in a pause: ended after {taken:.1f} s")


@pytest.mark.fault("F20")
@SIGNALS
def test_it_ends_in_time_while_a_broker_and_a_webhook_do_not_answer(
    number: signal.Signals, pulse: Pulse, song_file: Path, listen_to: Listen, tally: Tally
) -> None:
    """Once each: nobody is at the broker's address, and the webhook takes and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        listener = listen_to(environment=pulse.environment, settings=(
            f'[mqtt]\nhost = "127.0.0.1"\nport = 1\n[webhook]\nurl = "http://127.0.0.1:{port}/"\n'
            '[command]\nrun = ["sleep", "1000"]\n'
        ))  # fmt: skip
        pulse.play(song_file)
        listener.until(listener.more(3))
        taken = listener.end(number)
    assert taken < END_SECONDS
    listener.balanced()
    tally(1, 0, f"{number.name} with three sinks that hang: ended after {taken:.1f} s")


@pytest.mark.fault("F21")
def test_a_pause_at_the_start_is_ready_and_alive(
    pulse: Pulse, listen_to: Listen, manager: Manager, tally: Tally
) -> None:
    """Once: quiet hours; nobody waits until dawn for the start to be over."""
    now = datetime.now(UTC)
    begin, end = (f"{now + timedelta(hours=h):%H:%M}" for h in (-2, 2))
    listener = watched(listen_to, manager, pulse,
                       settings=f'[schedule]\nquiet = ["{begin}-{end}"]\n')  # fmt: skip
    listener.until(lambda: manager.times("READY=1"))
    beating(listener, manager)
    listener.end()
    listener.balanced()
    tally(1, 0, "ready and alive in a pause")


@pytest.mark.fault("F20")
def test_a_start_after_sigkill_records_the_unclean_exit(
    pulse: Pulse, song_file: Path, listen_to: Listen, tally: Tally
) -> None:
    """Once: SIGKILL while it listens; lost: nothing that was in the journal."""
    listener = listen_to(environment=pulse.environment)
    pulse.play(song_file)
    listener.until(listener.more(2))
    heard = {row[0] for row in listener.rows("SELECT id FROM detections")}
    listener.process.kill()
    listener.process.wait()
    deadline = time.monotonic() + 2
    while pulse.capture_processes():
        assert time.monotonic() < deadline, "the capture process outlives the recorder"
        time.sleep(0.02)
    again = listen_to(environment=pulse.environment, name="again", journal=listener.journal)
    again.until(again.more(1))
    again.end()
    again.balanced()
    assert again.rows("SELECT clean FROM sessions ORDER BY id") == [(0,), (1,)]
    assert "unclean-exit" in again.events()
    assert heard <= {row[0] for row in again.rows("SELECT id FROM detections")}
    tally(1, 0, "SIGKILL: the next start records the unclean exit")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """A service manager's socket."""
    found = Manager(tmp_path / "notify")
    yield found
    found.close()


WATCHDOG = 2.0
BEAT = WATCHDOG / 4


def watched(
    listen_to: Listen, manager: Manager, pulse: Pulse, *arguments: str, **how: object
) -> Listener:
    listener: Listener = listen_to(
        *arguments,
        environment={
            **pulse.environment,
            "NOTIFY_SOCKET": str(manager.place),
            "WATCHDOG_USEC": str(round(WATCHDOG * 1e6)),
        },
        **how,
    )
    return listener


def beats(manager: Manager, seconds: float) -> int:
    """Return how many beats came in so many seconds from now."""
    before = len(manager.times("WATCHDOG=1"))
    time.sleep(seconds)
    return len(manager.times("WATCHDOG=1")) - before


def beating(listener: Listener, manager: Manager) -> float:
    """Wait for two more beats; return how long that took."""
    before = len(manager.times("WATCHDOG=1"))
    return listener.until(lambda: len(manager.times("WATCHDOG=1")) >= before + 2)


@pytest.mark.fault("F21")
@pytest.mark.parametrize("how", ["microphone frozen", "model hangs", "journal locked"])
def test_the_watchdog_is_fed_only_while_all_goes_on(
    how: str, pulse: Pulse, song_file: Path, listen_to: Listen, manager: Manager, tally: Tally
) -> None:
    """Once each: READY after a window, beats until one of the three halts, beats after; STOPPING."""
    (run := manager.place.parent / "run").mkdir()
    screw = run / "model-seconds"
    listener = watched(listen_to, manager, pulse, stub=True,
                       settings="[audio]\nstall_seconds = 1.0\n")  # fmt: skip
    pulse.play(song_file)
    listener.until(lambda: manager.times("READY=1"))
    assert listener.rows("SELECT count(*) FROM sessions") == [(1,)]
    beating(listener, manager)
    with ExitStack() as halted:
        if how == "microphone frozen":
            pulse.freeze()
            halted.callback(pulse.thaw)
        elif how == "model hangs":
            screw.write_text("1000")
            halted.callback(screw.write_text, "")
        else:
            halted.enter_context(locked(listener.journal))
        beats(manager, 1.5 * BEAT)  # what was on its way
        during = beats(manager, 2.5)
        assert during == 0
    back = beating(listener, manager)
    listener.end()
    assert len(manager.times("READY=1")) == 1
    assert len(manager.times("STOPPING=1")) == 1
    assert manager.times("STOPPING=1")[0] > manager.times("WATCHDOG=1")[-1]
    listener.balanced()
    tally(1, 0, f"{how}: no beat in 2.5 s, beats again {back:.1f} s after")


@pytest.mark.fault("F21")
def test_it_is_not_ready_before_a_window_was_analysed(
    pulse: Pulse, song_file: Path, listen_to: Listen, manager: Manager, tally: Tally
) -> None:
    """Once: no microphone, then a model that hangs on its first window, then one that answers."""
    (run := manager.place.parent / "run").mkdir()
    (run / "model-seconds").write_text("1000")
    pulse.unload()
    listener = watched(listen_to, manager, pulse, "--wait", stub=True)
    listener.until(lambda: manager.times("EXTEND_TIMEOUT_USEC=60000000"))
    assert manager.times("STATUS=waiting for the microphone")
    pulse.load()
    pulse.play(song_file)
    listener.until(listener.noted("microphone-back"))
    time.sleep(1.5)
    assert not manager.times("READY=1")
    assert not manager.times("WATCHDOG=1")
    (run / "model-seconds").write_text("")
    listener.until(lambda: manager.times("READY=1"))
    beating(listener, manager)
    listener.end()
    stats = listener.balanced()
    assert stats["analysed_seconds"] > 0
    tally(1, 0, "READY only after the first window; EXTEND_TIMEOUT while there is no microphone")


@pytest.mark.fault("F12")
def test_a_model_that_hangs_ends_the_program_and_the_journal_opens(
    pulse: Pulse, song_file: Path, listen_to: Listen, manager: Manager, tally: Tally
) -> None:
    """Once, with hang_seconds at 5: no beat, status 1 and one sentence; lost: no row committed."""
    (run := manager.place.parent / "run").mkdir()
    listener = watched(listen_to, manager, pulse, stub=True,
                       settings="[operate]\nhang_seconds = 5.0\n")  # fmt: skip
    pulse.play(song_file)
    listener.until(listener.more(2))
    listener.until(lambda: manager.times("WATCHDOG=1"))
    (run / "model-seconds").write_text("1000")
    began = time.monotonic()
    heard = {row[0] for row in listener.rows("SELECT id FROM detections")}
    listener.wait(status=1)
    taken = time.monotonic() - began
    assert 5 < taken < 5 + 2.5
    assert listener.said.splitlines()[-2:] == [
        "error: The model has taken more than 5 s for one window.",
        "hint: Is the board out of memory? edgeprune doctor times the bundle.",
    ]
    assert max(manager.times("WATCHDOG=1")) < began + 2 * BEAT
    assert not pulse.capture_processes()
    (run / "model-seconds").write_text("")
    again = listen_to("--from-wav", str(song_file), "--seconds", "1", name="again",
                      journal=listener.journal)  # fmt: skip
    again.wait()
    assert again.rows("SELECT clean FROM sessions ORDER BY id") == [(0,), (1,)]
    assert heard <= {row[0] for row in again.rows("SELECT id FROM detections")}
    tally(1, 0, f"ended after {taken:.1f} s with hang_seconds 5")
