"""Sinks: what a receiver gets, what it may refuse, where a sink goes on, and what stays secret."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from receivers import (
    Listener,
    Web,
    certificate,
    free_port,
    hear,
    mosquitto,
    recorder,
    unique,
    wait_for,
)
from repository import ROOT

from edgeprune_device.errors import EdgepruneError
from edgeprune_device.settings import Settings
from edgeprune_device.settings_reader import build_settings
from edgeprune_device.sinks.delivery import MOST_REFUSALS, Sinks
from edgeprune_device.sinks.mqtt import slug
from edgeprune_device.stream import Notice

QUICK = (0.02, 0.1)


def settings(**parts: Mapping[str, Any]) -> Settings:
    return build_settings(parts, "the test")


@contextmanager
def running(chosen: Settings, folder: Path, **options: Any) -> Iterator[Sinks]:
    sinks = Sinks(chosen, folder, lambda _: None, delays=QUICK, **options)
    sinks.start()
    try:
        yield sinks
    finally:
        sinks.close(0.0)


def kinds(notices: list[Notice]) -> list[str]:
    return [notice.kind for notice in notices]


def test_a_webhook_gets_the_line_of_the_journal_its_id_and_a_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("sesame\n")
    with Web(lambda *_: 204) as web, recorder(tmp_path / "j") as book:
        chosen = settings(webhook={"url": f"http://127.0.0.1:{web.port}/in?k=v",
                                   "token_file": "token"})  # fmt: skip
        with running(chosen, tmp_path / "j", environ={"CREDENTIALS_DIRECTORY": str(tmp_path)}) as s:
            (name,) = hear(book, 3, 1)
            s.poke()
            wait_for(lambda: s.status()["webhook"]["sent"] == 1)
    ((path, headers, body),) = web.requests
    assert path == "/in?k=v"
    assert headers["Idempotency-Key"] == name
    assert headers["Authorization"] == "Bearer sesame"
    assert headers["Content-Type"] == "application/json"
    assert body == json.loads((tmp_path / "j" / "detections.jsonl").read_text("utf-8"))


@pytest.mark.parametrize(
    ("status", "left_out"),
    [(400, True), (422, True), (401, False), (404, False), (408, False), (429, False),
     (500, False), (503, False), (302, False), (307, False)],
)  # fmt: skip
def test_what_is_refused_is_left_out_and_everything_else_is_tried_again(
    tmp_path: Path, status: int, left_out: bool
) -> None:
    """The first message is answered so eight times, then with 200."""

    def answer(number: int, name: str) -> int:
        return status if name == web.heard[0] and number <= 8 else 200

    with Web(answer) as web, recorder(tmp_path / "j") as book:
        chosen = settings(webhook={"url": f"http://127.0.0.1:{web.port}"})
        with running(chosen, tmp_path / "j") as sinks:
            names = hear(book, 0, 3)
            sinks.poke()
            wait_for(lambda: sinks.status()["webhook"]["waiting"] == 0 and len(web.took) > 1)
            account = sinks.status()["webhook"]
            told = kinds(sinks.notices())
    assert web.took == (names[1:] if left_out else names)
    assert web.heard.count(names[0]) == (MOST_REFUSALS if left_out else 9)
    assert account["refused"] == int(left_out)
    assert ("sink-refused" in told) == left_out
    assert all(path == "/" for path, _, _ in web.requests)  # no redirect was followed


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
                sinks.poke()
                wait_for(lambda: all(a["failures"] > 1 for a in sinks.status().values()))
                assert all("erti" in a["last_error"] for a in sinks.status().values())
            assert web.requests == []
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
            with running(chosen, tmp_path / "j") as sinks:
                wait_for(lambda: all(a["sent"] == 1 for a in sinks.status().values()))
    assert web.took == [name]


def test_a_sink_begins_at_the_journals_end_and_goes_on_where_it_was(tmp_path: Path) -> None:
    with Web(lambda *_: 200) as web, recorder(tmp_path / "j") as book:
        chosen = settings(webhook={"url": f"http://127.0.0.1:{web.port}"})
        hear(book, 0, 5)
        with running(chosen, tmp_path / "j") as sinks:
            names = hear(book, 5, 3)
            sinks.poke()
            wait_for(lambda: len(web.took) == 3)
        names += hear(book, 8, 3)  # while no sink runs
        with running(chosen, tmp_path / "j"):
            wait_for(lambda: len(web.took) >= 6)
    assert unique(web.took) == names


def test_what_waited_for_a_sink_is_sent_from_a_database_that_was_rebuilt(tmp_path: Path) -> None:
    with Web(lambda *_: 200) as web:
        chosen = settings(webhook={"url": f"http://127.0.0.1:{web.port}"})
        with recorder(tmp_path / "j") as book:
            hear(book, 0, 4)
            book.close({})
        with running(chosen, tmp_path / "j"), recorder(tmp_path / "j") as book:
            names = hear(book, 4, 2)
            wait_for(lambda: len(web.took) == 2 or not book.pending)
            book.close({})
        with recorder(tmp_path / "j") as book:
            names += hear(book, 6, 2)
            book.close({})
        with running(chosen, tmp_path / "j"):
            wait_for(lambda: len(unique(web.took)) == 4)
        with recorder(tmp_path / "j") as book:
            names += hear(book, 8, 2)
            book.close({})
        (tmp_path / "j" / "journal.sqlite").write_bytes(b"spoiled" * 1000)
        with recorder(tmp_path / "j") as book, running(chosen, tmp_path / "j"):
            names += hear(book, 10, 1)
            wait_for(lambda: len(unique(web.took)) == 7)
    assert unique(web.took) == names


def test_the_oldest_are_left_out_when_too_many_wait_and_it_is_told(tmp_path: Path) -> None:
    up = [False]
    with Web(lambda *_: 200 if up[0] else 503) as web, recorder(tmp_path / "j") as book:
        chosen = settings(webhook={"url": f"http://127.0.0.1:{web.port}"},
                          operate={"spool_rows": 10})  # fmt: skip
        with running(chosen, tmp_path / "j") as sinks:
            names = hear(book, 0, 25)
            sinks.poke()
            wait_for(lambda: sinks.status()["webhook"]["skipped"] == 15)
            assert sinks.status()["webhook"]["waiting"] == 10
            up[0] = True
            wait_for(lambda: sinks.status()["webhook"]["waiting"] == 0)
            told = kinds(sinks.notices())
    assert web.took == names[15:]
    assert "sink-skipped" in told
    assert told[-1] == "sink-recovered"


def test_secrets_show_nowhere(tmp_path: Path) -> None:
    said: list[str] = []
    port = free_port()  # nobody listens
    chosen = settings(
        webhook={"url": f"http://127.0.0.1:{port}/hooks/s3cret-path", "token_env": "TOKEN"},
        mqtt={"host": "127.0.0.1", "port": port, "username": "me", "password_env": "PASSWORD"},
        command={"run": [sys.executable, "-c", "import os, sys; open(sys.argv[1], 'w').write("
                         "str(dict(os.environ)))", str(tmp_path / "seen")]},
    )  # fmt: skip
    environ = {"TOKEN": "s3cret-token", "PASSWORD": "s3cret-word", "HOME": "/",
               "CREDENTIALS_DIRECTORY": "/run/s3cret"}  # fmt: skip
    with recorder(tmp_path / "j") as book:
        sinks = Sinks(chosen, tmp_path / "j", said.append, environ=environ, delays=QUICK)
        sinks.start()
        hear(book, 0, 1)
        sinks.poke()
        wait_for(lambda: all(a["failures"] or a["sent"] for a in sinks.status().values()))
        notices = sinks.close(1.0)
    shown = repr((said, notices, sinks.status(), vars(sinks), chosen.mqtt, chosen.command))
    shown += (tmp_path / "seen").read_text("utf-8")
    assert "s3cret" not in shown
    assert "HOME" in shown
    assert "cannot be reached" in sinks.status()["mqtt"]["last_error"]


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [({"webhook": {"url": "ftp://x"}}, "no http:// or https:// address"),
     ({"webhook": {"url": "http://x", "token_env": "NOT_SET"}}, "webhook.token_env names NOT_SET"),
     ({"mqtt": {"host": "x", "password_file": "/none"}}, "mqtt.password_file, /none, cannot be"),
     ({"mqtt": {"host": "x", "password_file": "/dev/null"}}, "is empty")],
)  # fmt: skip
def test_settings_that_cannot_work_are_one_sentence_at_the_start(
    tmp_path: Path, parts: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(EdgepruneError, match=sentence):
        Sinks(settings(**parts), tmp_path, lambda _: None, environ={})


def script(folder: Path, text: str) -> list[str]:
    (folder / "program.py").write_text(text)
    return [sys.executable, str(folder / "program.py"), str(folder)]


def test_a_command_gets_the_detection_on_standard_input_and_no_shell(tmp_path: Path) -> None:
    keep = "import sys; open(sys.argv[1] + '/got', 'a').write(sys.stdin.read()); sys.exit(sys.argv[2] != '$HOME')"  # noqa: E501
    chosen = settings(command={"run": [*script(tmp_path, keep), "$HOME"]})
    with recorder(tmp_path / "j") as book, running(chosen, tmp_path / "j") as sinks:
        names = hear(book, 0, 3, "wren; rm -rf $HOME")
        sinks.poke()
        wait_for(lambda: sinks.status()["command"]["sent"] == 3)
    got = [json.loads(line) for line in (tmp_path / "got").read_text("utf-8").splitlines()]
    assert [row["id"] for row in got] == names
    assert {row["label"] for row in got} == {"wren; rm -rf $HOME"}


def test_a_command_that_asks_for_another_try_gets_it_and_one_that_fails_is_left_out(
    tmp_path: Path,
) -> None:
    text = (
        "import json, sys\nrow = json.load(sys.stdin)\n"
        "with open(sys.argv[1] + '/got', 'a+') as file:\n"
        "    file.seek(0)\n    tries = file.read().split().count(row['id'])\n"
        "    print(row['id'], file=file)\n"
        "sys.exit({'again': 75 if tries < 7 else 0, 'never': 1}.get(row['label'], 0))\n"
    )
    chosen = settings(command={"run": script(tmp_path, text)})
    with recorder(tmp_path / "j") as book, running(chosen, tmp_path / "j") as sinks:
        again, never = hear(book, 0, 1, "again"), hear(book, 1, 1, "never")
        good = hear(book, 2, 1, "good")
        sinks.poke()
        wait_for(lambda: sinks.status()["command"]["sent"] == 2)
    tried = (tmp_path / "got").read_text("utf-8").split()
    assert tried == again * 8 + never * MOST_REFUSALS + good
    assert sinks.status()["command"]["refused"] == 1


def test_a_command_that_hangs_is_ended_with_all_it_has_started(tmp_path: Path) -> None:
    text = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "open(sys.argv[1] + '/pids', 'a').write(f'{child.pid}\\n')\ntime.sleep(600)\n"
    )
    chosen = settings(command={"run": script(tmp_path, text), "timeout_seconds": 1.0})
    with recorder(tmp_path / "j") as book, running(chosen, tmp_path / "j") as sinks:
        hear(book, 0, 1)
        sinks.poke()
        wait_for(lambda: sinks.status()["command"]["failures"] >= 1)
        said = sinks.status()["command"]["last_error"]
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert pids

    def is_gone(pid: int) -> bool:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return True
        return state == "Z"

    wait_for(lambda: all(map(is_gone, pids)))
    assert "took over 1 s" in said


def test_closing_takes_no_longer_than_it_may_whatever_a_receiver_does(tmp_path: Path) -> None:
    hang = script(tmp_path, "import time; time.sleep(600)")
    with Web(lambda *_: 20.0) as web, recorder(tmp_path / "j") as book:
        chosen = settings(webhook={"url": f"http://127.0.0.1:{web.port}"}, command={"run": hang})
        sinks = Sinks(chosen, tmp_path / "j", lambda _: None)
        sinks.start()
        hear(book, 0, 2)
        sinks.poke()
        wait_for(lambda: len(web.heard) == 1)
        began = time.monotonic()
        sinks.close(0.5)
        assert time.monotonic() - began < 3.5


def test_cursors_that_are_malformed_are_kept_and_told(tmp_path: Path) -> None:
    with Web(lambda *_: 200) as web, recorder(tmp_path / "j") as book:
        chosen = settings(webhook={"url": f"http://127.0.0.1:{web.port}"})
        (tmp_path / "j" / "deliveries.sqlite").write_bytes(b"spoiled" * 1000)
        with running(chosen, tmp_path / "j") as sinks:
            (name,) = hear(book, 0, 1)
            sinks.poke()
            wait_for(lambda: web.took == [name])
            assert kinds(sinks.notices()) == ["deliveries-malformed"]
    assert list((tmp_path / "j").glob("deliveries-malformed-*.sqlite"))


def test_a_full_disk_under_the_cursors_stops_no_message(tmp_path: Path) -> None:
    with Web(lambda *_: 200) as web, recorder(tmp_path / "j") as book:
        chosen = settings(webhook={"url": f"http://127.0.0.1:{web.port}"})
        with running(chosen, tmp_path / "j") as sinks:
            with closing(sqlite3.connect(tmp_path / "j" / "deliveries.sqlite")) as other:
                other.execute("DROP TABLE deliveries")  # as good as full: nothing can be kept
            names = hear(book, 0, 3)
            sinks.poke()
            wait_for(lambda: web.took == names)
            wait_for(lambda: "cursor" in sinks.status()["webhook"]["last_error"])


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
        sinks.poke()
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
        "from test_sinks import settings\nfrom edgeprune_device.sinks.delivery import Sinks\n"
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
            sinks.poke()
            wait_for(lambda: sinks.status()["mqtt"]["failures"] > 0)
            assert "Not authorized" in sinks.status()["mqtt"]["last_error"]
        with running(chosen, tmp_path / "j", environ={"WORD": "sesame"}) as sinks:
            wait_for(lambda: sinks.status()["mqtt"]["sent"] == 1)


def test_times_of_success_are_in_utc(tmp_path: Path) -> None:
    with Web(lambda *_: 200) as web, recorder(tmp_path / "j") as book:
        chosen = settings(webhook={"url": f"http://127.0.0.1:{web.port}"})
        with running(chosen, tmp_path / "j") as sinks:
            hear(book, 0, 1)
            sinks.poke()
            wait_for(lambda: sinks.status()["webhook"]["sent"] == 1)
            last = datetime.fromisoformat(sinks.status()["webhook"]["last_success"])
    assert abs((datetime.now(UTC) - last).total_seconds()) < 60
