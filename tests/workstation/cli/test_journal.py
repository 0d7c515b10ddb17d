"""``export`` and ``coverage``: which detections are wanted, and what is printed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from command_line import call, replace_work


def test_export_takes_labels_times_and_a_least_score(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work = replace_work(monkeypatch, "edgeprune_device.journal.export.export", 7)
    assert call(monkeypatch, "export", "journal", "-o", "a.csv", "--label", "owl", "--label", "wren",
                "--since", "2026-05-01", "--min-score", 0.5) == 0  # fmt: skip
    journal, out, wanted = work.given
    assert (journal, out) == (Path("journal"), Path("a.csv"))
    assert wanted.labels == ("owl", "wren")
    assert datetime(2026, 5, 1, tzinfo=UTC) == wanted.since
    assert wanted.until is None
    assert wanted.least_score == 0.5
    assert capsys.readouterr().out == "7 detections in a.csv\n"


def test_coverage_prints_its_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_work(
        monkeypatch, "edgeprune_device.journal.coverage_report.coverage", {"text": "a table"}
    )
    assert call(monkeypatch, "coverage", "journal") == 0
    assert capsys.readouterr().out == "a table\n"
