"""The command: what a program gets, what its exit status means, and how it is ended."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
from receivers import (
    hear,
    recorder,
    wait_for,
)
from running_sinks import running, settings

from edgeprune_device.sinks.command import make_command
from edgeprune_device.sinks.delivery import MOST_REFUSALS
from edgeprune_device.sinks.sender import NotSentError, Sender


def script(folder: Path, text: str) -> list[str]:
    (folder / "program.py").write_text(text)
    return [sys.executable, str(folder / "program.py"), str(folder)]


def test_a_command_gets_the_detection_on_standard_input_and_no_shell(tmp_path: Path) -> None:
    keep = "import sys; open(sys.argv[1] + '/got', 'a').write(sys.stdin.read()); sys.exit(sys.argv[2] != '$HOME')"  # noqa: E501
    chosen = settings(command={"run": [*script(tmp_path, keep), "$HOME"]})
    with recorder(tmp_path / "j") as book, running(chosen, tmp_path / "j") as sinks:
        names = hear(book, 0, 3, "wren; rm -rf $HOME")
        sinks.notify()
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
        sinks.notify()
        wait_for(lambda: sinks.status()["command"]["sent"] == 2)
    tried = (tmp_path / "got").read_text("utf-8").split()
    assert tried == again * 8 + never * MOST_REFUSALS + good
    assert sinks.status()["command"]["refused"] == 1


def test_a_command_that_hangs_is_ended_with_all_it_has_started(tmp_path: Path) -> None:
    run = ["sh", "-c", f"sleep 600 & echo $! >> {tmp_path}/pids; wait"]
    chosen = settings(command={"run": run, "timeout_seconds": 1.0})
    with recorder(tmp_path / "j") as book, running(chosen, tmp_path / "j") as sinks:
        hear(book, 0, 1)
        sinks.notify()
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


def sender(*run: str, environ: Mapping[str, str] | None = None, seconds: float = 30.0) -> Sender:
    chosen = settings(command={"run": list(run), "timeout_seconds": seconds})
    return make_command(chosen.command, os.environ if environ is None else environ)


def test_a_program_that_is_not_there_is_worth_another_try() -> None:
    with pytest.raises(NotSentError, match="/no/such/program cannot be started: No such") as caught:
        sender("/no/such/program").send({"id": "a"})
    assert not caught.value.refused


@pytest.mark.parametrize(("status", "refused"), [(75, False), (1, True), (126, True)])
def test_only_ex_tempfail_asks_for_another_try(status: int, refused: bool) -> None:
    with pytest.raises(NotSentError, match=f"ended with status {status}$") as caught:
        sender("sh", "-c", f"exit {status}").send({"id": "a"})
    assert caught.value.refused is refused


def test_a_program_sees_the_environment_it_is_given_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_RECORDER", "1")
    sender("/bin/sh", "-c", f"env > {tmp_path}/seen", environ={"GIVEN": "2"}).send({"id": "a"})
    seen = (tmp_path / "seen").read_text("utf-8").splitlines()
    assert "GIVEN=2" in seen
    assert not [line for line in seen if line.startswith("OF_THE_RECORDER")]


def test_closing_ends_the_program_that_runs_and_starts_no_other(tmp_path: Path) -> None:
    one = sender("sh", "-c", f"touch {tmp_path}/began; sleep 600")
    told: list[NotSentError] = []

    def send() -> None:
        with pytest.raises(NotSentError) as caught:
            one.send({"id": "a"})
        told.append(caught.value)

    thread = threading.Thread(target=send)
    thread.start()
    wait_for((tmp_path / "began").exists)
    one.close()
    thread.join(30)
    with pytest.raises(NotSentError) as after:
        one.send({"id": "b"})
    assert [str(error) for error in (*told, after.value)] == [
        "the recorder stopped it", "the recorder is stopping",
    ]  # fmt: skip
    assert not any(error.refused for error in (*told, after.value))
