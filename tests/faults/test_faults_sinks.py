"""What field.md calls F19: a webhook and a broker that are down, slow or broken. Nothing is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from faults_table import Tally
from journal_faults import immutable, tick_until
from receivers import Listener, Web, free_port, hear, mosquitto, recorder, unique, wait_for
from repository import ROOT

from edgeprune_device.settings_reader import build_settings
from edgeprune_device.sinks import mqtt
from edgeprune_device.sinks.delivery import Sinks

QUICK = (0.05, 0.4)


@pytest.mark.fault("F19")
def test_a_webhook_that_is_down_slow_or_broken_gets_everything_in_order(
    tmp_path: Path, tally: Tally
) -> None:
    """10 rounds of 20 detections; the server is down in half of them, and while it is up a third of
    the answers are 500, 503, 429 or come after half a second (the timeout is 0.2 s).

    Lost: none of 200; order kept; no ``add`` waits for the sink.
    """  # fmt: skip
    chance, port = random.Random(0), free_port()
    heard: list[str] = []

    def answer(_number: int, _name: str) -> int | float:
        return chance.choice([200, 200, 204, 201, 200, 200, 500, 503, 429, 0.5])

    url = f"http://127.0.0.1:{port}/"
    chosen = build_settings({"webhook": {"url": url, "timeout_seconds": 0.2}}, "the test")
    names, took, longest = [], [], 0.0
    with recorder(tmp_path / "j") as book:
        sinks = Sinks(chosen, tmp_path / "j", heard.append, delays=QUICK)
        sinks.start()
        for turn in range(10):
            web = Web(answer, port) if turn % 2 else None
            if web is not None:
                web.__enter__()
            for index in range(20):
                began = time.monotonic()
                names += hear(book, 100 * turn + index, 1)
                sinks.notify()
                longest = max(longest, time.monotonic() - began)
                time.sleep(0.01)
            if web is not None:
                web.__exit__()
                took += web.heard
        with Web(lambda *_: 200, port) as web:
            wait_for(lambda: sinks.status()["webhook"]["waiting"] == 0 and bool(web.took))
            took += web.heard
        account = sinks.status()["webhook"]
        sinks.close(1.0)
    assert unique(took) == names
    assert account["sent"] == 200
    assert account["failures"] > 5
    assert account["skipped"] == account["refused"] == 0
    assert longest < 0.5
    tally(10, 0, f"webhook: 200 messages in order, {account['failures']} failed tries")


@pytest.mark.slow
@pytest.mark.fault("F19")
def test_a_broker_that_goes_away_gets_everything_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    """A real mosquitto is stopped and started 5 times, and frozen (SIGSTOP) for 1.5 s 5 times.

    A detection comes every 20 ms. Lost: none; each at least once, in order.
    """
    monkeypatch.setattr(mqtt, "WAIT_SECONDS", 1.0)  # so that a frozen broker is given up
    port = free_port()
    lines = ("allow_anonymous true", "persistence true", f"persistence_location {tmp_path}/",
             "max_queued_messages 0")  # fmt: skip
    chosen = build_settings({"mqtt": {"host": "127.0.0.1", "port": port}}, "the test")
    names: list[str] = []
    listener: Listener | None = None
    with recorder(tmp_path / "j") as book:
        sinks = Sinks(chosen, tmp_path / "j", lambda _: None, delays=QUICK)

        def hear_for(seconds: float) -> None:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                names.extend(hear(book, len(names), 1))
                sinks.notify()
                time.sleep(0.02)

        sinks.start()
        for _ in range(5):
            hear_for(0.3)
            with mosquitto(tmp_path, port, *lines) as broker:
                listener = listener or Listener(port, "edgeprune/#")
                hear_for(0.5)
                broker.send_signal(signal.SIGSTOP)
                hear_for(1.5)
                broker.send_signal(signal.SIGCONT)
                hear_for(0.3)
        with mosquitto(tmp_path, port, *lines):
            wait_for(lambda: sinks.status()["mqtt"]["waiting"] == 0)
            assert listener is not None
            wait_for(lambda: len(set(listener.names)) == len(names))
            account = sinks.status()["mqtt"]
            sinks.close(1.0)
            listener.close()
    assert unique(listener.names) == names
    assert account["failures"] >= 5
    assert account["skipped"] == account["refused"] == 0
    assert len(names) > 150
    twice = len(listener.names) - len(names)
    tally(10, 0, f"mosquitto: {len(names)} messages in order, {twice} of them twice")


@pytest.mark.slow
@pytest.mark.fault("F19")
def test_a_recorder_that_is_killed_while_it_sends_leaves_no_message_out(
    tmp_path: Path, tally: Tally
) -> None:
    """15 kills (SIGKILL) at moments drawn by chance, of a recorder with a webhook.

    Lost: no message of an acknowledged detection; order kept.
    """
    program = (
        "import sys, time; sys.path.insert(0, sys.argv[3])\n"
        "from pathlib import Path\nfrom receivers import hear, recorder\n"
        "from edgeprune_device.settings_reader import build_settings\n"
        "from edgeprune_device.sinks.delivery import Sinks\n"
        "book = recorder(Path(sys.argv[1]))\n"
        "chosen = build_settings({'webhook': {'url': sys.argv[2]}}, 'the test')\n"
        "sinks = Sinks(chosen, Path(sys.argv[1]), print)\nsinks.start()\n"
        "for index in range(10**9):\n"
        "    print(*hear(book, index, 1), flush=True)\n    sinks.notify(); time.sleep(0.005)\n"
    )
    chance, names = random.Random(0), []
    with Web(lambda *_: 200) as web:
        url = f"http://127.0.0.1:{web.port}/"
        for _ in range(15):
            with subprocess.Popen(
                [sys.executable, "-c", program, tmp_path / "j", url, ROOT / "tests/support"],
                stdout=subprocess.PIPE, text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            ) as child:  # fmt: skip
                assert child.stdout is not None
                first = child.stdout.readline()
                time.sleep(chance.uniform(0.0, 0.3))
                child.kill()
                names += (first + child.stdout.read()).split()
        chosen = build_settings({"webhook": {"url": url}}, "the test")
        with recorder(tmp_path / "j"):
            sinks = Sinks(chosen, tmp_path / "j", lambda _: None)
            sinks.start()
            wait_for(lambda: set(names) <= set(web.took))
            sinks.close(1.0)
    sent = unique(web.took)
    assert [name for name in sent if name in set(names)] == names
    assert len(names) > 50
    tally(15, 0, f"recorder killed 15 times: {len(names):,} messages, none left out")


@pytest.mark.skipif(os.geteuid() != 0, reason="chattr needs root")
@pytest.mark.fault("F3")
def test_a_folder_that_becomes_read_only_stops_no_sink_for_good(
    tmp_path: Path, tally: Tally
) -> None:
    """3 times for a second: every file of the journal becomes immutable while a sink sends.

    Lost: none of 60.
    """
    names: list[str] = []
    with Web(lambda *_: 200) as web, recorder(tmp_path / "j") as book:
        url = f"http://127.0.0.1:{web.port}/"
        chosen = build_settings({"webhook": {"url": url}}, "the test")
        sinks = Sinks(chosen, tmp_path / "j", lambda _: None, delays=QUICK)
        sinks.start()
        for _ in range(3):
            for frozen in (False, True):
                with immutable(tmp_path / "j") if frozen else nullcontext():
                    for _ in range(10):
                        names += hear(book, len(names), 1)
                        sinks.notify()
                        time.sleep(0.1)
            tick_until(book, lambda: not book.pending)
        sinks.notify()
        wait_for(lambda: set(web.took) == set(names))
        sinks.close(1.0)
    assert unique(web.took) == names
    tally(3, 0, "a sink goes on when the folder can be written again")
