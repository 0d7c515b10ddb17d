"""The demonstration's own part: which folder it takes, in which order it runs, what it tells."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeprune.core.console import Terminal
from edgeprune.core.recipe import build_settings
from edgeprune.pipeline import demo as module
from edgeprune.pipeline.demo import RECIPE, RECORD, SONGS, demo
from edgeprune_device.errors import EdgepruneError


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Stand in for all that takes minutes; returns what was called with what, in order."""
    called: list[tuple[str, Any]] = []

    def part(name: str, result: Any) -> Any:
        def work(*given: Any, **named: Any) -> Any:
            called.append((name, (given, named)))
            return result

        return work

    class Made:
        report = {"summary": {"teacher": {"score": 0.95}, "bundle": {"score": 0.94}}}  # noqa: RUF012

        def __str__(self) -> str:
            return "the table"

    heard = SimpleNamespace(hits=31, misses=9, false_alarms=2)
    stats = {"journal": "/out/journal.db", "captured_seconds": 240.0}
    for name, result in (
        ("make_recordings", Path("/out/labels.csv")), ("compress", Made()),
        ("verify", {"verdict": "It holds."}), ("bench", None), ("make_stream", Path("/out/truth.csv")),
        ("listen", stats), ("read_detections", []), ("read_truth", []), ("match", heard),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, part(name, result))
    return called


def test_five_parts_run_in_their_order_and_each_is_announced(
    parts: list[tuple[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo(tmp_path / "out", Terminal())
    assert [name for name, _ in parts][:6] == [
        "make_recordings", "compress", "verify", "bench", "make_stream", "listen",
    ]  # fmt: skip
    said = capsys.readouterr().err.splitlines()
    assert [line[:6] for line in said if " of 5  " in line] == [f"{n} of 5" for n in range(1, 6)]


def test_it_compresses_the_model_that_ships_with_its_own_recipe_and_measures_that_bundle(
    parts: list[tuple[str, Any]], tmp_path: Path
) -> None:
    demo(tmp_path / "out", Terminal())
    called = dict(parts)
    (model, labels, run, asked), _ = called["compress"]
    assert (Path(model), labels, run) == (
        module.MODEL,
        Path("/out/labels.csv"),
        tmp_path / "out/birds",
    )
    assert asked == build_settings(RECIPE)
    (bundle, _, teacher), _ = called["verify"]
    (benched, _), _ = called["bench"]
    (listened, journal), options = called["listen"]
    assert benched == (teacher, bundle)
    assert listened == bundle == tmp_path / "out/birds/bundle"
    assert journal.parent == tmp_path / "out/journal"
    assert options["from_wav"] == tmp_path / "out/stream.flac"


def test_what_it_found_is_told_in_words_and_numbers(
    parts: list[tuple[str, Any]], tmp_path: Path
) -> None:
    found = demo(tmp_path / "out", Terminal())
    assert (found["hits"], found["misses"], found["false_alarms"]) == (31, 9, 2)
    assert found["hits"] + found["misses"] == SONGS
    assert "31 of 40 songs were detected, with 2 false alarms." in found["text"]
    assert found["text"].startswith("the table\n\nIt holds.\n")
    json.dumps(found)


def test_a_demonstration_of_before_is_gone_on_with(
    parts: list[tuple[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()  # an empty folder is as good as none
    for _ in range(2):
        demo(tmp_path / "out", Terminal())
    assert json.loads((tmp_path / "out" / RECORD).read_text("utf-8")) == {"command": "demo"}
    assert len([name for name, _ in parts if name == "compress"]) == 2


@pytest.mark.parametrize("what", ["a file", "other files"])
def test_a_folder_of_something_else_is_refused_and_left_alone(
    what: str, parts: list[tuple[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    if what == "a file":
        out.write_text("mine", "utf-8")
    else:
        out.mkdir()
        (out / "mine.txt").write_text("mine", "utf-8")
    with pytest.raises(EdgepruneError, match="exists and holds no demonstration") as error:
        demo(out, Terminal())
    assert error.value.hint == "Choose another folder with -o."
    assert parts == []
    assert not (out / RECORD).exists()
