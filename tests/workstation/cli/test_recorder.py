"""``status``, ``service`` and ``doctor``: a status of the program says whether all is well."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import call, replace_work


@pytest.mark.parametrize(("fine", "status"), [(True, 0), (False, 1)])
def test_status_is_1_where_a_recorder_is_not_well(
    fine: bool, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict = SimpleNamespace(
        state="running" if fine else "dead", text="", fine=fine, age_seconds=1
    )
    replace_work(monkeypatch, "edgeprune_device.monitoring.status.read_status", {})
    replace_work(monkeypatch, "edgeprune_device.monitoring.status.judge", verdict)
    replace_work(monkeypatch, "edgeprune_device.monitoring.status_text.screen", "running")
    assert call(monkeypatch, "status", "journal") == status


@pytest.mark.parametrize(("problems", "status"), [(0, 0), (2, 1)])
def test_doctor_is_1_where_there_is_a_problem(
    problems: int, status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    found: dict[str, Any] = {"text": "rows", "fine": not problems, "counts": {"problem": problems}}
    work = replace_work(monkeypatch, "edgeprune_device.doctor.runner.doctor", found)
    wrote = replace_work(monkeypatch, "edgeprune_device.doctor.runner.write")
    assert call(monkeypatch, "doctor", "--device", "usb:1", "-o", tmp_path) == status
    assert work.given[1].audio.device == "usb:1"
    assert wrote.given == (found, tmp_path)
    said = capsys.readouterr()
    assert said.out == "rows\n"
    assert ("2 problems were found" in said.err) == bool(problems)


def test_service_prints_the_unit_of_a_bundle(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "service", tiny_bundle, "-o", "/var/lib/edgeprune/journal") == 0
    unit = capsys.readouterr().out
    assert "[Service]" in unit
    assert "-m edgeprune.cli listen" in unit
    assert str(tiny_bundle) in unit
