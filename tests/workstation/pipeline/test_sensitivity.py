"""What edgeprune sensitivity runs, writes and says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_models import make_model
from tiny_recordings import TONES
from typer.testing import CliRunner

from edgeprune.cli.app import app
from edgeprune.core.console import Silent
from edgeprune.pipeline.sensitivity import (
    HEADS,
    as_markdown,
    cells_of,
    choice_text,
    run,
    summary_text,
)
from edgeprune_device.errors import EdgepruneError

LABELS = tuple(sorted(TONES))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_model(tmp_path / "model", "unispeech-sat", LABELS, layers=1)


ROW = {"unit": "block 0 attention", "loss": 0.0125, "agreement": 0.975, "divergence": 0.00123,
       "saved_agreement": None, "saved_divergence": None, "gain_ms": 0.5}  # fmt: skip
DONE: dict[str, Any] = {
    "activations": "rows", "clips": 6, "metric": "accuracy", "score": 0.9, "int8_loss": 0.04,
    "int8_agreement": 0.95, "int8_divergence": 0.1, "float_ms": 20.0, "int8_ms": 10.0,
    "most_lost": 0.005, "float": [], "rows": [ROW],
}  # fmt: skip


def test_a_row_has_a_cell_for_every_head_and_none_for_what_was_not_measured() -> None:
    assert dict(zip(HEADS, cells_of(ROW), strict=True)) == {
        "unit": "block 0 attention", "loss pp": "1.25", "agree %": "97.50", "KL": "1.2e-03",
        "gain %": "", "KL gain": "", "ms saved": "0.50",
    }  # fmt: skip
    reversed_ = cells_of(ROW | {"saved_agreement": 0.02, "saved_divergence": 0.0005})
    assert reversed_[4:6] == ("2.00", "5.0e-04")


def test_the_page_is_a_summary_a_table_and_the_choice() -> None:
    lines = as_markdown(DONE).splitlines()
    assert lines[0] == summary_text(DONE)
    assert "accuracy 90.0 % in float, 4.00 percentage points less in int8" in lines[0]
    assert "20.0 -> 10.0 ms" in lines[0]
    assert [line.count("|") for line in lines[2:5]] == [len(HEADS) + 1] * 3
    assert lines[-2 if not lines[-1] else -1] == choice_text(DONE)


def test_what_is_to_stay_in_float_is_named() -> None:
    assert (
        choice_text(DONE) == "For a loss of at most 0.5 percentage points, all units can be int8."
    )
    chosen = choice_text(DONE | {"float": ["head", "front end"]})
    assert chosen == "For a loss of at most 0.5 percentage points, keep in float: head, front end."


def test_the_command_writes_the_table_and_prints_json(
    folder: Path, recordings: Path, tmp_path: Path
) -> None:
    asked = ["sensitivity", str(folder), str(recordings), "-o", str(tmp_path / "out"), "--clips",
             "6", "--quick", "--json", "--label", "label"]  # fmt: skip
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout)
    assert shown == json.loads((tmp_path / "out/sensitivity.json").read_text("utf-8"))
    assert shown["clips"] == 6
    text = (tmp_path / "out/sensitivity.md").read_text("utf-8")
    assert all(f"| {line['unit']} |" in text for line in shown["rows"])
    table = CliRunner().invoke(app, [x for x in asked if x != "--json"])
    assert "block 0 attention" in table.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [({"activations": "columns"}, "activations = 'columns' is not known"), ({"clips": 0}, "--clips from 1"),
     ({"most_lost": -0.1}, "--most-lost from 0")],
)  # fmt: skip
def test_bad_options_are_one_sentence(
    folder: Path, recordings: Path, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    asked: dict[str, Any] = {
        "label": "label", "activations": "rows", "clips": 6, "most_lost": 0.005, "reverse": False,
    }  # fmt: skip
    with pytest.raises(EdgepruneError, match=said):
        run(str(folder), recordings, tmp_path / "out", ui=Silent(), **{**asked, **options})
    assert not (tmp_path / "out").exists()


def test_a_model_that_does_not_know_the_labels_is_refused(recordings: Path, tmp_path: Path) -> None:
    other = make_model(tmp_path / "other", "unispeech-sat", ("a", "b"))
    done = CliRunner().invoke(
        app,
        [
            "sensitivity",
            str(other),
            str(recordings),
            "-o",
            str(tmp_path / "out"),
            "--label",
            "label",
        ],
    )
    assert "no output for" in str(done.exception)
