"""``bench``: what is measured, and what a comparison's status is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command_line import Work, call, replace_work


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    replace_work(monkeypatch, "edgeprune_device.bench.report.terminal_text", "")
    return replace_work(
        monkeypatch, "edgeprune_device.bench.runner.bench", {"comparisons": ["first"]}
    )


def test_options_become_what_is_measured(monkeypatch: pytest.MonkeyPatch, work: Work) -> None:
    assert call(monkeypatch, "bench", "a", "b", "-o", "out", "--threads", "1,4", "--watts",
                "2.5,4", "--sustained", 2, "--paced", "--against", "status.json") == 0  # fmt: skip
    assert work.given == ([Path("a"), Path("b")], Path("out"))
    assert work.named["threads"] == (1, 4)
    options = work.named["options"]
    assert (options.watts, options.sustained_minutes, options.paced) == ((2.5, 4.0), 2.0, True)
    assert options.earlier == (Path("status.json"),)
    assert options.command.startswith("edgeprune bench a b")


def test_a_gate_is_asked_about_the_baseline(monkeypatch: pytest.MonkeyPatch, work: Work) -> None:
    gate = replace_work(monkeypatch, "edgeprune_device.bench.compare.check_gate")
    assert call(monkeypatch, "bench", "a", "--baseline", "b.json", "--fail-over", 5) == 0
    assert gate.given == ("first", 5.0)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--threads", "one"], "'one' is not a list of whole numbers"),
        (["--watts", "2"], "'2' is not two numbers"),
        (["--fail-over", "5"], "--fail-over needs something to compare with"),
        (["--baseline", "b.json", "--fail-over", "-1"], "--fail-over -1"),
    ],
)
def test_options_that_cannot_be_are_refused_before_any_work(
    options: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, work: Work,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert call(monkeypatch, "bench", "a", *options) == 2
    assert sentence in capsys.readouterr().err
    assert not work.given


def test_json_has_everything_and_no_table(
    monkeypatch: pytest.MonkeyPatch, work: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: Any = {"comparisons": [], "text": "a table"}
    work.result = shown
    assert call(monkeypatch, "bench", "a", "--json") == 0
    assert capsys.readouterr().out == '{\n "comparisons": []\n}\n'
