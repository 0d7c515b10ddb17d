"""Doctor as it is run: a real microphone, disk, database, broker and web server, and what it writes."""

from __future__ import annotations

import json
import subprocess
import sys
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
from edgeprune_device.doctor.probe import Failure
from edgeprune_device.doctor.runner import FILE, doctor, schedule_said
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.settings import Settings
from edgeprune_device.settings_reader import build_settings

QUIET: list[str] = []


def run(pulse: Pulse, *arguments: str) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run(
        [sys.executable, "-m", "edgeprune.cli", "doctor", "--json", *arguments],
        env=pulse.environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    found = json.loads(done.stdout) if done.stdout else {}
    return done.returncode, {row["name"]: row for row in found.get("rows", [])}, done.stderr


@pytest.mark.slow
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


def test_a_schedule_is_told_for_now_and_one_that_never_records_is_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    noon = datetime(2025, 6, 21, 12, tzinfo=UTC)

    def said(**entries: Any) -> Any:
        return schedule_said(build_settings({"schedule": entries}, "r.toml"), noon)

    assert said() is None
    assert said(listen=["05:00-09:00"]) == ("It is paused now, until 2025-06-22 05:00.",)
    assert said(quiet=["18:00-20:00"]) == ("It records now, until 2025-06-21 18:00.",)
    never = said(listen=["05:00-09:00"], quiet=["00:00-24:00"])
    assert isinstance(never, Failure)
    assert isinstance(said(listen=["soon"]), Failure)
    north = said(listen=["sunrise..sunset"], latitude=69.65, longitude=18.96)
    assert "the sun stays above the horizon" in north[1]


def test_without_recording_it_is_quick_and_every_row_has_its_sentence(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "TIMED_SECONDS", 0.1)
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
