"""Predictions: a window at a time, as text, and as a table that shows any label as it is."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest

from edgeprune_device.inference.predictions import Prediction, Predictions

FOUND = Predictions(
    ("robin", "<b>wren</b>"), np.array([[0.75, 0.25], [0.0625, 0.9375]], np.float32),
    np.array([0.0, 1.5]), 3.0,
)  # fmt: skip
SPELT = Predictions(
    ("<pad>", "a", "b", "|"),
    np.eye(4, dtype=np.float32)[[[1, 1, 0, 1, 3, 2], [0, 0, 0, 0, 0, 0]]] * np.float32(0.5),
    np.array([0.0, 1.0]), 1.0, "characters",
)  # fmt: skip


def test_iterating_gives_each_window_with_its_best_label() -> None:
    assert len(FOUND) == 2
    assert list(FOUND) == [
        Prediction(0.0, 3.0, "robin", 0.75), Prediction(1.5, 4.5, "<b>wren</b>", 0.9375),
    ]  # fmt: skip


def test_a_window_is_taken_by_its_number_as_from_a_list() -> None:
    assert FOUND[1] == FOUND[-1] == Prediction(1.5, 4.5, "<b>wren</b>", 0.9375)
    assert SPELT[0].label == "aa b"
    with pytest.raises(IndexError):
        FOUND[2]
    with pytest.raises(TypeError):
        FOUND[:2]  # type: ignore[index]


def test_of_a_recognition_model_the_label_is_the_transcript() -> None:
    """Path a a - a | b: repeats are merged, blanks left out; a window of blanks says nothing."""
    assert list(SPELT) == [Prediction(0.0, 1.0, "aa b", 0.5), Prediction(1.0, 2.0, "", 0.0)]


def test_text_has_a_line_for_each_window() -> None:
    assert str(FOUND).splitlines() == ["     0.00 s  0.75  robin", "     1.50 s  0.94  <b>wren</b>"]
    assert str(replace(FOUND, scores=FOUND.scores[:0], start_seconds=FOUND.start_seconds[:0])) == ""


def test_text_of_many_windows_has_the_first_and_the_last_and_says_how_many_are_between() -> None:
    many = replace(
        FOUND,
        scores=np.tile(FOUND.scores[:1], (45, 1)),
        start_seconds=1.5 * np.arange(45, dtype=np.float64),
    )
    lines = str(many).splitlines()
    assert len(lines) == 21
    assert lines[10] == "... 25 more windows ..."
    assert (lines[9], lines[11]) == ("    13.50 s  0.75  robin", "    52.50 s  0.75  robin")


def test_a_notebook_shows_labels_as_they_are_and_not_as_markup() -> None:
    html = FOUND._repr_html_()
    cells = [unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", html)]
    assert cells == ["0.00", "robin", "0.75", "1.50", "<b>wren</b>", "0.94"]
    assert "<b>" not in html
    assert "more windows" not in html


@pytest.mark.parametrize(
    ("windows", "rows", "more"), [(20, 20, ""), (23, 20, "and 3 more windows")]
)
def test_a_notebook_shows_the_first_windows_and_how_many_there_are_more(
    windows: int, rows: int, more: str
) -> None:
    scores = np.tile(np.array([[1, 0]], np.float32), (windows, 1))
    html = Predictions(("a", "b"), scores, np.arange(windows, dtype=float), 1.0)._repr_html_()
    assert html.count("<tr><td>") == rows
    assert ("".join(re.findall(r"<p>(.*?)</p>", html))) == more
