"""``listen`` and ``devices``: the settings file, what goes over it, and the two lines at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command_line import Work, call, replace_work

STATS: dict[str, Any] = {
    "sample_rate": 16000, "detections": {"owl": 2, "wren": 1}, "reason": "end of file",
    "coverage": {"analysed": {"": 32000}, "dropped": {"load": 16000}}, "journal": "journal",
}  # fmt: skip


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    return replace_work(monkeypatch, "edgeprune_device.recorder.listen.listen", STATS)


def test_options_go_over_the_settings_file(
    monkeypatch: pytest.MonkeyPatch, work: Work, tmp_path: Path
) -> None:
    (tmp_path / "recorder.toml").write_text("[decide]\nthreshold = 0.3\nhop_seconds = 0.5\n")
    assert call(
        monkeypatch, "listen", "bundle", "--settings", tmp_path / "recorder.toml", "--threshold", 0.7,
        "--device", "usb:1", "--clips", "--threads", 2, "-o", "j",
    ) == 0  # fmt: skip
    bundle, out, settings = work.given
    assert (bundle, out) == (Path("bundle"), Path("j"))
    assert (settings.decide.threshold, settings.decide.hop_seconds) == (0.7, 0.5)
    assert (settings.audio.device, settings.clips.save, settings.operate.threads) == (
        "usb:1",
        True,
        2,
    )
    assert work.named["source"] == "microphone"


@pytest.mark.parametrize(
    ("options", "source"), [(["--from-wav", "a.wav"], "wav"), (["--stdin"], "stdin")]
)
def test_the_source_is_what_was_named(
    options: list[str], source: str, monkeypatch: pytest.MonkeyPatch, work: Work
) -> None:
    assert call(monkeypatch, "listen", "bundle", *options) == 0
    assert work.named["source"] == source


def test_a_file_and_standard_input_together_are_refused(
    monkeypatch: pytest.MonkeyPatch, work: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "listen", "bundle", "--from-wav", "a.wav", "--stdin") == 2
    assert "Both --from-wav and --stdin" in capsys.readouterr().err
    assert not work.given


def test_a_session_ends_with_what_became_of_its_seconds(
    monkeypatch: pytest.MonkeyPatch, work: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "listen", "bundle") == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "end of file: 2.0 s analysed, 1.0 s dropped; 3 detections in journal."


def test_devices_prints_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_work(monkeypatch, "edgeprune_device.audio.devices.list_devices_in_child", [])
    assert call(monkeypatch, "devices") == 0
    assert capsys.readouterr().out == "No input was found; plug in a microphone.\n"
