"""``sensitivity``: percentage points become shares, and the table is printed or dumped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Work, call, replace_work

ROW = {"unit": "convolutions", "loss": 0.025, "agreement": 0.974, "divergence": 0.12, "gain_ms": 1.5,
       "saved_agreement": None, "saved_divergence": None}  # fmt: skip
DONE: dict[str, Any] = {
    "rows": [ROW], "activations": "rows", "clips": 20, "metric": "accuracy", "score": 0.95,
    "int8_loss": 0.03, "int8_agreement": 0.96, "int8_divergence": 0.2, "gain_ms": 2.0,
    "most_lost": 0.005, "float": ["convolutions"], "float_ms": 5.0, "int8_ms": 3.0,
}  # fmt: skip


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    return replace_work(monkeypatch, "edgeprune.pipeline.sensitivity.run", DONE)


def test_options_become_one_call(monkeypatch: pytest.MonkeyPatch, work: Work) -> None:
    assert call(monkeypatch, "sensitivity", "model", "clips.csv", "-o", "out", "--most-lost", 1,
                "--quick", "--json") == 0  # fmt: skip
    assert work.given == ("model", Path("clips.csv"), Path("out"))
    assert work.named["most_lost"] == pytest.approx(0.01)
    assert work.named["reverse"] is False


def test_json_is_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, work: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "sensitivity", "model", "clips", "-o", "out", "--json") == 0
    assert json.loads(capsys.readouterr().out) == DONE


def test_people_get_the_table(
    monkeypatch: pytest.MonkeyPatch, work: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "sensitivity", "model", "clips", "-o", "out") == 0
    said = capsys.readouterr().out
    assert "convolutions" in said
    assert "2.50" in said
