"""``calibrate`` and the group ``calibration``: options become one call each."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import call, replace_work


def test_select_takes_its_rule_and_its_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    work = replace_work(monkeypatch, "edgeprune_calibration.select_clips.select", {"text": ""})
    assert call(monkeypatch, "calibration", "select", "clips.csv", "-o", "set", "--count", 50,
                "--noise", "night", "--noise-share", 0.5, "--rule", "farthest") == 0  # fmt: skip
    assert work.given == (Path("clips.csv"), 50, Path("set"))
    assert (work.named["noise"], work.named["noise_share"]) == (Path("night"), 0.5)
    assert work.named["rule"] == "farthest"


def test_record_says_how_many_there_are_and_that_some_are_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = {"clips": 12, "taken": 5, "reason": "enough", "silent": 2}
    work = replace_work(monkeypatch, "edgeprune_calibration.record_clips.record", done)
    assert call(monkeypatch, "calibration", "record", "-o", "night", "--clips", 12, "--seconds", 2,
                "--every", 60, "--format", "wav") == 0  # fmt: skip
    plan = work.given[1]
    assert (plan.clips, plan.clip_seconds, plan.every_seconds) == (12, 2.0, 60.0)
    assert plan.format == "wav"
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "12 clips in night (5 now; ended: enough)"
    assert said[1].startswith("2 of them are silent")


def test_audit_compares_windows_of_a_length(monkeypatch: pytest.MonkeyPatch) -> None:
    work = replace_work(monkeypatch, "edgeprune_calibration.drift_audit.audit", {"text": ""})
    assert call(monkeypatch, "calibration", "audit", "set.csv", "journal", "--window", 3) == 0
    assert work.given == (Path("set.csv"), Path("journal"))
    assert work.named["seconds"] == 3.0


def test_calibrate_takes_several_recordings_and_their_truths(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work = replace_work(monkeypatch, "edgeprune_calibration.calibrate.calibrate", {"text": ""})
    assert call(monkeypatch, "calibrate", "bundle", "a.wav", "b.wav", "--truth", "a.csv", "--truth",
                "b.csv", "--false-alarms-per-hour", 2, "--no-temperature", "-o", "out") == 0  # fmt: skip
    bundle, recordings, truths, out, target = work.given
    assert (bundle, out) == (Path("bundle"), Path("out"))
    assert [str(path) for path in recordings] == ["a.wav", "b.wav"]
    assert [str(path) for path in truths] == ["a.csv", "b.csv"]
    assert (target.false_alarms_per_hour, work.named["temperature"]) == (2.0, False)
