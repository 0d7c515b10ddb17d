"""The support dump: enough to help, and nothing that is nobody's business."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune_device.clips.clip_files import set_lock, to_flac, write_clip
from edgeprune_device.detection.events import Detection
from edgeprune_device.doctor.support_archive import Asked, support
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.journal.journal import Journal
from edgeprune_device.settings_reader import read_settings

SECRETS = {
    "user": "ranger-joe", "password": "hunter2hunter2", "token": "tok-0123456789",
    "hook": "T0000-B0000-XXXX", "argument": "sk-live-abcdef", "variable": "FOREST_TOKEN",
    "latitude": "47.123456", "longitude": "11.654321", "said": "my name is bond",
}  # fmt: skip
SETTINGS = """
[mqtt]
host = "broker.example"
username = "ranger-joe"
password_env = "FOREST_TOKEN"
[webhook]
url = "https://ranger-joe:hunter2hunter2@hooks.example:8443/services/T0000-B0000-XXXX?key=tok-0123456789"
token_file = "{token_file}"
[command]
run = ["/usr/bin/notify", "--key", "sk-live-abcdef"]
[schedule]
listen = ["dawn-1h..dusk"]
latitude = 47.123456
longitude = 11.654321
"""


@pytest.fixture
def station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path) -> Asked:
    """A recorder in whose every corner a secret was left."""
    monkeypatch.setenv("FOREST_TOKEN", SECRETS["password"])
    token_file = tmp_path / "token"
    token_file.write_text(SECRETS["token"] + "\n")
    settings = tmp_path / "recorder.toml"
    settings.write_text(SETTINGS.format(token_file=token_file))
    read_settings(settings)
    journal = tmp_path / "journal"
    with Journal(journal, "birds", "d" * 64, "microphone", live=True,
                 clock=lambda: datetime.now(UTC)) as book:  # fmt: skip
        book.add(Detection(SECRETS["said"], 0.9, 1.0, 2.0), 16_000)
        book.close(
            {"windows": 3, "detections": {SECRETS["said"]: 1}, "note": f"sent {SECRETS['token']}"}
        )
    with sqlite3.connect(journal / "journal.sqlite") as database:
        database.execute(
            "CREATE TABLE IF NOT EXISTS coverage (session, hour, kind, reason, samples)"
        )
        database.execute("INSERT INTO coverage VALUES (1, '2026-05-01T12', 'analysed', '', 77123)")
        database.execute("DROP TABLE IF EXISTS events")
        database.execute("CREATE TABLE events (session, utc, sample, kind, text, details)")
        database.execute(
            "INSERT INTO events VALUES (1, '', 0, 'webhook-down', ?, ?)",
            (f"POST https://x:{SECRETS['password']}@hooks.example/services/T0000-B0000-XXXX failed",
             json.dumps({"token": SECRETS["token"], "lat": 47.123456})),
        )  # fmt: skip
    (journal / "status.json").write_text(json.dumps(
        {"state": "listening", "longitude": 11.654321, "text": f"Bearer {SECRETS['token']}"}))  # fmt: skip
    path = "clips/2026-05-01/owl/120000_a1.flac"
    write_clip(journal, path, to_flac(np.zeros(100, np.int16), 16_000,
                                      {"label": SECRETS["said"]}))  # fmt: skip
    set_lock(journal, path, True)
    tools = tmp_path / "bin"
    tools.mkdir()
    fake = tools / "journalctl"
    fake.write_text(
        "#!/bin/sh\n"
        f'echo "connecting with password={SECRETS["password"]} at 47.123456"\n'
        'echo "$@"\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    return Asked(journal, settings, tiny_bundle)


def contents(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as packed:
        return {name: packed.read(name).decode() for name in packed.namelist()}


def test_no_planted_secret_is_anywhere_in_the_dump(station: Asked, tmp_path: Path) -> None:
    support(station, tmp_path / "support.zip")
    found = contents(tmp_path / "support.zip")
    for name, text in found.items():
        for what, secret in SECRETS.items():
            assert secret not in text, f"{what} in {name}"
        assert "fLaC" not in text
        assert "NUMPY" not in text
        assert socket.gethostname() not in text
    whole = (tmp_path / "support.zip").read_bytes()
    assert not any(secret.encode() in whole for secret in SECRETS.values())


def test_what_helps_is_in_it(station: Asked, tmp_path: Path) -> None:
    done = support(station, tmp_path / "support.zip")
    found = contents(tmp_path / "support.zip")
    assert set(done["parts"]) == set(found) == {
        "about.json", "machine.json", "bundle.json", "database.json", "stats.json", "status.json",
        "disk.json", "service.log", "settings.json"}  # fmt: skip
    opened: dict[str, Any] = {
        name: json.loads(text) for name, text in found.items() if name.endswith(".json")
    }
    assert opened["about.json"]["versions"]["numpy"]
    assert opened["machine.json"]["facts"]["cores"] >= 1
    assert opened["bundle.json"]["labels"]
    assert "golden" not in opened["bundle.json"]
    assert not [name for name in opened["bundle.json"]["files"] if "golden" in name]
    database = opened["database.json"]
    assert database["quick_check"] == ["ok"]
    assert database["rows"]["detections rows"] == 1
    assert {"session": 1, "kind": "analysed", "reason": "", "samples": 77123} in database[
        "coverage"
    ]
    assert database["last_events"][-1]["kind"] == "webhook-down"
    assert "hooks.example" in database["last_events"][-1]["text"]
    assert opened["disk.json"]["clips"]["count"] == opened["disk.json"]["clips"]["locked"] == 1
    assert opened["settings.json"]["mqtt"]["host"] == "broker.example"
    assert (
        opened["settings.json"]["webhook"]["url"]
        == "https://(removed)@hooks.example:8443/(removed)"
    )
    assert opened["settings.json"]["command"]["run"] == ["notify", "(removed)", "(removed)"]
    assert "--lines 200" in found["service.log"]
    assert "--no-hostname" in found["service.log"]


def test_the_place_is_in_it_only_when_asked_for(station: Asked, tmp_path: Path) -> None:
    asked = Asked(station.journal, station.settings, station.bundle, with_place=True)
    support(asked, tmp_path / "support.zip")
    found = contents(tmp_path / "support.zip")
    assert json.loads(found["settings.json"])["schedule"]["latitude"] == 47.123456
    assert SECRETS["token"] not in "".join(found.values())


def test_what_cannot_be_collected_says_so_and_the_rest_is_there(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    journal.mkdir()
    (journal / "journal.sqlite").write_bytes(b"this is no database" * 100)
    (journal / "stats.json").write_text("{torn")
    (tmp_path / "bad.toml").write_text('password = "hunter2hunter2')
    support(Asked(journal, tmp_path / "bad.toml", tmp_path / "nowhere"), tmp_path / "s.zip")
    found = contents(tmp_path / "s.zip")
    assert "could not be collected: file is not a database" in found["database.json"]
    assert "could not be collected" in found["stats.json"]
    assert "could not be collected" in found["bundle.json"]
    assert found["settings.json"] == "could not be read: TOMLDecodeError"
    assert json.loads(found["disk.json"])["free_bytes"] > 0


def test_no_journal_is_said_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(EdgepruneError, match="There is no journal"):
        support(Asked(tmp_path / "nowhere"), tmp_path / "s.zip")
    with pytest.raises(EdgepruneError, match="cannot be written"):
        support(Asked(tmp_path), tmp_path / "no-folder" / "s.zip")
    assert not list(tmp_path.iterdir())


def test_the_dump_is_its_owners_alone(station: Asked, tmp_path: Path) -> None:
    support(station, tmp_path / "s.zip")
    assert (tmp_path / "s.zip").stat().st_mode & 0o077 == 0
