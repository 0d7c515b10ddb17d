"""How a result is printed: its text for people, or all but that as JSON."""

from __future__ import annotations

import json

import pytest

from edgeprune.cli.options import print_done


def test_people_get_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_done({"value": 1, "text": "one"}, "one", as_json=False)
    assert capsys.readouterr().out == "one\n"


def test_programs_get_everything_but_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_done({"value": 1, "text": "one"}, "one", as_json=True)
    assert json.loads(capsys.readouterr().out) == {"value": 1}


def test_nothing_to_say_prints_no_empty_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_done({}, "", as_json=False)
    assert capsys.readouterr().out == ""
