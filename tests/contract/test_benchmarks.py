"""The benchmark of every way of making a model smaller, on a tiny teacher: it ends in its table."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from repository import ROOT
from tiny_models import make_model
from tiny_recordings import TONES

from edgeprune.core.settings import STEPS
from edgeprune.models import loading

PROGRAM = ROOT / "benchmarks" / "compression.py"


@pytest.fixture
def compression(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Give the program; the step that it adds is gone afterwards."""
    known = dict(STEPS)
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location("compression", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    STEPS.clear()
    STEPS.update(known)


def test_every_row_is_a_recipe_and_none_is_forgotten_in_its_own_words(
    compression: ModuleType,
) -> None:
    from edgeprune.core.recipe import build_settings

    for source, recipe in compression.ROWS.values():
        assert source in ("teacher", "pretrained", "scratch")
        build_settings(recipe)
    folders = {compression.folder_of(name) for name in compression.ROWS}
    assert len(folders) == len(compression.ROWS)


@pytest.mark.parametrize("family", ["kwt", "wav2vec2"])
def test_a_model_from_scratch_holds_nothing_that_was_learnt(
    compression: ModuleType, family: str, tmp_path: Path
) -> None:
    source = make_model(tmp_path / "trained", family, tuple(TONES))
    compression.make_scratch(source, tuple(TONES), tmp_path / "scratch")
    old, new = (loading.load_model(str(tmp_path / name)) for name in ("trained", "scratch"))
    before = dict(old.named_parameters())
    for name, weight in new.named_parameters():
        assert weight.numel() == 1 or weight.std() == 0 or not torch.equal(weight, before[name]), (
            name
        )


@pytest.mark.slow
def test_the_program_ends_in_its_table(
    compression: ModuleType, recordings: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    short = {"steps": ["mimic"], "mimic": {"epochs": 1, "label_epochs": 1, "width": 8},
             "distill": {"epochs": 0, "label_epochs": 0}}  # fmt: skip
    model = make_model(tmp_path / "teacher", "wav2vec2", tuple(sorted(TONES)))
    monkeypatch.setattr(compression, "WORDS", model)
    monkeypatch.setattr(compression, "ARABIC", recordings)
    monkeypatch.setattr(compression, "ROWS", {"mimic 1": ("teacher", short)})
    out, results = tmp_path / "runs", tmp_path / "results"
    monkeypatch.setattr(
        sys,
        "argv",
        ["compression.py", "w2v2", "-o", str(out), "--results", str(results), "--seeds", "1"],
    )
    compression.main()
    (found,) = results.glob("compression-w2v2-*.json")
    rows = json.loads(found.read_text("utf-8"))["rows"]
    assert list(rows) == ["teacher", "mimic 1"]
    assert rows["mimic 1"]["macs"][0] < rows["teacher"]["macs"]
    assert "| mimic 1 |" in capfd.readouterr().out


@pytest.mark.slow
def test_what_overlapping_windows_cost_is_measured_at_every_hop(
    kwt_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    spec = importlib.util.spec_from_file_location("overlaps", PROGRAM.with_name("incremental.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    given = ["--shared", str(kwt_folder.parents[1]), "--results", str(tmp_path), "--windows", "4"]
    monkeypatch.setattr(sys, "argv", ["incremental.py", *given, "--only", "KWT-1"])
    module.main()
    (found,) = tmp_path.glob("incremental-*.json")
    rows = json.loads(found.read_text("utf-8"))["rows"]
    assert [row["windows_a_hop"] for row in rows] == [1, 2, 4, 8, 16] * 2
    cut = [row for row in rows if "difference" in row]
    assert len(cut) == 8
    assert all(row["difference"] <= 1e-4 for row in cut)
    assert "| KWT-1 | none | 1/16 (0.06 s) |" in capfd.readouterr().out
