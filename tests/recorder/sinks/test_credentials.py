"""Credentials: where a secret is read from, and that it shows nowhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from receivers import (
    free_port,
    hear,
    recorder,
    wait_for,
)
from running_sinks import QUICK, settings

from edgeprune_device.errors import EdgepruneError
from edgeprune_device.sinks.credentials import Secret, read_secret
from edgeprune_device.sinks.delivery import Sinks


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
        sinks.notify()
        wait_for(lambda: all(a["failures"] or a["sent"] for a in sinks.status().values()))
        notices = sinks.close(1.0)
    shown = repr((said, notices, sinks.status(), vars(sinks), chosen.mqtt, chosen.command))
    shown += (tmp_path / "seen").read_text("utf-8")
    assert "s3cret" not in shown
    assert "HOME" in shown
    assert "cannot be reached" in sinks.status()["mqtt"]["last_error"]


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [({"webhook": {"url": "http://x", "token_env": "NOT_SET"}},
      "webhook.token_env names the variable NOT_SET"),
     ({"mqtt": {"host": "x", "password_file": "/none"}}, "mqtt.password_file, /none, cannot be"),
     ({"mqtt": {"host": "x", "password_file": "/dev/null"}}, "is empty")],
)  # fmt: skip
def test_a_secret_that_is_missing_is_one_sentence_at_the_start(
    tmp_path: Path, parts: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(EdgepruneError, match=sentence):
        Sinks(settings(**parts), tmp_path, lambda _: None, environ={})


def test_a_variable_comes_before_a_file_and_without_either_there_is_no_secret(
    tmp_path: Path,
) -> None:
    file = tmp_path / "word"
    file.write_text("  of the file \n")
    environ = {"WORD": "of the variable"}
    assert read_secret("WORD", str(file), environ, "mqtt.password").reveal() == "of the variable"
    assert read_secret("", str(file), environ, "mqtt.password").reveal() == "of the file"
    none = read_secret("", "", environ, "mqtt.password")
    assert (bool(none), none.reveal()) == (False, "")


def test_a_relative_file_lies_in_systemds_credentials_folder_and_an_absolute_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "word").write_text("systemd's")
    (tmp_path / "word").write_text("the folder's")
    monkeypatch.chdir(tmp_path)
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
    assert read_secret("", "word", environ, "x").reveal() == "systemd's"
    assert read_secret("", str(tmp_path / "word"), environ, "x").reveal() == "the folder's"
    assert read_secret("", "word", {}, "x").reveal() == "the folder's"


def test_a_file_that_is_not_text_is_one_sentence_without_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "word").write_bytes(b"s3cret\xff\xfe")
    with pytest.raises(EdgepruneError, match=r"cannot be read: it is not text\.$") as caught:
        read_secret("", str(tmp_path / "word"), {}, "mqtt.password")
    assert "s3cret" not in str(caught.value)


def test_a_secret_shows_that_it_is_there_and_takes_itself_out_of_an_error() -> None:
    secret, none = Secret("s3cret"), Secret("")
    assert "s3cret" not in f"{secret} {secret!r} {[secret]}"
    assert str(secret) != str(none)
    assert secret.hidden_in("login of me:s3cret failed") == "login of me:(secret) failed"
    assert none.hidden_in("login failed") == "login failed"
