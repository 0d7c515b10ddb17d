"""What a person sees: lines, a bar, and numbers in words."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator

import pytest
from fake_ipython import fake_ipython

from edgeprune.core.console import (
    Silent,
    Terminal,
    default_ui,
    duration,
    format_percent,
    format_percentage_points,
    layer_list,
)
from edgeprune.core.notebook import Notebook


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def screen(monkeypatch: pytest.MonkeyPatch) -> Tty:
    """Have standard error be a terminal of 100 columns, from here to the test's end."""
    shown = Tty()
    monkeypatch.setattr("sys.stderr", shown)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm-256color")
    return shown


def plain(shown: Tty) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.getvalue())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0.0 s"), (3.24, "3.2 s"), (59.94, "59.9 s"), (60.0, "1 min 00 s"), (245.4, "4 min 05 s"),
     (3599.4, "59 min 59 s"), (3600.0, "1 h 00 min"), (4321.0, "1 h 12 min"), (90000.0, "25 h 00 min")],
)  # fmt: skip
def test_time_is_told_as_a_person_would(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_shares_are_percentages_and_differences_are_percentage_points() -> None:
    assert [format_percent(share) for share in (1.0, 0.12345, 0.0)] == [
        "100.0 %",
        "12.3 %",
        "0.0 %",
    ]
    assert [format_percentage_points(share) for share in (0.01, 0.025, 0.0, 0.1)] == [
        "1 percentage point", "2.5 percentage points", "0 percentage points",
        "10 percentage points",
    ]  # fmt: skip


def test_without_a_terminal_lines_are_all_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    ui = Terminal()
    passed = []
    for item in ui.track("abc", "work", 3):
        ui.note("loss 0.1")
        ui.say(f"did {item}")
        passed.append(item)
    out, err = capsys.readouterr()
    assert passed == ["a", "b", "c"]
    assert (out, err) == ("", "did a\ndid b\ndid c\n")


def test_a_terminal_shows_a_bar_its_note_and_lines_above_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = screen(monkeypatch)
    ui = Terminal()
    for item in ui.track(range(7), "epoch 1", 7):
        ui.note("valid 0.[bold]")
        ui.say(f"[red]did {item}")
    text = plain(shown)
    assert "epoch 1" in text
    assert "7/7" in text or "6/7" in text
    assert [line for line in text.splitlines() if line.strip() == "[red]did 3"], "no markup"
    ui.say("after")
    assert shown.getvalue().endswith("after\n")


def test_a_bar_within_a_bar_passes_its_items_on_and_leaves_the_outer_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = screen(monkeypatch)
    ui = Terminal()
    seen = [(x, y) for x in ui.track("ab", "outer", 2) for y in ui.track("cd", "inner", 2)]
    assert seen == [("a", "c"), ("a", "d"), ("b", "c"), ("b", "d")]
    assert "outer" in plain(shown)
    assert "inner" not in plain(shown)


def test_after_work_that_failed_lines_are_plain_again(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = screen(monkeypatch)
    ui = Terminal()

    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        list(ui.track(broken(), "work", 2))
    ui.say("next")
    assert shown.getvalue().endswith("next\n")
    assert list(ui.track([1], "again", 1)) == [1]
    assert "again" in plain(shown), "and the next work has a bar of its own"


def test_silence_passes_everything_on(capsys: pytest.CaptureFixture[str]) -> None:
    ui = Silent()
    ui.say("x")
    ui.note("y")
    assert list(ui.track([3, 1], "work", 2)) == [3, 1]
    assert capsys.readouterr() == ("", "")


def test_progress_is_the_terminals_unless_a_notebook_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert isinstance(default_ui(), Terminal)
    with fake_ipython("TerminalInteractiveShell"):
        assert isinstance(default_ui(), Terminal)
    with fake_ipython("ZMQInteractiveShell"):
        assert isinstance(default_ui(), Notebook)


@pytest.mark.parametrize(
    ("layers", "text"),
    [([0, 1, 2, 3, 8, 10, 11], "0-3, 8, 10-11"), ([5], "5"), ([], ""), ([0, 2], "0, 2")],
)
def test_layers_are_listed_as_ranges(layers: list[int], text: str) -> None:
    assert layer_list(layers) == text
