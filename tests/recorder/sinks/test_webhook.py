"""The webhook: what is posted, which answers refuse a message, and what an error says."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from receivers import (
    Web,
    free_port,
    hear,
    recorder,
    wait_for,
)
from running_sinks import kinds, running, settings

from edgeprune_device.errors import EdgepruneError
from edgeprune_device.sinks.credentials import Secret
from edgeprune_device.sinks.delivery import MOST_REFUSALS, Sinks
from edgeprune_device.sinks.sender import NotSentError
from edgeprune_device.sinks.webhook import make_webhook


def test_a_webhook_gets_the_line_of_the_journal_its_id_and_a_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("sesame\n")
    with Web(lambda *_: 204) as web, recorder(tmp_path / "j") as book:
        chosen = settings(webhook={"url": f"http://127.0.0.1:{web.port}/in?k=v",
                                   "token_file": "token"})  # fmt: skip
        with running(chosen, tmp_path / "j", environ={"CREDENTIALS_DIRECTORY": str(tmp_path)}) as s:
            (name,) = hear(book, 3, 1)
            s.notify()
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
            sinks.notify()
            wait_for(lambda: sinks.status()["webhook"]["waiting"] == 0 and len(web.took) > 1)
            account = sinks.status()["webhook"]
            told = kinds(sinks.notices())
    assert web.took == (names[1:] if left_out else names)
    assert web.heard.count(names[0]) == (MOST_REFUSALS if left_out else 9)
    assert account["refused"] == int(left_out)
    assert ("sink-refused" in told) == left_out
    assert all(path == "/" for path, _, _ in web.requests)  # no redirect was followed


def test_an_address_that_is_none_of_the_web_is_one_sentence_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(EdgepruneError, match=r"is not an http:// or https:// address"):
        Sinks(settings(webhook={"url": "ftp://x"}), tmp_path, lambda _: None, environ={})


MESSAGE = {"id": "0123456789abcdef", "label": "Bébé"}


def post(url: str, seconds: float = 10.0) -> None:
    chosen = settings(webhook={"url": url, "timeout_seconds": seconds})
    make_webhook(chosen.webhook, Secret("")).send(MESSAGE)


def test_without_a_token_none_is_sent_and_the_text_is_as_it_was() -> None:
    with Web(lambda *_: 200) as web:
        post(f"http://127.0.0.1:{web.port}")
    ((_, headers, body),) = web.requests
    assert "Authorization" not in headers
    assert body == MESSAGE


@contextmanager
def garbage() -> Iterator[int]:
    """Answer one request, on the port that is given, with what is no HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"hello?\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        yield server.getsockname()[1]
        thread.join(30)


def test_why_nobody_took_a_message_is_said_without_the_path_that_may_be_a_secret() -> None:
    """Nobody there, no answer in time, an answer that is no success, one that is no HTTP."""
    with pytest.raises(NotSentError, match=r"cannot be reached: Connection refused$") as refused:
        post(f"http://127.0.0.1:{free_port()}/s3cret?k=s3cret")
    with Web(lambda *_: 5.0) as web, pytest.raises(NotSentError) as late:
        post(f"http://127.0.0.1:{web.port}/s3cret", 0.1)
    with (
        Web(lambda *_: 503) as web,
        pytest.raises(NotSentError, match=r"returned status 503$") as broken,
    ):
        post(f"http://127.0.0.1:{web.port}/s3cret")
    with garbage() as port, pytest.raises(NotSentError, match="did not respond") as silent:
        post(f"http://127.0.0.1:{port}/s3cret")
    for caught in (refused, late, broken, silent):
        assert "s3cret" not in str(caught.value)
        assert not caught.value.refused


def test_another_address_is_another_target() -> None:
    urls = ("http://a/1", "http://a/2", "https://a/1", "http://a:81/1")
    senders = [make_webhook(settings(webhook={"url": url}).webhook, Secret("")) for url in urls]
    assert len({sender.target for sender in senders}) == len(urls)
