"""MQTT: topics, retained state, the will, and passwords, with a real broker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from receivers import (
    Listener,
    free_port,
    hear,
    mosquitto,
    recorder,
    wait_for,
)
from repository import ROOT
from running_sinks import QUICK, running, settings

from edgeprune_device.sinks.delivery import Sinks
from edgeprune_device.sinks.mqtt import slug


@given(st.text())
def test_a_label_is_one_level_of_a_topic_whatever_it_holds(label: str) -> None:
    level = slug(label)
    assert 0 < len(level) <= 64
    assert not set(level) & set("+#/\0 $")
    assert level.encode("utf-8", "strict")


def test_slugs_read_as_labels_do() -> None:
    assert slug("European Robin (song)") == "european-robin-song"
    assert slug("Bébé / cri") == "bébé-cri"
    assert slug("#+/") == "label"


def test_a_broker_gets_detections_by_label_and_the_recorders_state(tmp_path: Path) -> None:
    port = free_port()
    with mosquitto(tmp_path, port, "allow_anonymous true"), recorder(tmp_path / "j") as book:
        listener = Listener(port, "woods/#")
        chosen = settings(mqtt={"host": "127.0.0.1", "port": port, "topic": "woods"})
        sinks = Sinks(chosen, tmp_path / "j", lambda _: None, delays=QUICK)
        sinks.start()
        sinks.heartbeat({"temperature": 41.5})
        names = hear(book, 0, 2, "European Robin")
        sinks.notify()
        wait_for(lambda: listener.names == names)
        wait_for(lambda: sinks.status()["mqtt"]["waiting"] == 0)
        sinks.close(2.0)
        wait_for(lambda: listener.came[-1][1] == {"state": "offline"})
        listener.close()
    assert {topic for topic, _, _ in listener.came} == {
        "woods/status", "woods/detections/european-robin",
    }  # fmt: skip
    states = [body for topic, body, _ in listener.came if topic == "woods/status"]
    assert {"temperature": 41.5, "state": "online"} in states


def test_a_recorder_that_dies_is_offline_for_everyone_who_asks(tmp_path: Path) -> None:
    port = free_port()
    program = (
        "import sys, time; sys.path.insert(0, sys.argv[3])\n"
        "from pathlib import Path\nfrom receivers import recorder\n"
        "from running_sinks import settings\nfrom edgeprune_device.sinks.delivery import Sinks\n"
        "book = recorder(Path(sys.argv[1]))\n"
        "sinks = Sinks(settings(mqtt={'host': '127.0.0.1', 'port': int(sys.argv[2])}),\n"
        "              Path(sys.argv[1]), print)\n"
        "sinks.start(); sinks.heartbeat({'n': 1}); time.sleep(60)\n"
    )
    with mosquitto(tmp_path, port, "allow_anonymous true"):
        listener = Listener(port, "edgeprune/status")
        with subprocess.Popen(
            [sys.executable, "-c", program, tmp_path / "j", str(port), ROOT / "tests/support"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ) as child:
            wait_for(lambda: any(body.get("n") == 1 for _, body, _ in listener.came), 30)
            child.kill()
        wait_for(lambda: listener.came[-1][1] == {"state": "offline"})
        late = Listener(port, "edgeprune/#", "late")
        wait_for(lambda: late.came == [("edgeprune/status", {"state": "offline"}, True)])
        late.close()
        listener.close()


def test_a_broker_wants_the_right_password(tmp_path: Path) -> None:
    port = free_port()
    subprocess.run(["mosquitto_passwd", "-b", "-c", tmp_path / "users", "me", "sesame"], check=True)
    lines = ("allow_anonymous false", f"password_file {tmp_path / 'users'}")
    with mosquitto(tmp_path, port, *lines), recorder(tmp_path / "j") as book:
        chosen = settings(mqtt={"host": "127.0.0.1", "port": port, "username": "me",
                                "password_env": "WORD"})  # fmt: skip
        with running(chosen, tmp_path / "j", environ={"WORD": "wrong"}) as sinks:
            hear(book, 0, 1)
            sinks.notify()
            wait_for(lambda: sinks.status()["mqtt"]["failures"] > 0)
            assert "Not authorized" in sinks.status()["mqtt"]["last_error"]
        with running(chosen, tmp_path / "j", environ={"WORD": "sesame"}) as sinks:
            wait_for(lambda: sinks.status()["mqtt"]["sent"] == 1)
