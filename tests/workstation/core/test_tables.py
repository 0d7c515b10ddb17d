"""One table in its three renderings."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from edgeprune.core.tables import table, to_html, to_markdown, to_text

SHOWN = table(("file", "ms"), [("teacher", 120.5), ("student", 8)], title="Latency", main=1)
NASTY = table(("a|b", "<i>"), [("x|y", '<script>"&'), ("", "plain")], title="<b>&")


def test_text_aligns_the_first_column_left_and_the_others_right() -> None:
    assert to_text(SHOWN) == "\n".join(
        ["file        ms", "-------  -----", "teacher  120.5", "student      8"]
    )


def test_text_keeps_every_cell_as_it_is() -> None:
    lines = to_text(NASTY).splitlines()
    assert lines[2].split() == ["x|y", '<script>"&']
    assert lines[3].split() == ["plain"]


def test_markdown_is_a_pipe_table_with_numbers_to_the_right() -> None:
    assert to_markdown(SHOWN).splitlines() == [
        "| file | ms |", "| --- | ---: |", "| teacher | 120.5 |", "| student | 8 |",
    ]  # fmt: skip


def test_markdown_escapes_pipes_so_that_no_row_gains_a_column() -> None:
    for line in to_markdown(NASTY).splitlines():
        assert line.replace(r"\|", "").count("|") == 3
    assert r"| x\|y |" in to_markdown(NASTY)


def test_html_reads_back_as_the_cells_that_went_in() -> None:
    """An XML parser as the oracle: it undoes the escaping and rejects what is not balanced."""
    root = ET.fromstring(to_html(NASTY))
    assert root.findtext("caption") == "<b>&"
    assert [cell.text for cell in root.iter("th")] == ["a|b", "<i>"]
    rows = [[cell.text or "" for cell in row] for row in root.iterfind("tbody/tr")]
    assert rows == [["x|y", '<script>"&'], ["", "plain"]]


def test_html_marks_the_main_row_alone_and_leaves_out_an_empty_caption() -> None:
    rows = ET.fromstring(to_html(SHOWN)).findall("tbody/tr")
    assert [row.get("class") for row in rows] == [None, "main"]
    plain = ET.fromstring(to_html(table(("a",), [("b",)])))
    assert plain.find("caption") is None
    assert [row.get("class") for row in plain.iter("tr")] == [None, None]
