"""Sinks: what a receiver gets, what it may refuse, where a sink goes on, and what stays secret."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from receivers import (
    Web,
    certificate,
    free_port,
    hear,
    mosquitto,
    recorder,
    wait_for,
)
from running_sinks import kinds, running, settings

from edgeprune_device.sinks.delivery import Sinks


@pytest.mark.filterwarnings(  # paho leaves the socket of a failed handshake to be collected
    "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_a_certificate_nobody_vouches_for_is_no_receiver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A web server and a broker with one that signs itself: refused, then trusted by the system."""
    port = free_port()
    cert, key = certificate(tmp_path)
    lines = ("allow_anonymous true", f"certfile {cert}", f"keyfile {key}")
    with mosquitto(tmp_path, port, *lines), Web(lambda *_: 200) as web:
        web.secure(cert, key)
        chosen = settings(webhook={"url": f"https://127.0.0.1:{web.port}"},
                          mqtt={"host": "127.0.0.1", "port": port, "tls": True})  # fmt: skip
        with recorder(tmp_path / "j") as book:
            with running(chosen, tmp_path / "j") as sinks:
                (name,) = hear(book, 0, 1)
                sinks.notify()
                wait_for(lambda: all(a["failures"] > 1 for a in sinks.status().values()))
                assert all("erti" in a["last_error"] for a in sinks.status().values())
            assert web.requests == []
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
            with running(chosen, tmp_path / "j") as sinks:
                wait_for(lambda: all(a["sent"] == 1 for a in sinks.status().values()))
    assert web.took == [name]


def test_the_oldest_are_left_out_when_too_many_wait_and_it_is_told(tmp_path: Path) -> None:
    up = [False]
    with Web(lambda *_: 200 if up[0] else 503) as web, recorder(tmp_path / "j") as book:
        chosen = settings(webhook={"url": f"http://127.0.0.1:{web.port}"},
                          operate={"spool_rows": 10})  # fmt: skip
        with running(chosen, tmp_path / "j") as sinks:
            names = hear(book, 0, 25)
            sinks.notify()
            wait_for(lambda: sinks.status()["webhook"]["skipped"] == 15)
            assert sinks.status()["webhook"]["waiting"] == 10
            up[0] = True
            wait_for(lambda: sinks.status()["webhook"]["waiting"] == 0)
            told = kinds(sinks.notices())
    assert web.took == names[15:]
    assert "sink-skipped" in told
    assert told[-1] == "sink-recovered"


def test_closing_takes_no_longer_than_it_may_whatever_a_receiver_does(tmp_path: Path) -> None:
    hang = [sys.executable, "-c", "import time; time.sleep(600)"]
    with Web(lambda *_: 20.0) as web, recorder(tmp_path / "j") as book:
        chosen = settings(webhook={"url": f"http://127.0.0.1:{web.port}"}, command={"run": hang})
        sinks = Sinks(chosen, tmp_path / "j", lambda _: None)
        sinks.start()
        hear(book, 0, 2)
        sinks.notify()
        wait_for(lambda: len(web.heard) == 1)
        began = time.monotonic()
        sinks.close(0.5)
        assert time.monotonic() - began < 3.5


def test_times_of_success_are_in_utc(tmp_path: Path) -> None:
    with Web(lambda *_: 200) as web, recorder(tmp_path / "j") as book:
        chosen = settings(webhook={"url": f"http://127.0.0.1:{web.port}"})
        with running(chosen, tmp_path / "j") as sinks:
            hear(book, 0, 1)
            sinks.notify()
            wait_for(lambda: sinks.status()["webhook"]["sent"] == 1)
            last = datetime.fromisoformat(sinks.status()["webhook"]["last_success"])
    assert abs((datetime.now(UTC) - last).total_seconds()) < 60
