"""``clips``, ``forget``, ``support``, ``install`` and ``rollback``: nothing is deleted unasked."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from command_line import Work, call, replace_work

CLIP = SimpleNamespace(locked=True)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    replace_work(monkeypatch, "edgeprune_device.clips.forget.to_forget", [CLIP])
    done = {"clips": 1, "detections": 0, "waiting": 0}
    return replace_work(monkeypatch, "edgeprune_device.clips.forget.forget", done)


@pytest.mark.parametrize("options", [[], ["--all", "--label", "owl"]])
def test_forget_must_be_told_which_clips(
    options: list[str], monkeypatch: pytest.MonkeyPatch, work: Work,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert call(monkeypatch, "forget", "journal", *options) == 2
    assert "Which clips?" in capsys.readouterr().err
    assert not work.given


def test_forget_asks_and_without_an_answer_deletes_nothing(
    monkeypatch: pytest.MonkeyPatch, work: Work
) -> None:
    asked = replace_work(monkeypatch, "typer.confirm", result=0)
    assert call(monkeypatch, "forget", "journal", "--all") == 1
    assert asked.given == ("Delete 1 clips (1 of them locked) for good?",)
    assert not work.given


def test_forget_with_yes_deletes_what_was_named(
    monkeypatch: pytest.MonkeyPatch, work: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "forget", "journal", "--label", "owl", "--rows", "--yes") == 0
    assert work.given[1].label == "owl"
    assert work.named == {"rows": True}
    assert capsys.readouterr().out.startswith("1 clips and 0 detections were deleted.")


def test_a_label_cannot_move_the_terminals_cursor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = {"utc": None, "score": 0.5, "locked": False, "id": "a", "label": "o\x1b[2Jwl",
            "path": "clips/a.flac"}  # fmt: skip
    replace_work(monkeypatch, "edgeprune_device.clips.forget.list_clips", [clip])
    assert call(monkeypatch, "clips", "journal") == 0
    assert "o?[2Jwl" in capsys.readouterr().out


def test_support_lists_what_is_in_the_archive(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = {"parts": {"settings.json": 1234}}
    work = replace_work(monkeypatch, "edgeprune_device.doctor.support_archive.support", done)
    assert call(monkeypatch, "support", "journal", "-o", "a.zip", "--with-place") == 0
    assert work.given[0].with_place
    assert capsys.readouterr().out.splitlines()[1] == "    1,234 bytes  settings.json"


def test_install_and_rollback_name_the_bundle_and_the_one_before(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = SimpleNamespace(name="b", changed=True, golden_difference=1e-7, previous="a")
    work = replace_work(monkeypatch, "edgeprune_device.inference.bundle_store.install", done)
    assert call(monkeypatch, "install", "b.zip", "store") == 0
    assert work.given == (Path("b.zip"), Path("store"))
    assert capsys.readouterr().out.startswith("b is current (golden outputs within 1e-07).")
    replace_work(monkeypatch, "edgeprune_device.inference.bundle_store.rollback", done)
    assert call(monkeypatch, "rollback", "store") == 0
    assert "b is current again" in capsys.readouterr().out
