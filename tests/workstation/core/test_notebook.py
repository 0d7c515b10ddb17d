"""Progress in a notebook: one bar that moves in place, told apart from markup, and gone at the end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from fake_ipython import fake_ipython

from edgeprune.core.notebook import REFRESH_SECONDS, Notebook, bar_html, in_notebook


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Give a clock that a test sets: ``clock[0]`` is now."""
    now = [100.0]
    monkeypatch.setattr("edgeprune.core.notebook.time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_the_bar_tells_how_many_are_done_and_how_long_the_rest_takes() -> None:
    assert bar_html("teach", 0, 40, 0.0, "") == (
        '<progress value="0" max="40"></progress> teach 0/40 '
    )
    # ten of forty in 5 s: half a second each, so 15 s for the other thirty
    assert bar_html("teach", 10, 40, 5.0, "loss 0.3").endswith("teach 10/40, 15 s left loss 0.3")
    assert 'max="1"' in bar_html("nothing", 0, 0, 0.0, "")


def test_labels_and_notes_are_text_and_never_markup() -> None:
    page = bar_html("<b>&", 1, 2, 1.0, "<script>")
    assert "&lt;b&gt;&amp;" in page
    assert "&lt;script&gt;" in page


def test_one_bar_moves_in_place_and_is_gone_at_the_end(clock: list[float]) -> None:
    ui = Notebook()
    with fake_ipython() as shown:
        for item in ui.track(range(4), "work", 4):
            clock[0] += 1.0
            ui.note(f"item {item}")
    assert len(shown) == 1
    pages = shown[0].pages
    assert [f"{done}/4" in page for done, page in enumerate(pages[:-1])] == [True] * 5
    assert "item 2" in pages[3]
    assert pages[-1] == ""


def test_fast_items_do_not_each_move_the_bar_but_the_last_one_does(clock: list[float]) -> None:
    with fake_ipython() as shown:
        for _ in Notebook().track(range(95), "work", 95):
            clock[0] += REFRESH_SECONDS / 10 + 1e-9
    pages = shown[0].pages
    assert len(pages) == 1 + 9 + 1 + 1  # the empty bar, every tenth item, the last one, and nothing
    assert "95/95" in pages[-2]


def test_a_bar_within_a_bar_passes_its_items_on(clock: list[float]) -> None:
    ui = Notebook()
    with fake_ipython() as shown:
        seen = [(x, y) for x in ui.track("ab", "outer", 2) for y in ui.track("cd", "inner", 2)]
        assert seen == [("a", "c"), ("a", "d"), ("b", "c"), ("b", "d")]
        assert len(shown) == 1
        assert list(ui.track("e", "next", 1)) == ["e"]
        assert len(shown) == 2, "a new bar for what comes after"


def test_work_that_fails_takes_its_bar_with_it() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    ui = Notebook()
    with fake_ipython() as shown:
        with pytest.raises(ValueError, match="no more"):
            list(ui.track(broken(), "work", 2))
        assert shown[0].pages[-1] == ""
        assert list(ui.track([1], "again", 1)) == [1]


def test_lines_are_printed_below_the_cell(capsys: pytest.CaptureFixture[str]) -> None:
    Notebook().say("clips            3.2 s")
    assert capsys.readouterr().out == "clips            3.2 s\n"


@pytest.mark.parametrize(
    ("shell", "is_one"),
    [("ZMQInteractiveShell", True), ("TerminalInteractiveShell", False), (None, False)],
)
def test_only_a_kernels_shell_is_a_notebook(shell: str | None, is_one: bool) -> None:
    with fake_ipython(shell):
        assert in_notebook() is is_one


def test_without_ipython_this_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", None)  # as if it could not be imported
    assert in_notebook() is False
