"""What a recorder is doing: whole on the disk, and told from one that is dead or hangs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from faults_table import Tally
from running_status import HOUR, RUNNING
from tries import tries
from typer.testing import CliRunner

from edgeprune.cli.app import app
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.monitoring.status import (
    DEGRADED,
    LISTENING,
    LOST,
    PAUSED,
    STATUS,
    STOPPED,
    Status,
    StatusFile,
    judge,
    overall,
    process_facts,
    read_status,
)


def test_it_is_written_whole_and_read_back(tmp_path: Path) -> None:
    file = StatusFile(tmp_path, {})
    assert file.write(RUNNING) == ""
    found = read_status(tmp_path)
    assert found["coverage"]["not captured"] == {"microphone lost": 2 * HOUR}
    assert found["pid"] == os.getpid()
    assert set(found["latency"]) >= {"n", "p50_ms", "p90_ms", "p99_ms", "mean_ms", "min_ms",
                                     "max_ms", "real_time_factor", "samples_ms"}  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == [STATUS]


def test_a_heartbeat_is_small() -> None:
    assert "samples_ms" in RUNNING.as_dict()["latency"]
    assert len(json.dumps(RUNNING.as_dict(samples=False))) < 2000


def test_in_a_service_it_lies_in_memory_and_the_journal_leads_there(tmp_path: Path) -> None:
    journal, run = tmp_path / "journal", tmp_path / "run"
    journal.mkdir()
    run.mkdir()
    assert StatusFile(journal, {}).write(RUNNING) == ""  # by hand, before: a file of its own
    file = StatusFile(journal, {"RUNTIME_DIRECTORY": f"{run}:/run/other"})
    assert file.write(replace(RUNNING, state=PAUSED)) == ""
    assert (run / STATUS).is_file()
    assert (journal / STATUS).readlink() == run / STATUS
    assert read_status(journal)["state"] == PAUSED
    (run / STATUS).unlink()  # the board was started anew
    with pytest.raises(EdgepruneError, match="has not run since the machine was booted"):
        read_status(journal)
    StatusFile(journal, {}).write(RUNNING)  # and by hand again
    assert read_status(journal)["state"] == LISTENING


def test_a_disk_that_takes_nothing_is_a_sentence_and_the_old_status_stays(tmp_path: Path) -> None:
    file = StatusFile(tmp_path, {})
    file.write(RUNNING)
    (tmp_path / (STATUS + ".partial")).mkdir()
    assert "cannot be written" in file.write(replace(RUNNING, state=PAUSED))
    assert read_status(tmp_path)["state"] == LISTENING


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 99}'])
def test_what_is_no_status_is_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / STATUS).write_text(content)
    with pytest.raises(EdgepruneError, match=r"status\.json"):
        read_status(tmp_path)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def told_by(process: subprocess.Popen[bytes], status: Status, at: float) -> dict[str, Any]:
    """Return a status as that process would have written it."""
    return status.as_dict() | process_facts(process.pid) | {"written_monotonic": at}


def test_a_recorder_that_was_killed_is_dead_at_once(sleeper: subprocess.Popen[bytes]) -> None:
    found = told_by(sleeper, RUNNING, 100.0)
    assert judge(found, 101.0).fine
    sleeper.send_signal(signal.SIGKILL)
    sleeper.wait()
    verdict = judge(found, 101.0)
    assert (verdict.state, verdict.fine) == ("dead", False)


def test_one_that_was_killed_and_not_yet_buried_is_dead_too() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        found = told_by(process, RUNNING, 100.0)
        process.kill()
        deadline = time.monotonic() + 5
        while judge(found, 101.0).state != "dead":
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_another_process_with_its_number_does_not_deceive(sleeper: subprocess.Popen[bytes]) -> None:
    found = told_by(sleeper, RUNNING, 100.0)
    found["process_started"] -= 1
    assert judge(found, 101.0).state == "dead"
    found = told_by(sleeper, RUNNING, 100.0) | {"boot": "another"}
    verdict = judge(found, 101.0)
    assert (verdict.state, verdict.age_seconds) == ("dead", None)


def test_one_without_an_update_for_three_heartbeats_hangs(sleeper: subprocess.Popen[bytes]) -> None:
    found = told_by(sleeper, replace(RUNNING, heartbeat_seconds=10.0), 100.0)
    assert judge(found, 129.0).fine
    verdict = judge(found, 131.0)
    assert verdict.state == "stale"
    assert "has not updated its status for 31 s" in verdict.text


def test_one_that_said_good_bye_was_stopped_and_is_not_dead(
    sleeper: subprocess.Popen[bytes],
) -> None:
    found = told_by(sleeper, replace(RUNNING, state=STOPPED, text="Ended by SIGTERM."), 100.0)
    sleeper.kill()
    sleeper.wait()
    verdict = judge(found, 101.0)
    assert (verdict.state, verdict.text, verdict.fine) == (STOPPED, "Ended by SIGTERM.", False)


def test_a_name_with_spaces_and_brackets_does_not_shift_the_fields(tmp_path: Path) -> None:
    (tmp_path / "proc/7").mkdir(parents=True)
    fields = " ".join(["S", *(str(n) for n in range(4, 60))])
    (tmp_path / "proc/7/stat").write_text(f"7 (a) b) {fields}")
    assert process_facts(7, tmp_path)["process_started"] == 22  # field 22 of proc(5)


def test_what_is_worst_is_the_state() -> None:
    assert overall(paused=False, lost=False, alarms={}) == LISTENING
    assert overall(paused=True, lost=False, alarms={}) == PAUSED
    assert overall(paused=True, lost=False, alarms={"x": "y"}) == DEGRADED
    assert overall(paused=True, lost=True, alarms={"x": "y"}) == LOST


def test_ctrl_c_ends_following_without_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    StatusFile(tmp_path, {}).write(RUNNING)
    monkeypatch.setattr("edgeprune.cli.recorder.time.sleep", interrupt)
    done = CliRunner().invoke(app, ["status", str(tmp_path), "--follow"])
    assert (done.exit_code, done.exception) == (0, None)
    assert "since      2026-05-01T04:12:00+00:00, written" in done.stdout


def test_the_command_ends_with_1_where_the_recorder_is_not_well(tmp_path: Path) -> None:
    runner = CliRunner()
    StatusFile(tmp_path, {}).write(RUNNING)
    fine = runner.invoke(app, ["status", str(tmp_path), "--json"])
    assert fine.exit_code == 0
    assert json.loads(fine.stdout)["fine"] is True
    StatusFile(tmp_path, {}).write(replace(RUNNING, state=DEGRADED, alarms={"dead": "Silent."}))
    bad = runner.invoke(app, ["status", str(tmp_path)])
    assert isinstance(bad.exception, EdgepruneError)
    assert bad.exception.status == 1
    assert "alarm      dead: Silent." in bad.stdout


@pytest.mark.fault("F1")
@tries(6, 20)
def test_a_reader_never_sees_half_a_status_however_its_writer_dies(
    tmp_path: Path, tries: int, tally: Tally
) -> None:
    """Six (twenty) SIGKILLs while it is written as fast as possible: each time it can be read whole."""
    code = (
        "import sys; from pathlib import Path\n"
        "from edgeprune_device.monitoring.status import Status, StatusFile\n"
        "file = StatusFile(Path(sys.argv[1]), {})\n"
        "file.write(Status('listening')); print('on', flush=True)\n"
        "while True:\n    file.write(Status('listening', text='x' * 20000))"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for attempt in range(tries):
        with subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, env=environ
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.005 * attempt)
            process.kill()
        assert read_status(tmp_path)["state"] == LISTENING
    tally(tries, 0, "status.json whole each time")
