"""Doctor as it is run: a real microphone, disk, database, broker and web server, and what it writes."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from pulse_fixture import Pulse
from tiny_recordings import RATE, TONES, tone
from typer.testing import CliRunner

from edgeprune.cli.app import app
from edgeprune_device.doctor import probe as probe
from edgeprune_device.doctor.probe import Failure, Opened
from edgeprune_device.doctor.runner import FILE, doctor, schedule_said
from edgeprune_device.doctor.sound_check import record
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.settings import Audio, Settings
from edgeprune_device.settings_reader import build_settings
from edgeprune_device.stream import Block, Notice

QUIET: list[str] = []


def run(pulse: Pulse, *arguments: str) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run(
        [sys.executable, "-m", "edgeprune.cli", "doctor", "--json", *arguments],
        env=pulse.environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    found = json.loads(done.stdout) if done.stdout else {}
    return done.returncode, {row["name"]: row for row in found.get("rows", [])}, done.stderr


def test_a_real_microphone_is_recorded_and_judged(
    pulse: Pulse, tiny_bundle: Path, tmp_path: Path
) -> None:
    loud = np.concatenate([tone(TONES["high"], 1.0, seed) for seed in range(25)])
    soundfile.write(tmp_path / "loud.wav", 0.5 * loud, RATE)
    player = pulse.play(tmp_path / "loud.wav")
    _, rows, said = run(pulse, str(tiny_bundle), "--seconds", "4", "-o", str(tmp_path / "out"),
                        "--journal", str(tmp_path / "j"))  # fmt: skip
    player.kill()
    player.wait()
    assert rows, said
    assert rows["microphone"]["state"] == "ok", rows["microphone"]
    assert rows["sampling rate"]["state"] == "ok", rows["sampling rate"]
    assert abs(rows["sampling rate"]["values"]["ratio"] - 1) < 0.05
    assert rows["sound"]["state"] == "ok", rows["sound"]
    assert -30 < rows["sound"]["values"]["level_db"] < -5
    assert rows["bundle"]["state"] == "ok"
    assert rows["speed"]["values"]["n"] >= 20
    assert json.loads((tmp_path / "out" / FILE).read_text())["schema"] == 1
    assert not (tmp_path / "j").exists()  # it looked, and made nothing
    assert not pulse.capture_processes()


def test_a_real_microphone_that_gives_zeros_is_a_problem(pulse: Pulse, tmp_path: Path) -> None:
    status, rows, said = run(pulse, "--seconds", "2", "--journal", str(tmp_path / "j"))
    assert status == 1
    assert rows["microphone"]["state"] == "ok"
    assert rows["sound"]["state"] == "problem"
    assert "zeros" in rows["sound"]["text"]
    assert "problem" in said


def test_an_input_that_is_not_there_is_a_row_with_those_that_are(
    pulse: Pulse, tmp_path: Path
) -> None:
    status, rows, _ = run(pulse, "--device", "gramophone", "--journal", str(tmp_path / "j"))
    assert status == 1
    assert rows["microphone"]["state"] == "problem"
    assert "gramophone" in rows["microphone"]["text"]
    assert "default" in rows["microphone"]["remedy"]


class Scripted:
    """A source that gives what it is told to."""

    device, rate = "scripted", 48_000

    def __init__(self, items: list[Any]) -> None:
        self.items, self.closed = items, False

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def close(self) -> None:
        self.closed = True


def test_losses_and_notices_are_counted_and_the_source_is_closed() -> None:
    piece = np.ones(RATE // 10, np.float32)
    source = Scripted([None, Notice("x", "It hiccuped."), Block(piece), Block(piece, 40, "driver"),
                       *[Block(piece)] * 20])  # fmt: skip
    heard = record(Audio(), RATE, 1.0, open_microphone=lambda _a, _r: source)
    assert (heard.lost, heard.reasons, heard.notices) == (40, ("driver",), ("It hiccuped.",))
    assert heard.seconds == pytest.approx(1.0)
    assert source.closed
    assert (heard.device, heard.rate) == ("scripted", 48_000)


def test_a_microphone_that_gives_nothing_ends_after_its_patience() -> None:
    clock = iter(float(n) for n in range(100))
    with pytest.raises(EdgepruneError, match="Nothing came from the microphone"):
        record(Audio(), RATE, 1.0, open_microphone=lambda _a, _r: Scripted([None] * 90),
               clock=lambda: next(clock))  # fmt: skip


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


def test_a_schedule_is_told_for_now_and_one_that_never_listens_is_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    noon = datetime(2025, 6, 21, 12, tzinfo=UTC)

    def said(**entries: Any) -> Any:
        return schedule_said(build_settings({"schedule": entries}, "r.toml"), noon)

    assert said() is None
    assert said(listen=["05:00-09:00"]) == ("It pauses now, until 2025-06-22 05:00.",)
    assert said(quiet=["18:00-20:00"]) == ("It listens now, until 2025-06-21 18:00.",)
    never = said(listen=["05:00-09:00"], quiet=["00:00-24:00"])
    assert isinstance(never, Failure)
    assert isinstance(said(listen=["soon"]), Failure)
    north = said(listen=["sunrise..sunset"], latitude=69.65, longitude=18.96)
    assert "the sun stays above the horizon" in north[1]


def test_without_recording_it_is_quick_and_every_row_has_its_sentence(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    found = doctor(tiny_bundle, Settings(), tmp_path, seconds=0, say=QUIET.append)
    assert sum(found["counts"].values()) == len(found["rows"]) == 17
    json.dumps({key: value for key, value in found.items() if key != "text"}, allow_nan=False)
    lines = found["text"].splitlines()
    assert lines[-1].count(",") == 3
    with pytest.raises(EdgepruneError, match="--seconds -1"):
        doctor(None, Settings(), tmp_path, seconds=-1, say=QUIET.append)


def test_the_command_prints_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["doctor", "--seconds", "0"])
    assert "unknown  microphone" in done.stdout
    assert list(tmp_path.iterdir()) == []
