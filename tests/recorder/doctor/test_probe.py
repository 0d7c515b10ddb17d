"""Doctor's probes: disk, journal, bundle, rights, memory and sinks, each looked at and left as it was."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tiny_recordings import TONES, tone

from edgeprune_device.doctor import probe as probe
from edgeprune_device.doctor.probe import Failure, Opened
from edgeprune_device.settings import Settings
from edgeprune_device.settings_reader import build_settings


def test_a_disk_is_measured_and_nothing_stays_on_it(tmp_path: Path) -> None:
    found = probe.disk(tmp_path / "not" / "yet")
    assert found["folder"] == str(tmp_path)
    assert found["fsync_ms"] > 0
    assert found["free_mb"] == pytest.approx(shutil.disk_usage(tmp_path).free / 1e6, rel=0.1)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_takes_nothing_is_a_sentence() -> None:
    assert "cannot be written" in probe.disk(Path("/proc/journal"))["error"]


def test_a_journal_is_checked_without_being_touched(tmp_path: Path) -> None:
    assert probe.journal(tmp_path) is None
    file = tmp_path / "journal.sqlite"
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE detections (id TEXT PRIMARY KEY, label TEXT)")
        rows = [(str(n), "x" * 200) for n in range(500)]
        database.executemany("INSERT INTO detections VALUES (?, ?)", rows)
    database.close()
    whole = file.read_bytes()
    assert probe.journal(tmp_path) == {"ok": True, "said": "ok", "detections": 500}
    assert file.read_bytes() == whole
    broken = bytearray(whole)
    broken[8192:20_000] = bytes(20_000 - 8192)
    file.write_bytes(bytes(broken))
    found = probe.journal(tmp_path)
    assert found is not None
    assert found["ok"] is False
    file.write_bytes(b"no database" * 1000)
    found = probe.journal(tmp_path)
    assert found is not None
    assert found["ok"] is False


def test_what_a_recorder_that_died_left_in_its_log_is_counted_and_left_there(
    tmp_path: Path,
) -> None:
    alive, dead = tmp_path / "alive", tmp_path / "dead"
    alive.mkdir()
    with closing(sqlite3.connect(alive / "journal.sqlite", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE detections (id TEXT PRIMARY KEY)")
        database.executemany("INSERT INTO detections VALUES (?)", [("a",), ("b",)])
        shutil.copytree(alive, dead, ignore=shutil.ignore_patterns("*-shm"))
    before = {name: (dead / name).read_bytes() for name in ("journal.sqlite", "journal.sqlite-wal")}
    assert probe.journal(dead) == {"ok": True, "said": "ok", "detections": 2}
    assert {name: (dead / name).read_bytes() for name in before} == before


def test_a_check_that_takes_too_long_is_not_known(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "journal.sqlite") as database:
        database.execute("CREATE TABLE detections (id INTEGER PRIMARY KEY, label TEXT)")
        database.executemany("INSERT INTO detections VALUES (?, ?)",
                             ((n, "x" * 500) for n in range(20_000)))  # fmt: skip
    database.close()
    found = probe.journal(tmp_path, seconds=-1.0)
    assert found is not None
    assert found["ok"] is None
    assert "interrupted" in found["said"]


def test_a_bundle_is_timed_on_what_was_heard(tiny_bundle: Path, tmp_path: Path) -> None:
    heard = tone(TONES["low"], 1.0, 1)
    ticks = iter(n / 1000 for n in range(1_000_000))
    found = probe.bundle(tiny_bundle, Settings(), lambda _b: heard, clock=lambda: next(ticks))
    assert isinstance(found, Opened)
    assert found.latency["n"] >= 20
    assert found.latency["p50_ms"] == pytest.approx(1.0)
    assert found.golden_difference < 1e-4
    copied = shutil.copytree(tiny_bundle, tmp_path / "copy")
    model = copied / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    broken = probe.bundle(copied, Settings(), lambda _b: None)
    assert isinstance(broken, Failure)


@pytest.fixture
def listener() -> Iterator[tuple[int, list[bytes]]]:
    """Accept connections and keep what was sent on them."""
    heard: list[bytes] = []
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(2)
                    heard.append(connection.recv(1000))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], heard
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_a_webhook_is_connected_to_and_nothing_is_sent(listener: tuple[int, list[bytes]]) -> None:
    port, heard = listener
    settings = build_settings({"webhook": {"url": f"http://127.0.0.1:{port}/secret"}}, "r.toml")
    assert probe.sinks(settings, {}) == {"webhook": ""}
    deadline = time.monotonic() + 5
    while not heard:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert heard == [b""]


def test_sinks_that_cannot_be_reached_are_named_without_their_secrets() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = build_settings({
        "webhook": {"url": f"https://127.0.0.1:{port}/secret-path"},
        "mqtt": {"host": "127.0.0.1", "port": port, "password_env": "PASS"},
        "command": {"run": ["no-such-program"]},
    }, "r.toml")  # fmt: skip
    found = probe.sinks(settings, {"PASS": "hunter2"})
    assert "refused" in found["webhook"].lower()
    assert "refused" in found["mqtt"].lower()
    assert found["command"] == "There is no program no-such-program."
    assert "hunter2" not in str(found)
    assert "secret-path" not in str(found)
    assert "PASS, which is not set" in probe.sinks(settings, {})["mqtt"]


def test_a_real_broker_is_asked_and_gets_no_message(tmp_path: Path) -> None:
    program = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
    if program is None:
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "m.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    log = (tmp_path / "log").open("wb")
    with subprocess.Popen([program, "-v", "-c", str(tmp_path / "m.conf")], stderr=log) as broker:
        settings = build_settings({"mqtt": {"host": "127.0.0.1", "port": port}}, "r.toml")
        deadline = time.monotonic() + 10
        while (found := probe.sinks(settings, {}))["mqtt"]:
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
        broker.terminate()
    log.close()
    said = (tmp_path / "log").read_text()
    assert "edgeprune-doctor" in said
    assert "PUBLISH" not in said


def test_the_least_windows_are_timed_however_slow_they_are_up_to_a_bound(tiny_bundle: Path) -> None:
    def timed(seconds: float) -> int:
        now = [0.0]

        def clock() -> float:
            now[0] += seconds / 3  # three looks for each window
            return now[0]

        found = probe.bundle(tiny_bundle, Settings(), lambda _b: None, clock)
        assert isinstance(found, Opened)
        return int(found.latency["n"])

    assert timed(1.0) == probe.FEWEST_WINDOWS
    assert timed(10.0) < probe.FEWEST_WINDOWS  # half a minute is enough


def test_devices_that_are_closed_to_this_user_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dev/snd").mkdir(parents=True)
    for name in ("pcmC0D0c", "pcmC1D0c", "pcmC0D0p", "controlC0"):
        (tmp_path / "dev/snd" / name).touch()
    monkeypatch.setattr(os, "access", lambda path, _mode: "C1" not in str(path))
    found = probe.rights(tmp_path)
    capture = [str(tmp_path / "dev/snd" / name) for name in ("pcmC0D0c", "pcmC1D0c")]
    assert (found["devices"], found["closed"]) == (capture, capture[1:])
    assert found["root"] == (os.geteuid() == 0)
    assert probe.rights(tmp_path / "nothing")["devices"] == []


def test_memory_is_what_programs_may_still_take(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    assert probe.available_mb(tmp_path) is None
    (tmp_path / "proc/meminfo").write_text("MemTotal: 4000000 kB\nMemAvailable:  1500000 kB\n")
    assert probe.available_mb(tmp_path) == 1536.0
    (tmp_path / "proc/meminfo").write_text("MemTotal: 4000000 kB\n")
    assert probe.available_mb(tmp_path) is None


def test_without_sinks_there_is_nothing_to_ask_and_a_program_is_looked_for() -> None:
    assert probe.sinks(Settings(), {}) == {}
    settings = build_settings({"command": {"run": [sys.executable, "-V"]}}, "r.toml")
    assert probe.sinks(settings, {}) == {"command": ""}


@pytest.mark.parametrize("url", ["ftp://x/", "https:///x"])
def test_an_address_that_is_none_is_said(url: str) -> None:
    settings = build_settings({"webhook": {"url": url}}, "r.toml")
    said = "webhook.url is not an http:// or https:// address."
    assert probe.sinks(settings, {})["webhook"] == said


def test_a_web_server_without_a_certificate_is_not_taken_for_a_secure_one(
    listener: tuple[int, list[bytes]],
) -> None:
    settings = build_settings({"webhook": {"url": f"https://127.0.0.1:{listener[0]}"}}, "r.toml")
    assert probe.sinks(settings, {})["webhook"].startswith("It cannot be reached: ")
